"""Pictures' raw material of neurons with compartments."""

import copy

import numpy as np
import pytest
import torch

from infohebb.data import digits, from_arrays
from infohebb.errors import MismatchError
from infohebb.experiments.compartments import PARTS, compartment_arrays, follow
from infohebb.experiments.pictures import Samples, count_units
from infohebb.files import write_arrays
from infohebb.networks import CorInfoMaxNetwork
from infohebb.networks.plain import MLP
from infohebb.rules import Backprop, CorInfoMax


def settled(widths=(12, 9), inputs=64, data=None, **more):
    """A network before training, one after (with other weights), their rule and samples."""
    torch.manual_seed(0)
    data = data or digits()
    before = CorInfoMaxNetwork(inputs, 10 if data.classes else 1, widths, entropy_gain=0.01, steps=6, **more)
    after = copy.deepcopy(before)
    with torch.no_grad():
        for weight in after.parameters():
            weight.mul_(1.5)
    return before, after, CorInfoMax(nudge=0.5, nudged_steps=4), Samples(data, count_units(before))


def arrays_of(before, after, rule, samples):
    return compartment_arrays(follow(before, rule, samples), follow(after, rule, samples))


def test_potentials_are_those_that_the_network_tells_of_the_first_sample():
    before, after, rule, samples = settled()
    arrays = arrays_of(before, after, rule, samples)
    names = arrays["compartments_neuron"].tolist()
    assert arrays["compartments_layer"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert names[6] == "output, neuron 0, the target"
    assert [name.split(",")[0] for name in names] == ["layers.0"] * 3 + ["layers.1"] * 3 + ["output"] * 3
    assert arrays["compartments_sweep"].tolist() == list(range(1, 11))
    assert int(arrays["compartments_onset"]) == 7
    one_hot = torch.eye(10)[:1]
    for when, network in (("before", before), ("after", after)):
        told = network.compartments(samples.inputs[:1], one_hot, 0.5, 4)
        for column, (name, layer) in enumerate(zip(names, arrays["compartments_layer"], strict=True)):
            neuron = int(name.split("neuron ")[1].split(",")[0])
            for part in PARTS[:3]:
                wanted = [float(getattr(sweep[layer], part)[0, neuron]) for sweep in told]
                np.testing.assert_allclose(arrays[f"compartments_{when}_{part}"][:, column], wanted, rtol=1e-6)
        somata = arrays[f"compartments_{when}_soma"]
        np.testing.assert_array_equal(arrays[f"compartments_{when}_rate"], somata.clip(0, 1))


def test_neurons_of_sparse_layers_are_not_cut_off_above():
    arrays = arrays_of(*settled((9,), sparse=(1,), multiplier_rates=(1e-6,)))
    somata, rates = arrays["compartments_after_soma"][:, :3], arrays["compartments_after_rate"][:, :3]
    assert somata.max() > 1
    np.testing.assert_array_equal(rates, somata.clip(0))


def test_the_objective_by_hand():
    before, after, rule, samples = settled()
    found = arrays_of(before, after, rule, samples)["objective_after"]
    rates = [each["rate"].double() for each in follow(after, rule, samples).potentials]
    x, y, eps, gain = samples.inputs[:1].flatten(1).double(), torch.eye(10).double()[0], 0.15, 0.01
    layers = [(k.feedforward.weight, k.feedback and k.feedback.weight, k.inverse_correlation) for k in after.layers]
    layers = [tuple(w if w is None else w.detach().double() for w in each) for each in layers]
    assert found.shape == (10, 3)
    for t in range(10):
        states = [x[0], *(rate[t] for rate in rates)]
        for k, (forward, back, inverse) in enumerate(layers):
            r = states[k + 1]
            value = gain * r @ inverse @ r - (r - forward @ states[k]).square().sum() / (2 * eps)
            if back is None:
                value = value - gain / 2 * r @ inverse @ r - (0.25 * (r - y).square().sum() if t >= 6 else 0)
            else:
                value = value - (r - back @ states[k + 2]).square().sum() / (2 * eps)
            assert found[t, k] == pytest.approx(float(value), rel=1e-4)


def test_nothing_is_kept_of_other_networks():
    samples = Samples(digits(), 1)
    assert follow(MLP((8, 8), 10, (8,)), Backprop(), samples) is None
    assert compartment_arrays(None, None) == {}


def test_numbers_are_targets_too():
    generator = torch.Generator().manual_seed(0)
    data = from_arrays(torch.randn(30, 4, generator=generator), torch.rand(30, generator=generator))
    arrays = arrays_of(*settled((5,), 4, data))
    assert arrays["compartments_neuron"].tolist()[-1] == "output, neuron 0"


def test_settings_that_make_no_phases_are_refused_before_they_are_followed():
    before, _, _, samples = settled()
    with pytest.raises(MismatchError, match="nudged_steps"):
        follow(before, CorInfoMax(nudged_steps=0), samples)


def test_gram_matrices_are_of_rates_at_rest():
    before, _, _, samples = settled()
    grams = samples.grams(before, "before")
    assert list(grams) == [f"gram_before_layers.{place}" for place in range(3)]
    rates = before(samples.inputs).detach().double()
    rates = (rates - rates.mean(0)).numpy()
    norms = np.linalg.norm(rates, axis=1)
    np.testing.assert_allclose(grams["gram_before_layers.2"], rates @ rates.T / np.outer(norms, norms), atol=2e-3)


@pytest.mark.parametrize("steps", [30, 3000])
def test_all_pictures_of_a_wide_network_fit_in_200_kB(tmp_path, steps):
    torch.manual_seed(0)
    data = from_arrays(torch.rand(100, 784), torch.arange(100) % 10)
    network = CorInfoMaxNetwork(784, 10, (2048, 2048), steps=2)
    rule, samples = CorInfoMax(nudged_steps=2), Samples(data, count_units(network))
    arrays = {"labels": samples.labels, **samples.grams(network, "before"), **samples.grams(network, "after")}
    one = follow(network, rule, samples)
    noise = [{part: torch.randn(steps + 10, of[part].shape[1]) for part in PARTS} for of in one.potentials]
    long = one._replace(potentials=noise, objective=torch.randn(steps + 10, 3), onset=steps)
    arrays |= compartment_arrays(long, long)
    assert write_arrays(tmp_path / "seed0.npz", arrays).stat().st_size <= 200_000
    assert len(arrays["compartments_sweep"]) >= 30
    assert arrays["compartments_before_basal"].shape == (len(arrays["compartments_sweep"]), 9)
