"""The working-memory paper's reference code: single steps and short runs of its networks, number by number."""

import pytest
import torch

from functional.oracles import golden
from infohebb.networks import MLP, ConvNet, LeakyMLP, alone, side_by_side
from infohebb.rules import HSICBottleneck, HSICMemory

RULES = {"hsic": None, "biohsic_head": "head", "biohsic_pub": "pub", "head": "head", "pub": "pub"}


def close(ours, theirs, what):
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-9, atol=1e-12, msg=lambda text: f"{what}: {text}")


def rule_of(name, arrays):
    sigma_x, sigma_y, sigma_z = arrays["sigmas"].tolist()
    widths = {"gamma": float(arrays["gamma"]), "sigma_x": sigma_x, "sigma_y": sigma_y, "sigma_z": sigma_z}
    modulator = RULES[name]
    return HSICBottleneck(**widths) if modulator is None else HSICMemory(modulator, **widths)


def as_theirs(parameter):
    """Weights from (in, out) to (out, in), filters from (rows, columns, in, out) to (out, in, rows, columns)."""
    return parameter.T if parameter.dim() == 2 else parameter.permute(3, 2, 0, 1) if parameter.dim() == 4 else parameter


def layers(network):
    return [block for _, block in network.named_blocks()] + [network.readout]


def parameters(network, names):
    """Ours by their names, such as Dense_0_kernel."""
    found = {}
    for name, layer in zip(names, layers(network), strict=True):
        found |= {f"{name}_kernel": layer.weight, f"{name}_bias": layer.bias}
    return found


def load(network, arrays, names):
    for name, parameter in parameters(network, names).items():
        parameter.data.copy_(as_theirs(arrays[f"p0_{name}"]))


def optimizer_of(network, kind, arrays):
    if kind == "sgd":
        return torch.optim.SGD(network.parameters(), float(arrays["lr_sgd"]))
    return torch.optim.AdamW(network.parameters(), float(arrays["lr_adamw"]), betas=(0.9, 0.99), weight_decay=1e-4)


def images(X):
    return X.permute(0, 3, 1, 2) if X.dim() == 4 else X


def step(network, rule, optimizer, arrays, first, onset=True):
    """One window from `first`, and an update; its loss before that."""
    N = int(arrays["N"])
    X, Y = images(arrays["X"].double())[first : first + N], arrays["Y"][first : first + N].argmax(1)
    optimizer.zero_grad(set_to_none=True)
    seen = rule.learn(network, X, Y, onset=onset)
    optimizer.step()
    return seen.loss


def feed_forward(arrays):
    sizes = arrays["layer_sizes"].tolist()
    settings = {"nonlinearity": "relu", "norm": "layer", "norm_epsilon": 1e-6, "bias": True}
    network = MLP(sizes[0], sizes[-1], sizes[1:-1], **settings).double()
    names = [f"Dense_{place}" for place in range(len(sizes) - 1)]
    load(network, arrays, names)
    return network, names


@pytest.mark.parametrize("name", ["hsic", "biohsic_head", "biohsic_pub"])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("file", ["ff_one_hidden"])
def test_fully_connected_networks_learn_as_the_references(file, name, kind):
    arrays = golden(f"../wmh/{file}")
    network, names = feed_forward(arrays)
    rule = rule_of(name, arrays)
    rule.attach(network)
    optimizer = optimizer_of(network, kind, arrays)
    for first in range(4):
        close(step(network, rule, optimizer, arrays, first), arrays[f"loss_{name}_{kind}"][first], "loss")
        if first == 0:
            for key, parameter in parameters(network, names).items():
                close(parameter.grad, as_theirs(arrays[f"grad_{name}_{key}"]), key)
        if first in (0, 3):
            for key, parameter in parameters(network, names).items():
                close(parameter.detach(), as_theirs(arrays[f"p{first + 1}_{name}_{kind}_{key}"]), key)


def test_the_objective_is_the_references():
    arrays = golden("../wmh/ff_one_hidden")
    network, _ = feed_forward(arrays)
    sigmas = dict(zip(("sigma_x", "sigma_y", "sigma_z"), arrays["sigmas"].tolist(), strict=True))
    for rule in (
        HSICMemory(gamma=float(arrays["gamma"]), objective=True, **sigmas),
        HSICBottleneck(gamma=float(arrays["gamma"]), **sigmas),
    ):
        rule.attach(network)
        seen = rule.learn(network, arrays["X"][:6].double(), arrays["Y"][:6].argmax(1))
        close(seen.objectives["blocks.0"]["objective"], arrays["obj_dense_0"][0], "objective")


@pytest.mark.parametrize("name", ["hsic", "biohsic_head", "biohsic_pub"])
def test_convolutional_networks_learn_as_the_references(name):
    arrays = golden("../wmh/cnn_two_conv")
    settings = {"nonlinearity": "relu", "norm": "layer", "norm_epsilon": 1e-6, "bias": True, "pooling": "average"}
    network = ConvNet((2, 8, 8), 3, (3, 4), (1, 2), (), **settings).double()
    names = ["Conv_0", "Conv_1", "Dense_0"]
    for key, parameter in parameters(network, names).items():
        parameter.data.copy_(flattened_as_ours(as_theirs(arrays[f"p0_{key}"]), key))
    rule = rule_of(name, arrays)
    rule.attach(network)
    optimizer = optimizer_of(network, "sgd", arrays)
    for first in range(2):
        close(step(network, rule, optimizer, arrays, first), arrays[f"loss{first}_{name}"], "loss")
        for key, parameter in parameters(network, names).items():
            theirs = flattened_as_ours(as_theirs(arrays[f"p{first + 1}_{name}_sgd_{key}"]), key)
            close(parameter.detach(), theirs, key)


def flattened_as_ours(weight, key):
    """Their readout takes maps flattened (rows, columns, channels), ours (channels, rows, columns)."""
    return weight.view(3, 2, 2, 4).permute(0, 3, 1, 2).flatten(1) if key == "Dense_0_kernel" else weight


def leaky(arrays):
    sizes = [arrays["X"].shape[1], *arrays["layer_sizes"].tolist()[-3:]]
    options = {"slots": int(arrays["N"]), "steps": int(arrays["ntimesteps"])}
    network = LeakyMLP(
        sizes[0], sizes[-1], sizes[1:-1], tau=float(arrays["tau"]), dt=float(arrays["dt"]), **options
    ).double()
    names = [f"LIFDenseCell_{place}" for place in range(len(sizes) - 1)]
    load(network, arrays, names)
    return network, names


def check_state(network, names, arrays, prefix):
    for place, layer in enumerate(layers(network)):
        close(layer.potential, arrays[f"{prefix}_u{place}"], f"{prefix} u{place}")
    for key, parameter in parameters(network, names).items():
        close(parameter.detach(), as_theirs(arrays[f"{prefix}_{key}"]), f"{prefix} {key}")


@pytest.mark.parametrize("name", ["head", "pub"])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_leaky_networks_learn_as_the_references(name, kind):
    arrays = golden("../wmh/lif")
    network, names = leaky(arrays)
    rule = rule_of(name, arrays)
    rule.attach(network)
    optimizer = optimizer_of(network, kind, arrays)
    for window in range(3):
        losses = []
        for t in range(int(arrays["ntimesteps"])):
            losses.append(step(network, rule, optimizer, arrays, window, onset=t == 0))
            if window == 0 and kind == "sgd":
                check_state(network, names, arrays, f"t{t + 1}_{name}_{kind}")
        if window == 0:
            close(torch.stack(losses), arrays[f"tloss_{name}_{kind}"], "losses")
        close(torch.stack(losses).mean(), arrays[f"wloss_{name}_{kind}"][window], "mean loss")
        check_state(network, names, arrays, f"w{window + 1}_{name}_{kind}")


def test_networks_side_by_side_learn_as_one_by_one():
    arrays = golden("../wmh/lif")
    singles = []
    for seed in range(3):
        network, _ = leaky(arrays)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for parameter in network.parameters():
                parameter.data += 0.3 * torch.randn_like(parameter)
        singles.append(network)
    together = side_by_side(singles)
    trained = []
    for network in [*singles, together]:
        rule = rule_of("pub", arrays)
        rule.attach(network)
        optimizer = optimizer_of(network, "adamw", arrays)
        for window in range(3):
            for t in range(6):
                step(network, rule, optimizer, arrays, window, onset=t == 0)
        trained.append(network(arrays["X"].double()))
    for place, single in enumerate(singles):
        for ours, theirs in zip(
            alone(together, place).state_dict().values(), single.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(trained[-1][place], trained[place], rtol=1e-12, atol=1e-12)
