"""Pictures' raw material."""

import numpy as np
import pytest
import torch

from infohebb.data import blobs, digits, from_arrays, xor
from infohebb.experiments.pictures import Samples
from infohebb.files import write_arrays
from infohebb.networks.plain import MLP, LeakyMLP
from infohebb.networks.plain.leaky import holding


@pytest.mark.parametrize("layers", [1, 3, 8])
def test_all_matrices_of_a_run_fit_in_200_kB(tmp_path, layers):
    torch.manual_seed(0)
    data = digits()
    samples = Samples(data, layers)
    arrays = {"labels": samples.labels}
    for when in ("before", "after"):
        arrays |= samples.grams(MLP(data.input_shape, 10, [40] * layers), when)
    assert len(arrays) == 1 + 2 * layers
    path = write_arrays(tmp_path / "seed0.npz", arrays)
    assert path.stat().st_size <= 200_000
    assert arrays["labels"].size >= 60
    assert set(np.bincount(arrays["labels"])) == {arrays["labels"].size // 10}


def test_samples_are_sorted_by_class_and_held_out():
    data = digits()
    samples = Samples(data, 3)
    assert samples.labels.tolist() == sorted(samples.labels.tolist())
    first_nine = int((data.test.targets == 9).nonzero()[0])
    position = samples.labels.tolist().index(9)
    assert torch.equal(samples.inputs[position], data.test.inputs[first_nine])


def test_a_gram_matrix_is_the_cosine_of_activities_minus_their_mean():
    torch.manual_seed(0)
    data = blobs(40)
    net = MLP(data.input_shape, 2, (16, 16), divisive_norm={"groups": 4})
    samples = Samples(data, 2)
    grams = samples.grams(net, "after")
    first = net.layers[0].activity(samples.inputs)
    second = net.layers[1].activity(net.layers[0](samples.inputs))
    for name, activity in (("gram_after_layers.0", first), ("gram_after_layers.1", second)):
        z = activity.detach().double()
        z = (z - z.mean(0)).numpy()
        wanted = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in z] for a in z]
        assert grams[name].dtype == np.float16
        np.testing.assert_allclose(grams[name], wanted, atol=2e-3)


def test_leaky_neurons_are_pictured_at_the_end_of_the_time_for_which_a_sample_is_held():
    torch.manual_seed(0)
    data = xor()
    net = LeakyMLP(data.input_shape, 2, (6, 5), slots=4, steps=7)
    samples = Samples(data, 2)
    net.eval()
    with torch.no_grad(), holding():
        z = [net.layers[0].activity(samples.inputs) for _ in range(net.steps)][-1].double()
    grams = samples.grams(net.train(), "before")
    assert list(grams) == ["gram_before_layers.0", "gram_before_layers.1"]
    assert net.training
    assert not net.layers[0].activity.leak.potential.any()
    z = (z - z.mean(0)).numpy()
    norms = np.linalg.norm(z, axis=1)
    np.testing.assert_allclose(grams["gram_before_layers.0"], z @ z.T / np.outer(norms, norms), atol=2e-3)


def test_continuous_targets_sort_the_samples_and_have_no_labels():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 4, generator=generator, dtype=torch.float64), torch.randn(30, generator=generator)
    samples = Samples(from_arrays(x, y), 1)
    assert samples.labels.tolist() == [0] * 30
    assert torch.equal(samples.inputs.double(), x[y.argsort()].float().double())
    assert samples.grams(MLP(4, 1, (8,)), "before")["gram_before_layers.0"].shape == (30, 30)
