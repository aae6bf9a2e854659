"""The online rule: over all pairs the batch rule; traces of one stimulus sum to it; state, onsets, refusals."""

import copy
import inspect
import math

import pytest
import torch

from functional.oracles import assert_close, normal
from infohebb.errors import GroupingError, MismatchError, UnknownNameError
from infohebb.functional.kernels import gaussian_gram, label_gram
from infohebb.rules import KernelizedBottleneck, KernelizedBottleneckOnline
from networks.plain_torch import make_network
from rules.walk import LABELS, X

NORM = {"divisive_norm": {"groups": 4, "power": 0.3, "delta": 0.6}}
MODES = {"grouped": ({"sigma": 0.4}, NORM), "plain": ({"sigma": 1.5}, {}), "own groups": ({"groups": 4}, {})}
FORMS = {"two_point": NORM, "mean_activity": {}, "trace": NORM, "eligibility": NORM, "plain eligibility": {}}
every_mode = pytest.mark.parametrize("mode", MODES)
every_form = pytest.mark.parametrize("name", FORMS)


def online(name="two_point", network_options=None, **settings):
    """A network and a rule of that form, attached to it."""
    network = make_network(**(FORMS[name] if network_options is None else network_options))
    rule = KernelizedBottleneckOnline(name.split()[-1], **{"sigma": 0.4, **settings})
    rule.attach(network)
    return network, rule


def learn(rule, network, index, **options):
    """One stimulus, and the gradients that it leaves."""
    network.zero_grad(set_to_none=True)
    seen = rule.learn(network, X[index : index + 1], LABELS[index : index + 1], **options)
    return seen, {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def updates(rule, network, order, **options):
    """Gradients summed over a stream, those of blocks only."""
    total = {}
    for index in order:
        _, gradients = learn(rule, network, index, **options)
        for name, gradient in gradients.items():
            total[name] = total.get(name, 0) + gradient
    return {name: gradient for name, gradient in total.items() if name.startswith("blocks")}


def signals_of_the_circuits(rule, network):
    """What each circuit sees of each sample."""
    found = []
    for index in range(len(X)):
        learn(rule, network, index)
        found.append([synapses.circuit.before.clone() for synapses in rule.synapses])
    return [torch.stack(rows) for rows in zip(*found, strict=True)]


def hold_averages_at_the_batchs(rule, network):
    for synapses, s in zip(rule.synapses, signals_of_the_circuits(rule, network), strict=True):
        synapses.circuit.average.copy_(gaussian_gram(s, rule.sigma).mean())
    rule.teaching.average.copy_(label_gram(LABELS, 3, torch.float64).mean())
    rule.teaching.stimuli.fill_(math.inf)
    rule.rate = 0.0


@every_mode
@pytest.mark.parametrize("nonlinearity", ["leaky_relu", "tanh"])
def test_over_all_pairs_of_stimuli_it_is_the_batch_rule(mode, nonlinearity):
    settings, options = MODES[mode]
    options = {**options, "nonlinearity": nonlinearity, "bias": True}
    network, rule = online(network_options=options, gamma=3.0, **settings)
    hold_averages_at_the_batchs(rule, network)
    total = {}
    for before in range(len(X)):
        for now in range(len(X)):
            learn(rule, network, before)
            _, gradients = learn(rule, network, now)
            total = {name: total.get(name, 0) + gradient for name, gradient in gradients.items()}
    batch = KernelizedBottleneck(gamma=3.0, **{"sigma": 0.4, **settings})
    batch.attach(network)
    network.zero_grad(set_to_none=True)
    batch.learn(network, X, LABELS)
    for name, parameter in network.named_parameters():
        assert_close(total[name] / len(X) ** 2, parameter.grad, 1e-12, name)
        assert parameter.grad.abs().max() > 1e-6


STREAM = [0, 3, 1, 1, 5, 2, 4, 0]


@pytest.mark.parametrize("mode", MODES)
def test_eligibility_traces_sum_to_the_two_point_rule_but_for_the_end(mode):
    settings, options = MODES[mode]
    two = updates(*reversed(online(network_options=options, **settings)), STREAM)
    network, rule = online("eligibility", options, **settings)
    traces = updates(rule, network, STREAM)
    for position, (name, _) in enumerate(network.named_blocks()):
        kept, weight = rule.synapses[position], f"{name}.weight"
        post = (
            kept.factor * kept.change if kept.grouping is None else kept.factor.repeat_interleave(kept.own.numel() // 4)
        )
        last = torch.outer(post * kept.own, kept.pre)
        assert_close(traces[weight] + last, two[weight], 1e-12, name)
        assert not torch.allclose(traces[weight], two[weight])


@every_form
def test_the_stream_goes_on_to_the_same_bits_from_its_saved_state(name):
    network, rule = online(name)
    for index in (0, 2, 1):
        learn(rule, network, index)
    other = KernelizedBottleneckOnline(rule.form, sigma=0.4)
    other.attach(network)
    other.load_state_dict(rule.state_dict())
    copied = copy.deepcopy(rule)
    for index, onset in [(3, True), (3, False), (4, True), (2, True)]:
        (seen, expected), *others = (learn(each, network, index, onset=onset) for each in (rule, other, copied))
        for other_seen, gradients in others:
            assert gradients.keys() == expected.keys()
            assert all(torch.equal(gradients[key], expected[key]) for key in expected)
            assert other_seen.waiting == seen.waiting


@every_form
def test_the_first_stimulus_teaches_nothing_and_its_state_says_so(name):
    network, rule = online(name)
    other = KernelizedBottleneckOnline(rule.form, sigma=0.4)
    other.attach(network)
    other.load_state_dict(rule.state_dict())
    for each in (rule, other):
        seen, gradients = learn(each, network, 0)
        assert seen.waiting and not gradients
        assert seen.loss > 0
        seen, gradients = learn(each, network, 1)
        assert not seen.waiting
        assert set(gradients) == {key for key, _ in network.named_parameters()}


@every_form
def test_nothing_is_learned_while_a_stimulus_is_held(name):
    network, rule = online(name)
    for index in (0, 2, 1):
        learn(rule, network, index)
    for _ in range(3):
        seen, gradients = learn(rule, network, 1, onset=False)
        assert seen.waiting and not gradients


@every_form
def test_a_stimulus_that_is_held_changes_traces_and_nothing_else(name):
    network, rule = online(name)
    for index in (0, 2, 1):
        learn(rule, network, index)
    before = {key: value.clone() for key, value in rule.state_dict().items()}
    for _ in range(60):
        learn(rule, network, 1, onset=False)
    moved = {key for key, value in rule.state_dict().items() if not torch.equal(value, before[key])}
    traces = {f"synapses.{i}.{cell}" for i in (0, 1) for cell in ("pre", "own", "circuit.before")}
    assert moved == (traces if name in ("trace", "mean_activity") else set())
    if moved:
        assert_close(rule.synapses[0].pre, X[1], 1e-12)


def test_traces_go_half_of_the_way_in_a_step_of_two():
    network, rule = online("trace")
    for index in (0, 2):
        learn(rule, network, index)
    assert_close(rule.synapses[0].pre, (X[0] + X[2]) / 2, 1e-14)


@pytest.mark.parametrize("name", ["trace", "mean_activity"])
def test_without_the_gate_every_time_step_teaches(name):
    network, rule = online(name, gate=False)
    learn(rule, network, 0)
    assert learn(rule, network, 0, onset=False)[0].waiting
    for index in (1, 2):
        for onset in (True, False, False):
            seen, gradients = learn(rule, network, index, onset=onset)
            assert not seen.waiting
            assert gradients["readout.weight"].any()
    assert gradients["blocks.0.weight"].any()


def test_the_mean_activity_form_is_the_change_of_both_times_a_number():
    network, rule = online("mean_activity", {"nonlinearity": "tanh", "bias": True})
    for index in (0, 2):
        learn(rule, network, index)
    z = network.blocks[0].respond(X).activity.detach()
    x_average, z_average = (X[0] + X[2]) / 2, (z[0] + z[2]) / 2
    _, gradients = learn(rule, network, 5)
    cells = rule.synapses[0].circuit.cells
    assert_close(cells.difference, z[5] - z_average, 1e-13)
    expected = -cells.modulator * torch.outer(z[5] - z_average, X[5] - x_average)
    assert_close(gradients["blocks.0.weight"], expected, 1e-12)
    assert not gradients["blocks.0.bias"].any()  # from a constant, minus its average


def test_each_cell_of_the_circuit_is_readable_and_follows_the_one_before():
    network, rule = online(gamma=3.0)
    s = signals_of_the_circuits(rule, network)[0]
    learn(rule, network, 2)
    circuit, teaching = rule.synapses[0].circuit, rule.teaching
    cells = circuit.cells
    assert_close(cells.difference, s[2] - s[6], 1e-13)
    assert_close(cells.population, (s[2] - s[6]).square().sum(), 1e-13)
    assert_close(cells.similarity, torch.exp(-cells.population / (2 * 0.4**2)), 1e-13)
    assert_close(cells.teaching, 1 - teaching.average, 1e-13)  # both are of class 2
    strength = 3.0 * cells.teaching - 2 * (cells.similarity - circuit.average)
    assert_close(cells.modulator, -strength * cells.similarity / 0.4**2, 1e-12)
    assert_close(cells.for_groups, cells.modulator * cells.difference, 1e-13)


def test_slow_cells_are_the_mean_first_and_follow_later():
    network, rule = online(rate=0.25)
    seen = []
    for index in STREAM:
        learn(rule, network, index)
        seen.append(rule.synapses[0].circuit.cells)
    k = torch.stack([cells.similarity for cells in seen[1:]])
    expected = k[:4].mean()
    assert_close(rule.teaching.average, 0.75**3 * _mean_teaching(STREAM[:5]) + _followed(STREAM), 1e-12)
    for value in k[4:]:
        expected = 0.75 * expected + 0.25 * value
    assert_close(rule.synapses[0].circuit.average, expected, 1e-12)


def _teaching(order):
    labels = LABELS[order]
    return torch.where(labels[1:] == labels[:-1], 1.0, -0.5).double()


def _mean_teaching(order):
    return _teaching(order).mean()


def _followed(order):
    return sum(0.25 * 0.75**age * value for age, value in enumerate(_teaching(order).flip(0)[:3]))


@every_form
def test_recorded_signals_stay_as_they_were_and_give_the_update(name):
    network, rule = online(name)
    for index in (0, 2):
        learn(rule, network, index)
    seen, gradients = learn(rule, network, 5, record=True)
    learn(rule, network, 3)
    stranger = KernelizedBottleneckOnline(rule.form)
    for layer, signals in seen.signals.items():
        for parameter, gradient in stranger.update(signals).items():
            assert torch.equal(gradient, gradients.get(f"{layer}.{parameter}", gradient))
    assert set(seen.signals) == {"blocks.0", "blocks.1", "readout"}
    factor = seen.signals["blocks.0"]["third_factor"]
    assert factor.shape[1] == (4 if FORMS[name] else 1)


def test_a_stream_that_goes_on_with_the_same_network_keeps_its_state_and_another_one_does_not():
    network, rule = online()
    for index in (0, 2):
        learn(rule, network, index)
    rule.attach(network)
    assert rule.teaching.stimuli == 2
    rule.attach(make_network(**NORM))
    assert rule.teaching.stimuli == 0


def test_settings_that_are_changed_hold_from_the_next_attach():
    network, rule = online("plain eligibility")
    learn(rule, network, 0)
    rule.sigma, rule.form = 0.7, "two_point"
    rule.attach(network)
    fresh = KernelizedBottleneckOnline("two_point", sigma=0.7)
    fresh.attach(network)
    for index in range(3):
        (seen, gradients), (expected, others) = (learn(each, network, index) for each in (rule, fresh))
        assert seen.waiting == expected.waiting
        assert gradients.keys() == others.keys()
        for name, gradient in gradients.items():
            assert torch.equal(gradient, others[name])


@pytest.mark.parametrize(
    ("told", "options", "kind", "message"),
    [
        ({"form": "two_points"}, {}, UnknownNameError, "unknown form 'two_points'; did you mean 'two_point'"),
        ({"sigma": 0.0}, {}, MismatchError, "sigma 0.0: give a width above 0"),
        ({"rate": 2.0}, {}, MismatchError, "rate 2.0: give a share of the way, from 0 to 1"),
        ({"trace_steps": 0.5}, {}, MismatchError, "trace_steps 0.5: give at least 1"),
        ({"gate": False}, {}, MismatchError, "form 'two_point' compares whole stimuli, .*gate=False is for"),
        ({"groups": 5}, {}, GroupingError, "5 groups .* 8 neurons"),
        ({"power": 0.5}, {}, MismatchError, "blocks.0 has no groups"),
        ({"groups": 2}, NORM, MismatchError, "leave them out of the rule"),
        ({"form": "mean_activity"}, NORM, MismatchError, "blocks.0 is grouped, .*take form 'trace'"),
        ({"form": "trace"}, {}, MismatchError, "blocks.0 has no groups, .*take form 'mean_activity'"),
        ({}, {"norm": "batch"}, MismatchError, "blocks.0 has batch or layer norm, .* leave it out"),
        ({}, {"norm": "layer"}, MismatchError, "blocks.0 has batch or layer norm"),
    ],
)
def test_what_cannot_be_is_refused_by_attach(told, options, kind, message):
    with pytest.raises(kind, match=message) as caught:
        rule = KernelizedBottleneckOnline(**{key: value for key, value in told.items() if key != "form"})
        rule.form = told.get("form", rule.form)  # as a constructor that only stores leaves it
        rule.attach(make_network(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (X[:2], LABELS[:2], "2 samples at once: the online rule takes one; give batch = 1"),
        (X[:1], normal(1, 3), "targets are numbers, .*; give class labels"),
    ],
)
def test_what_is_no_stimulus_is_refused(inputs, targets, message):
    network, rule = online()
    with pytest.raises(MismatchError, match=message):
        rule.learn(network, inputs, targets)


def test_a_rule_that_was_not_attached_says_so():
    with pytest.raises(MismatchError, match=r"call rule.attach\(network\) first"):
        inspect.unwrap(KernelizedBottleneckOnline.learn)(
            KernelizedBottleneckOnline(), make_network(), X[:1], LABELS[:1]
        )
