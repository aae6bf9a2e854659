"""CorInfoMax: its closed forms against autograd, what a synapse reads, and what is told of networks gone astray."""

import copy

import pytest
import torch

from infohebb import CorInfoMax, CorInfoMaxNetwork, train
from infohebb.data import blobs
from infohebb.errors import DivergenceError, MismatchError, NonFiniteDataError, UnknownNameError
from infohebb.functional.correlation import exact_running_inverse, running_inverse
from infohebb.networks.corinfomax import Presented

LABELS = torch.tensor([0, 1, 2, 0])


def drawn(*widths, samples=4, **options):
    torch.manual_seed(0)
    network = CorInfoMaxNetwork(6, 3, widths, entropy_gain=0.02, **options).double()
    return network, torch.rand(samples, 6, dtype=torch.float64)


def ends(network, x, rule, nudge):
    """States at the end of both phases that the rule compares."""
    shown, wanted = Presented(network, x), torch.eye(3, dtype=torch.float64)[LABELS]
    a = shown.settle(network.steps)
    b = shown.settle(rule.nudged_steps, wanted, nudge)
    if rule.phases == 3:
        a, nudge = shown.settle(rule.nudged_steps, wanted, -nudge), 2 * nudge
    return [x, *network.split(a)], [x, *network.split(b)], nudge


@pytest.mark.parametrize("widths", [(5,), (5, 4)])
@pytest.mark.parametrize("phases", [2, 3])
@pytest.mark.parametrize("nudge", [1.0, -0.5])
def test_updates_descend_the_difference_of_prediction_errors(widths, phases, nudge):
    """Autograd of ½ Σ (‖b_{k+1} - W b_k‖² - ‖a_{k+1} - W a_k‖²)/(β m), and of the same for V."""
    network, x = drawn(*widths)
    rule = CorInfoMax(nudge=nudge, random_sign=False, phases=phases)
    rule.attach(network)
    a, b, apart = ends(network, x, rule, nudge)
    cost = x.new_zeros(())
    for place, layer in enumerate(network.compartmental()):
        for states, sign in ((b, 1), (a, -1)):
            predicted = states[place] @ layer.feedforward.weight.T
            cost = cost + sign * (states[place + 1] - predicted).square().sum() / (2 * apart * len(x))
            if layer.feedback is not None:
                predicted = states[place + 2] @ layer.feedback.weight.T
                cost = cost + sign * (states[place + 1] - predicted).square().sum() / (2 * apart * len(x))
    parameters = list(network.parameters())
    expected = torch.autograd.grad(cost, parameters)
    rule.learn(network, x, LABELS)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-12)


def test_a_synapse_reads_the_compartments_of_its_two_neurons_in_both_phases():
    network, x = drawn(5, 4)
    rule = CorInfoMax(random_sign=False)
    rule.attach(network)
    wanted = torch.eye(3, dtype=torch.float64)[LABELS]
    before = copy.deepcopy(network)
    signals = rule.learn(network, x, LABELS, record=True).signals
    free, told = before.compartments(x)[-1], before.compartments(x, wanted, 1.0, rule.nudged_steps)[-1]
    a, b, _ = ends(before, x, rule, 1.0)
    for place in range(3):
        basal = [rates[place + 1] - layer[place].basal for rates, layer in ((a, free), (b, told))]
        given = signals[f"layers.{place}.feedforward"]
        error = torch.cat((basal[0], -basal[1])) / len(x) if place else (basal[0] - basal[1]) / len(x)
        torch.testing.assert_close(given["error"], error, rtol=1e-12, atol=1e-12)
        pre = torch.cat((a[place], b[place])) if place else x
        torch.testing.assert_close(given["pre"], pre, rtol=1e-12, atol=1e-12)
    feedback = before.layers[0].feedback.weight
    error = [rates[1] - rates[2] @ feedback.T for rates in (a, b)]
    given = signals["layers.0.feedback"]
    torch.testing.assert_close(given["error"], torch.cat((error[0], -error[1])) / len(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "recursion"), [("published", running_inverse), ("exact", exact_running_inverse)])
def test_inverse_correlations_follow_the_nudged_rates(name, recursion):
    network, x = drawn(5)
    rule = CorInfoMax(random_sign=False, forgetting=0.9, recursion=name)
    rule.attach(network)
    _, b, _ = ends(network, x, rule, 1.0)
    before = [layer.inverse_correlation.clone() for layer in network.compartmental()]
    rule.learn(network, x, LABELS)
    for layer, inverse, rates in zip(network.compartmental(), before, b[1:], strict=True):
        torch.testing.assert_close(layer.inverse_correlation, recursion(inverse, rates, 0.9))
        z = rates @ inverse
        moved = layer.inverse_correlation * 0.9 - inverse if name == "published" else None
        if moved is not None:  # entry (i, j) is made of its own two neurons' lateral potentials
            torch.testing.assert_close(moved[1, 2], -(1 - 0.9) / 0.9 * (z[:, 1] * z[:, 2]).mean())


def test_the_sign_of_the_nudge_is_drawn_and_the_answer_is_that_of_the_free_phase():
    network, x = drawn(5)
    seen = set()
    for seed in range(8):
        trained, rule = copy.deepcopy(network), CorInfoMax(nudge=0.5)
        rule.attach(trained)
        torch.manual_seed(seed)
        diagnostics = rule.learn(trained, x, LABELS)
        seen.add(round(float(trained.layers[0].feedforward.weight.grad.norm()), 9))
        expected = (network(x) - torch.eye(3, dtype=torch.float64)[LABELS]).square().mean()
        torch.testing.assert_close(diagnostics.loss, expected)
        assert diagnostics.correct is not None
    assert len(seen) == 2


def test_rates_are_by_layer_and_direction_and_frozen_weights_stay():
    network, x = drawn(5, 4)
    rule = CorInfoMax()
    assert {kind: len(listed) for kind, listed in rule.groups(network).items()} == {"forward": 3, "feedback": 2}
    network.layers[1].feedforward.weight.requires_grad_(False)
    rule.attach(network)
    rule.learn(network, x, LABELS)
    assert network.layers[1].feedforward.weight.grad is None
    assert len(rule.groups(network)["forward"]) == 2
    options = {"epochs": 1, "progress": False, "device": "cpu"}
    data = (x, LABELS)
    with pytest.raises(Exception, match=r"forward.*3 values.*2") as told:
        train(network, rule, data, optimizer={"lr": {"forward": [1.0, 0.7, 0.5], "feedback": 0.1}}, **options)
    assert "Traceback" not in str(told.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nudge": 0.0}, "nudge 0.0"),
        ({"nudge": float("inf")}, "nudge inf"),
        ({"nudged_steps": 0}, "nudged_steps 0"),
        ({"forgetting": 1.0}, "forgetting 1.0"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(options, words):
    with pytest.raises(MismatchError, match=words):
        CorInfoMax(**options).attach(drawn(5)[0])


def test_unknown_recursions_and_other_networks_are_refused():
    from infohebb import MLP

    rule = CorInfoMax()
    rule.recursion = "exactly"
    with pytest.raises(UnknownNameError, match=r"did you mean 'exact'"):
        rule.attach(drawn(5)[0])
    rule.phases = 4
    with pytest.raises(MismatchError, match="phases 4: give 2, or 3"):
        rule.attach(drawn(5)[0])
    with pytest.raises(MismatchError, match="trains a CorInfoMaxNetwork network, not a MLP"):
        CorInfoMax().attach(MLP(6, 3, (5,)))


def test_what_is_watched_is_measured_by_layer():
    network, x = drawn(5, 4, samples=30)
    rule = CorInfoMax()
    rule.attach(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    watched = rule.watch(network, x, torch.zeros(30, dtype=torch.int64))
    names = ["layers.0", "layers.1", "layers.2"]
    of_each = ("rate", "residual", "inverse_least", "inverse_most", "information", "forward")
    expected = {**dict.fromkeys(of_each, names), "angle": names[:2], "backward": names[1:]}
    assert {measure: list(layers) for measure, layers in watched.items()} == expected
    for name in names:
        assert watched["forward"][name] < watched["information"][name]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_training_keeps_what_is_watched_epoch_by_epoch():
    network = CorInfoMaxNetwork(8, 2, (8,))
    curves = train(network, CorInfoMax(), blobs(), epochs=2, batch=20, progress=False, device="cpu")
    assert curves["monitor"]["epoch"] == [0, 1, 2]
    assert len(curves["monitor"]["angle"]["layers.0"]) == 3


def test_a_network_that_runs_away_is_told_with_layer_epoch_and_mend():
    network = CorInfoMaxNetwork(8, 2, (8,), sparse=(1, 2), multiplier_rates=(1e-6, 1e-6))
    options = {"epochs": 30, "batch": 20, "progress": False, "device": "cpu"}
    with pytest.raises(DivergenceError, match=r"epoch \d+: layers\.\d.*lower optimizer\.lr"):
        train(network, CorInfoMax(), blobs(), optimizer={"lr": 1e4}, **options)


def silenced(network):
    """Its first hidden layer says nothing, whatever it is shown."""
    with torch.no_grad():
        network.layers[0].feedforward.weight.fill_(-1.0)
        network.layers[0].feedback.weight.zero_()
    return network


def test_a_network_that_collapses_is_told_with_layer_epoch_and_mend():
    data = (torch.rand(40, 8), torch.arange(40) % 2)
    with pytest.raises(DivergenceError, match=r"layers\.0 has collapsed.*lower optimizer\.lr"):
        train(silenced(CorInfoMaxNetwork(8, 2, (8,))), CorInfoMax(), data, epochs=1, progress=False, device="cpu")
    sharp = {"optimizer": {"lr": {"forward": 300.0, "feedback": 0.0}}, "progress": False, "device": "cpu"}
    with pytest.raises(DivergenceError, match=r"epoch \d+: layers\.\d.*has collapsed"):
        train(CorInfoMaxNetwork(8, 2, (8,)), CorInfoMax(), data, epochs=9, batch=20, **sharp)


def test_an_inverse_correlation_that_is_none_is_told_with_its_own_mend():
    network, x = drawn(5, samples=30)
    targets = torch.zeros(30, dtype=torch.int64)
    rule = CorInfoMax(forgetting=0.5)
    rule.attach(network)
    network.layers[0].inverse_correlation.mul_(1e6)
    rule.learn(network, x, targets)
    with pytest.raises(DivergenceError, match=r"layers\.0: its inverse_correlation is none.*rule\.forgetting nearer 1"):
        rule.watch(network, x, targets)
    network.layers[0].inverse_correlation.fill_(float("nan"))
    with pytest.raises(DivergenceError, match=r"layers\.0: its inverse_correlation is not finite.*recursion"):
        rule.learn(network, x, targets)


def test_targets_that_are_no_numbers_are_refused_as_such():
    network, x = drawn(5)
    rule, targets = CorInfoMax(), torch.rand(4, 3, dtype=torch.float64)
    rule.attach(network)
    targets[1, 1] = float("nan")
    with pytest.raises(NonFiniteDataError, match="targets hold NaN"):
        rule.learn(network, x, targets)


def test_compiled_steps_are_refused_where_they_bring_nothing():
    with pytest.raises(MismatchError, match="CorInfoMax trains a network as a whole"):
        train(CorInfoMaxNetwork(8, 2, (8,)), CorInfoMax(), blobs(), compiled=True, progress=False, device="cpu")
