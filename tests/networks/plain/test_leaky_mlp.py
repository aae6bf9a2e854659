"""LeakyMLP: one time step for each call in train mode, samples held from rest in eval mode, and nothing left behind."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from functional.oracles import assert_close, normal
from infohebb import networks as old
from infohebb.errors import MismatchError
from infohebb.networks.plain import LeakyIntegrator, LeakyMLP

SIZES = {"inputs": (3, 2), "outputs": 3, "widths": (5, 4), "slots": 4, "steps": 7, "tau": 4e-3}
X = normal(4, 6)


def made(make=LeakyMLP, **settings):
    torch.manual_seed(0)
    return make(**SIZES, **settings).double()


def potentials(network):
    return [leak.potential for leak in network.modules() if isinstance(leak, LeakyIntegrator)]


def test_in_eval_mode_it_answers_as_the_network_before():
    network, other = made().eval(), made(old.LeakyMLP)
    assert all(torch.equal(*both) for both in zip(network.parameters(), other.parameters(), strict=True))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for samples in (X, normal(9, 3, 2)):  # any number of them, and of any shape
        assert_close(network(samples), other(samples), 1e-13)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_in_train_mode_a_call_is_one_time_step_from_the_potentials():
    network = made(nonlinearity="tanh")
    for _ in range(3):
        x, k = X, 0.25
        before = [potential.clone() for potential in potentials(network)]
        logits = network(X)
        for layer, u, now in zip(network.layers, before[:-1], potentials(network)[:-1], strict=True):
            assert_close(now, u + k * (layer.activity.linear(x) - u), 1e-12)
            x = torch.layer_norm(now.tanh(), now.shape[1:], eps=1e-6)
        assert_close(logits, before[-1] + k * (network.readout[0](x) - before[-1]), 1e-12)
        assert torch.equal(logits, potentials(network)[-1])


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])  # noqa: S301
def test_copies_go_on_from_the_same_potentials(twin):
    network = made()
    network(X)
    other = twin(network)
    assert torch.equal(other(X), network(X))
    assert not torch.equal(other(X), potentials(network)[-1])  # two steps further, and on its own


def test_threads_do_not_hold_each_others_samples():
    network = made().eval()
    batches = [normal(4, 6, seed=seed) for seed in range(8)]
    expected = [network(batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda batch: [network(batch) for _ in range(5)], batches))
    for answers, one in zip(found, expected, strict=True):
        assert all(torch.equal(answer, one) for answer in answers)


def test_it_can_be_exported():
    network = made().eval()
    exported = torch.export.export(network, (X,)).module()
    assert_close(exported(X), network(X), 1e-13)


def test_it_stays_in_single_precision_under_autocast():
    network = made(nonlinearity="tanh").float()
    for mode in (True, False):
        network.train(mode)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(X.float())
        assert rounded.dtype == torch.float32
    assert_close(rounded, network(X.float()), 0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dt": 6e-3}, "overshoots"),
        ({"dt": 0.0}, "dt 0.0: give seconds"),
        ({"slots": 0}, "0 slots"),
        ({"widths": (4, 0)}, "layers"),
    ],
)
def test_what_cannot_leak_is_named(settings, message):
    with pytest.raises(MismatchError, match=message):
        LeakyMLP(**settings)


def test_a_window_of_another_length_is_refused_before_a_potential_moves():
    network = made()
    with pytest.raises(MismatchError, match="a window of 3 samples for a network of 4 slots"):
        network(X[:3])
    assert not any(potential.any() for potential in potentials(network))
