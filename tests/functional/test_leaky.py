import torch

from functional.oracles import golden
from infohebb.functional.leaky import leaky_step


def test_networks_of_leaky_units_go_as_the_references_do():
    arrays = golden("../wmh/lif")
    n, k = int(arrays["N"]), float(arrays["dt"] / arrays["tau"])
    u = [torch.zeros(n, width, dtype=torch.float64) for width in arrays["layer_sizes"].tolist()[1:]]
    for t in range(25):
        z = arrays["X"][:n] if t < 15 else arrays["X"][1 : n + 1]
        for layer in range(3):
            W, b = (arrays[f"p0_LIFDenseCell_{layer}_{name}"] for name in ("kernel", "bias"))
            u[layer] = leaky_step(u[layer], z @ W + b, k)
            torch.testing.assert_close(u[layer], arrays[f"fwd_u{layer}"][t], rtol=1e-9, atol=1e-12)
            h = u[layer].relu()
            z = u[layer] if layer == 2 else torch.nn.functional.layer_norm(h, h.shape[1:], eps=1e-6)
            torch.testing.assert_close(z, arrays[f"fwd_z{layer}"][t], rtol=1e-9, atol=1e-12)
