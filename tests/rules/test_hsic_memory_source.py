"""HSICMemory whose third factor an auxiliary network says: what layers learn from, what is kept, what is refused."""

import copy
from functools import partial

import pytest
import torch
from torch.nn.functional import one_hot

from functional.oracles import normal
from infohebb.errors import MismatchError, UnknownNameError
from infohebb.networks import MLP, ConvNet, LeakyMLP, side_by_side
from infohebb.rules import HSICMemory
from infohebb.testing import downstream, locality, manners
from infohebb.testing.cases import build_case

N = 4
X, LABELS = normal(12, 5), torch.tensor([0, 1, 2, 1, 0, 2, 2, 0, 1, 1, 0, 2])
small = partial(HSICMemory, source="reservoir", window=N, auxiliary_units=10, pretraining=60)


def network_of(**settings):
    torch.manual_seed(0)
    return MLP(5, 3, (6, 4), **{"norm": "layer", "bias": True, "nonlinearity": "tanh", **settings}).double()


def learn(rule, network, first, **options):
    """One window of the stream, with empty gradients before; the gradients, and what was seen."""
    for parameter in network.parameters():
        parameter.grad = None
    seen = rule.learn(network, X[first : first + N], LABELS[first : first + N], **options)
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()], seen


def moved(network):
    """The same network after a step."""
    with torch.no_grad():
        for place, parameter in enumerate(network.parameters()):
            parameter += 0.05 * normal(*parameter.shape, seed=place)


@pytest.mark.parametrize("memory", ["recompute", "stale"])
def test_layers_learn_from_what_their_auxiliary_networks_say_of_the_stream(memory):
    network, rule = network_of(), small(memory=memory)
    rule.attach(network)
    alone = [copy.deepcopy(auxiliary.modulator) for auxiliary in rule.layers]
    for first in range(7):
        x, last = X[first + N - 1 : first + N], first + N - 1
        z, expected, said = x, {}, []
        for modulator, (name, block) in zip(alone, network.named_blocks(), strict=True):
            z = block(z.detach())
            said.append(modulator.estimate(x, one_hot(LABELS[last : last + 1], 3).double(), z.detach()))
            keys = dict(block.named_parameters())
            gradients = torch.autograd.grad((z * said[-1]).sum(), list(keys.values()))
            expected |= {f"{name}.{key}": gradient for key, gradient in zip(keys, gradients, strict=True)}
        gradients, seen = learn(rule, network, first, record=True)
        assert seen.waiting == (first < N - 1)
        if seen.waiting:
            assert set(gradients) == {None}
            continue
        found = dict(zip(dict(network.named_parameters()), gradients, strict=True))
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
        for place, factor in enumerate(said):
            assert torch.equal(seen.signals[f"blocks.{place}"]["third_factor"], factor)
            assert "memory" not in seen.signals[f"blocks.{place}"]
        moved(network)


def test_the_readout_learns_as_memory_says():
    for memory in ("recompute", "stale"):
        network, rule, computed = network_of(), small(memory=memory), HSICMemory(memory=memory)
        for each in (rule, computed):
            each.attach(network)
            for first in range(N):
                gradients, _ = learn(each, network, first)
            expected = gradients if each is rule else expected
        assert all(torch.equal(*pair) for pair in zip(gradients[-2:], expected[-2:], strict=True))


@pytest.mark.parametrize("memory", ["recompute", "stale"])
def test_a_stream_goes_on_to_the_same_bits_after_it_was_saved(memory):
    network, rule = network_of(), small(memory=memory)
    rule.attach(network)
    for first in range(5):
        learn(rule, network, first)
    other = small(memory=memory)
    torch.manual_seed(5)
    other.attach(network)
    assert not torch.equal(other.layers[0].modulator.reservoir.readout, rule.layers[0].modulator.reservoir.readout)
    other.load_state_dict(rule.state_dict())
    for first, onset in ((5, True), (5, False), (6, True)):
        ours, theirs = (learn(each, network, first, onset=onset)[0] for each in (rule, other))
        assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    for name, value in rule.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_a_window_that_is_held_is_heard_in_its_former_place():
    network, rule = network_of(), small()
    rule.attach(network)
    for first in range(5):
        once, _ = learn(rule, network, first)
    again, _ = learn(rule, network, 4, onset=False)
    assert all(torch.equal(*pair) for pair in zip(once, again, strict=True))
    moved(network)
    assert not torch.equal(learn(rule, network, 4, onset=False)[0][0], once[0])


def test_its_readout_is_made_in_attach_by_the_seed_and_stays():
    readouts = []
    for _ in range(2):
        network, rule = network_of(), small()
        rule.attach(network)
        readouts.append([auxiliary.modulator.reservoir.readout for auxiliary in rule.layers])
    assert all(torch.equal(*pair) for pair in zip(*readouts, strict=True))
    before = readouts[1][0].clone()
    learn(rule, network, 0)
    assert rule.layers[0].modulator.reservoir.potential.any()
    rule.attach(network)
    assert torch.equal(rule.layers[0].modulator.reservoir.readout, before)
    assert not rule.layers[0].modulator.reservoir.potential.any()
    network = network_of()
    torch.manual_seed(1)
    rule.attach(network)
    assert not torch.equal(rule.layers[0].modulator.reservoir.readout, before)


def test_other_settings_make_auxiliary_networks_anew():
    network, rule = network_of(), small()
    rule.attach(network)
    rule.window = 3
    rule.attach(network)
    assert [auxiliary.modulator.window for auxiliary in rule.layers] == [3, 3]
    rule.source = "computed"
    rule.attach(network)
    rule.source = "reservoir"
    rule.attach(network)
    assert [auxiliary.modulator.window for auxiliary in rule.layers] == [3, 3]


def test_it_is_pretrained_to_say_what_the_modulator_does():
    """On a stream of random data, with activities of the layer's own, what is said is like what is computed."""
    torch.manual_seed(0)
    network = MLP(2, 2, (4,), norm="layer", bias=True)
    settings = {"gamma": 2.0, "sigma_x": 1.0, "sigma_y": 0.5, "sigma_z": 2.0, "memory": "stale"}
    rules = HSICMemory(source="reservoir", window=N, pretraining=1500, **settings), HSICMemory(**settings)
    x, labels, found = torch.randn(60, 2), torch.randint(2, (60,)), []
    for rule in rules:
        rule.attach(network)
        seen = [rule.learn(network, x[t : t + N], labels[t : t + N], record=True) for t in range(60 - N)]
        signals = [each.signals["blocks.0"] for each in seen if not each.waiting]
        found.append(torch.cat([rule.activity_error(each) for each in signals]))
    assert found[0].shape == (57 - N, 4)
    assert torch.cosine_similarity(*found).mean() > 0.5


def test_the_default_source_has_no_auxiliary_networks():
    network, rule = network_of(), HSICMemory()
    rule.attach(network)
    before = torch.get_rng_state()
    rule.attach(network)
    assert torch.equal(before, torch.get_rng_state())
    assert not list(rule.buffers())
    _, seen = learn(rule, network, 0, record=True)
    assert not seen.waiting
    assert "memory" in seen.signals["blocks.0"]


PROMISES = (
    manners.fills_gradients,
    manners.keeps_no_graph,
    manners.state_round_trips,
    locality.update_follows_from_signals,
    locality.update_is_local,
    downstream.errors_are_not_global,
    downstream.weights_are_not_transported,
    downstream.learning_does_not_wait,
)


@pytest.mark.slow
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_the_contract_holds(promise):
    """Those promises that are about what it hears; the whole suite would pre-train hundreds of auxiliary networks."""
    network = partial(MLP, (2, 4, 4), 3, (8, 8), nonlinearity="tanh", norm="layer", bias=True)
    make = partial(HSICMemory, source="reservoir", window=6, auxiliary_units=10, pretraining=40)
    promise(partial(build_case, make, network))


def test_what_it_cannot_train_is_named_in_one_line():
    plain = network_of()
    unknown = small()
    unknown.source = "oracle"
    for rule, network, message in (
        (unknown, plain, "source 'oracle'"),
        (small(), side_by_side([network_of(), network_of()]), "networks side by side"),
        (small(), LeakyMLP(), "a network with leak"),
        (small(), ConvNet((2, 8, 8), 3, (4,), (), (), pooling="average"), r"blocks\.0 is a convolution"),
        (small(window=1), plain, "window 1 of source 'reservoir'; give a whole number of 2"),
        (small(auxiliary_units=0), plain, "auxiliary_units 0"),
        (small(pretraining=3), plain, "pretraining 3"),
        (small(objective=True), plain, "objective"),
    ):
        with pytest.raises((MismatchError, UnknownNameError), match=message) as caught:
            rule.attach(network)
        assert "\n" not in str(caught.value)
    rule = small()
    with pytest.raises(MismatchError, match=r"rule\.attach"):
        learn(rule, plain, 0)
    rule.attach(plain)
    with pytest.raises(MismatchError, match="a window of 5 samples for auxiliary networks of window = 4"):
        rule.learn(plain, X[:5], LABELS[:5])
    with pytest.raises(MismatchError, match="class labels"):
        rule.learn(plain, X[:4], normal(4, 3))


def test_a_network_without_numbers_is_checked_and_no_more():
    with torch.device("meta"):
        network = MLP(5, 3, (6,))
    small().attach(network)
