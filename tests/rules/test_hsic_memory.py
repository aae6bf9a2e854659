"""HSICMemory beyond the reference: its gradient by autograd, a memory that stays as it was, and what it refuses."""

import pytest
import torch

from functional.oracles import normal
from infohebb.errors import MismatchError, UnknownNameError
from infohebb.functional.kernels import gaussian_gram
from infohebb.functional.working_memory import window_coupling, window_hsic
from infohebb.networks import MLP, ConvNet, LeakyMLP, side_by_side
from infohebb.rules import HSICBottleneck, HSICMemory, KernelizedBottleneck

X, LABELS = normal(9, 7), torch.tensor([0, 1, 2, 1, 0, 2, 2, 0, 1])
SETTINGS = {"norm": "layer", "bias": True, "nonlinearity": "tanh"}


def network_of(**settings):
    torch.manual_seed(0)
    return MLP(7, 3, (6, 5), **{**SETTINGS, **settings}).double()


def learned(rule, network, windows):
    """Gradients by name after each window (first sample, last sample), None while the rule waits."""
    rule.attach(network)
    found = []
    for first, last in windows:
        for parameter in network.parameters():
            parameter.grad = None
        seen = rule.learn(network, X[first:last], LABELS[first:last])
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        assert bool(gradients) != seen.waiting
        found.append(gradients or None)
    return found


def autograd(network, first, last, memory=None):
    """Gradients of each block's own objective with remembered activities held constant."""
    Q = window_coupling(X[first:last], LABELS[first:last], 3, 2.0, 0.5, 0.1)
    x, found = X[first:last], {}
    for place, (name, block) in enumerate(network.named_blocks()):
        z = block(x)
        kept = z.detach()[:-1] if memory is None else memory[place]
        value = window_hsic(Q, gaussian_gram(torch.cat([kept, z[-1:]]), 1.0, "per_sqrt_dim"))
        parameters = dict(block.named_parameters())
        gradients = torch.autograd.grad(value, list(parameters.values()))
        found |= {f"{name}.{key}": gradient for key, gradient in zip(parameters, gradients, strict=True)}
        x = z.detach()
    return found


@pytest.mark.parametrize("norm", ["layer", None])
def test_the_exact_modulator_is_autograds(norm):
    network = network_of(norm=norm)
    (gradients,) = learned(HSICMemory(), network, [(0, 6)])
    for name, expected in autograd(network, 0, 6).items():
        torch.testing.assert_close(gradients[name], expected, rtol=1e-9, atol=1e-12)


def test_all_samples_as_the_current_one_sum_up_to_the_batch_rule():
    network = network_of()
    (batch,) = learned(HSICBottleneck(), network, [(0, 6)])
    total = {name: torch.zeros_like(gradient) for name, gradient in batch.items() if "blocks" in name}
    for current in range(6):
        order = [sample for sample in range(6) if sample != current] + [current]
        rule = HSICMemory()
        rule.attach(network)
        rule.learn(network, X[order], LABELS[order])
        for name in total:
            total[name] += dict(network.named_parameters())[name].grad
    for name, gradient in total.items():
        torch.testing.assert_close(gradient, batch[name], rtol=1e-9, atol=1e-12)


def test_a_stale_memory_keeps_activities_as_they_were():
    """While weights change, remembered activities do not; nothing is learned before the memory is full."""
    network, rule = network_of(), HSICMemory(memory="stale")
    rule.attach(network)
    kept = []
    for last in range(4, 10):
        for parameter in network.parameters():
            parameter.grad = None
        memory = [torch.cat([past[place] for past in kept[-3:]]) for place in range(2)] if len(kept) >= 3 else None
        x, now = X[last - 1 : last], []
        for _, block in network.named_blocks():
            x = block(x).detach()
            now.append(x)
        seen = rule.learn(network, X[last - 4 : last], LABELS[last - 4 : last])
        assert seen.waiting == (memory is None)
        if memory is not None:
            for name, expected in autograd(network, last - 4, last, memory).items():
                gradient = dict(network.named_parameters())[name].grad
                torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
        kept.append(now)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)


def test_with_weights_that_rest_both_memories_are_one():
    network = network_of()
    windows = [(first, first + 4) for first in range(6)]
    stale, fresh = (learned(HSICMemory(memory=kind), network, windows) for kind in ("stale", "recompute"))
    assert stale[:3] == [None, None, None]
    for ours, theirs in zip(stale[3:], fresh[3:], strict=True):
        for name, gradient in theirs.items():
            torch.testing.assert_close(ours[name], gradient, rtol=1e-9, atol=1e-12)


def test_a_stale_memory_is_saved_in_the_midst_of_a_stream():
    network, rule = network_of(), HSICMemory(memory="stale")
    learned(rule, network, [(0, 4), (1, 5)])
    other = HSICMemory(memory="stale")
    other.attach(network)
    other.load_state_dict(rule.state_dict())
    for each in (rule, other):
        for first in (2, 3):
            for parameter in network.parameters():
                parameter.grad = None
            each.learn(network, X[first : first + 4], LABELS[first : first + 4])
        gradients = [parameter.grad for parameter in network.parameters()]
        expected = gradients if each is rule else expected
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(gradients, expected, strict=True))


def test_a_leaky_network_of_one_slot_learns_from_a_stale_memory():
    torch.manual_seed(0)
    for network in (LeakyMLP(7, 3, slots=1), side_by_side([LeakyMLP(7, 3, slots=1) for _ in range(2)])):
        network.double()
        rule = HSICMemory(memory="stale")
        rule.attach(network)
        for first in range(5):
            for t in range(3):
                seen = rule.learn(network, X[first : first + 4], LABELS[first : first + 4], onset=t == 0)
                assert seen.waiting == (first < 3)
        assert all(bool(parameter.grad.isfinite().all()) for parameter in network.parameters())


def test_what_was_remembered_is_loaded_into_another_precision():
    network, rule, other = network_of(), HSICMemory(memory="stale"), HSICMemory(memory="stale")
    learned(rule, network, [(0, 4), (1, 5), (2, 6), (3, 7)])
    single = network_of().float()
    other.attach(single)
    other.load_state_dict(rule.state_dict())
    seen = other.learn(single, X[4:8].float(), LABELS[4:8])
    assert not seen.waiting
    assert {p.grad.dtype for p in single.parameters() if p.grad is not None} == {torch.float32}


def test_a_window_that_was_held_is_forgotten_where_state_is_loaded():
    network, rule = network_of(), HSICMemory()
    learned(rule, network, [(0, 4)])
    rule.load_state_dict(rule.state_dict())
    rule.learn(network, X[3:7], LABELS[3:7], onset=False)
    for name, expected in autograd(network, 3, 7).items():
        torch.testing.assert_close(network.get_parameter(name).grad, expected, rtol=1e-9, atol=1e-12)


def test_a_stale_memory_wants_leaky_networks_of_one_slot():
    with pytest.raises(MismatchError, match=r"memory 'stale' .* slots = 1, not 4"):
        HSICMemory(memory="stale").attach(LeakyMLP(7, 3, (6,), slots=4))


def misnamed(setting, name):
    """A rule as from a recipe, whose words are looked at by attach."""
    rule = HSICMemory()
    setattr(rule, setting, name)
    return rule


def test_what_cannot_be_is_named():
    plain = network_of()
    for rule, network, message in (
        (misnamed("modulator", "exakt"), plain, "did you mean 'exact'"),
        (misnamed("modulator", ["pub"]), plain, "unknown modulator"),
        (misnamed("objective", "no"), plain, "objective 'no': give true or false"),
        (misnamed("memory", "none"), plain, "memory"),
        (HSICMemory(sigma_z=0.0), plain, "sigma_z 0.0: give a width above 0"),
        (HSICBottleneck(gamma=float("nan")), plain, "gamma nan"),
        (HSICMemory(), MLP(7, 3, (6,), norm="batch"), "batch norm"),
        (HSICMemory(), ConvNet((2, 8, 8), 3, (4,), (1,), ()), "takes maxima"),
        (KernelizedBottleneck(), side_by_side([network_of(), network_of()]), "one network at a time"),
        (KernelizedBottleneck(), LeakyMLP(), "time steps"),
    ):
        with pytest.raises((MismatchError, UnknownNameError), match=message):
            rule.attach(network)
    rule = HSICMemory()
    rule.attach(plain)
    with pytest.raises(MismatchError, match="remembers none"):
        rule.learn(plain, X[:1], LABELS[:1])
    leaky = LeakyMLP(7, 3, slots=4).double()
    rule.attach(leaky)
    with pytest.raises(MismatchError, match="a window of 5 samples for a network of 4 slots"):
        rule.learn(leaky, X[:5], LABELS[:5])
    with pytest.raises(MismatchError, match="overshoots"):
        LeakyMLP(tau=1e-3, dt=2e-3)
