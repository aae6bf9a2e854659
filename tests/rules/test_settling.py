"""Rules on settling networks: their gradients, what they refuse, and that a network of any depth learns."""

import inspect

import pytest
import torch

from functional.oracles import assert_close, normal
from infohebb.errors import EmptyBatchError, LabelError, MismatchError, NonFiniteDataError, UnknownNameError
from infohebb.networks import MLP, EquilibriumNetwork, PredictiveCodingNetwork
from infohebb.rules import (
    ContrastiveSimilarityMatching,
    EquilibriumPropagation,
    PredictiveCoding,
    PredictiveCodingNudge,
)
from infohebb.training.seeding import seeded

ENERGY = {EquilibriumPropagation: False, ContrastiveSimilarityMatching: True}
PREDICTIVE = {PredictiveCoding: "sigmoid", PredictiveCodingNudge: "relu"}
RULES = [*ENERGY, *PREDICTIVE]
WIDTHS = [(), (8,), (9, 8), (9, 8, 7)]
X, LABELS = normal(6, 5).sigmoid(), torch.arange(6) % 3


def build(kind, widths=(9, 8), **settings):
    with seeded(0):
        if kind in ENERGY:
            network = EquilibriumNetwork(5, 3, widths, lateral=ENERGY[kind]).double()
        else:
            network = PredictiveCodingNetwork(5, 3, widths, nonlinearity=PREDICTIVE[kind]).double()
        rule = kind(**settings)
    rule.attach(network)
    return network, rule


def learn(network, rule, targets=LABELS, seed=0, **settings):
    network.zero_grad(set_to_none=True)
    with seeded(seed):
        return rule.learn(network, X, targets, **settings)


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("kind", RULES)
def test_all_that_learns_gets_what_its_signals_say(kind, widths):
    network, rule = build(kind, widths)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    diagnostics = learn(network, rule, record=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    learning = [p for listed in rule.groups(network).values() for p in listed]
    assert {id(p) for p in learning} == {id(p) for p in network.parameters()}
    for name, signals in diagnostics.signals.items():
        for parameter, gradient in rule.update(signals).items():
            assert torch.equal(network.get_submodule(name).get_parameter(parameter).grad, gradient)
            assert gradient.isfinite().all()
    assert sum(int(p.grad.any()) for p in learning) > len(learning) / 2
    assert len(diagnostics.signals) == len([name for name, p in network.named_parameters() if p.dim() == 2])
    answers = network(X)
    assert_close(diagnostics.loss, (answers - torch.eye(3, dtype=X.dtype)[LABELS]).square().mean(), 1e-12)
    assert torch.equal(diagnostics.correct, answers.argmax(1) == LABELS)


@pytest.mark.parametrize("kind", RULES)
def test_continuous_targets_are_taken_as_they_are(kind):
    network, rule = build(kind)
    wanted = torch.eye(3, dtype=X.dtype)[LABELS]
    if kind is PredictiveCoding:
        wanted = 0.94 * wanted + 0.03
    learn(network, rule)
    expected = [p.grad.clone() for p in network.parameters()]
    diagnostics = learn(network, rule, wanted)
    assert diagnostics.correct is None
    assert_close(diagnostics.loss, (network(X) - wanted).square().mean(), 1e-12)
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert_close(parameter.grad, gradient, 1e-12)
    learn(network, rule, wanted.float())
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert_close(parameter.grad, gradient, 1e-4)


@pytest.mark.parametrize("kind", [EquilibriumPropagation, ContrastiveSimilarityMatching, PredictiveCodingNudge])
def test_a_random_sign_is_drawn_for_each_batch(kind):
    network, rule = build(kind, random_sign=True)
    fixed = {}
    for sign in (1, -1):
        other = build(kind, random_sign=False, nudge=sign * rule.nudge)[1]
        learn(network, other)
        fixed[sign] = network.layers[1].weight.grad.clone()
    assert not torch.equal(fixed[1], fixed[-1])
    drawn = []
    for seed in range(8):
        learn(network, rule, seed=seed)
        drawn.append([sign for sign in fixed if torch.equal(network.layers[1].weight.grad, fixed[sign])])
    assert sorted({sign for (sign,) in drawn}) == [-1, 1]


def test_rates_can_be_given_layer_by_layer():
    network, rule = build(ContrastiveSimilarityMatching)
    groups = {kind: [tuple(p.shape) for p in listed] for kind, listed in rule.groups(network).items()}
    assert groups == {
        "forward": [(9, 5), (8, 9), (3, 8)],
        "bias": [(9,), (8,), (3,)],
        "lateral": [(9, 9), (8, 8)],
    }
    network, rule = build(EquilibriumPropagation)
    assert list(rule.groups(network)) == ["forward", "bias"]


def test_lateral_weights_start_as_a_wishart_matrix_and_stay_symmetric():
    with seeded(0):
        network = EquilibriumNetwork(5, 3, (200,), lateral=True)
    lateral = network.laterals[0].weight.detach()
    assert_close(lateral, lateral.T, 1e-6)
    assert abs(lateral.diagonal().mean() - 1) < 0.05
    spectrum = torch.linalg.eigvalsh(lateral)
    assert spectrum.min() > -1e-4
    assert 3 < spectrum.max() < 4.5
    network, rule = build(ContrastiveSimilarityMatching)
    learn(network, rule)
    gradient = network.laterals[0].weight.grad
    assert_close(gradient, gradient.T, 1e-12)


def test_weights_start_as_published():
    with seeded(0):
        equilibrium, predictive = EquilibriumNetwork(300, 10, (200,)), PredictiveCodingNetwork(300, 10, (200,))
    bound = (6 / 500) ** 0.5
    assert 0.999 * bound < equilibrium.layers[0].weight.abs().max() <= bound
    assert not equilibrium.layers[0].bias.any()
    bound = (6 / 300) ** 0.5
    assert 0.999 * bound < predictive.layers[0].weight.abs().max() <= bound
    assert 0.95 * 300**-0.5 < predictive.layers[0].bias.abs().max() <= 300**-0.5


@pytest.mark.parametrize("lateral", [False, True])
@pytest.mark.parametrize("widths", WIDTHS)
def test_a_slight_nudge_finds_the_gradient_of_the_free_networks_loss(widths, lateral):
    """Scellier & Bengio's theorem, where autograd goes back through all of settling."""
    kind = ContrastiveSimilarityMatching if lateral else EquilibriumPropagation
    network, rule = build(kind, widths, nudge=1e-5, random_sign=False, nudged_steps=600)
    network.step, network.steps = 0.2, 600
    for layer in network.layers:  # so that it comes to rest, most rates between 0 and 1
        layer.weight.data.mul_(0.4)
        layer.bias.data.fill_(0.4)
    rates = [torch.zeros(len(X), size, dtype=X.dtype) for size in network.sizes[1:]]
    forward = [p for layer in network.layers for p in layer.parameters()]
    with torch.enable_grad():
        for _ in range(600):
            slopes = torch.autograd.grad(plain(network, [s.requires_grad_() for s in rates]), rates, create_graph=True)
            rates = [(s - 0.2 * slope).clip(0, 1) for s, slope in zip(rates, slopes, strict=True)]
        loss = (rates[-1] - torch.eye(3, dtype=X.dtype)[LABELS]).square().sum() / len(X)
        expected = torch.autograd.grad(loss, forward)
    learn(network, rule)
    for parameter, gradient in zip(forward, expected, strict=True):
        assert gradient.abs().max() > 1e-4
        assert_close(parameter.grad, gradient, 1e-3)


def plain(network, rates):
    """Φ of all samples, from its definition."""
    synapses, below, total = network.synapses(), X, 0
    for s, W, b in zip(rates, synapses.weights, synapses.biases, strict=True):
        total, below = total + (s * s).sum() / 2 - (s * (below @ W.T + b)).sum(), s
    for s, M in zip(rates[:-1], synapses.laterals, strict=False):
        total = total + (s @ M * s).sum() / 2
    return total


def test_wide_layers_come_to_rest_at_half_the_published_gain():
    residuals = {}
    for gain in (0.5, 1.0):
        with seeded(0):
            network = EquilibriumNetwork(5, 3, (200, 200), steps=60, gain=gain).double()
        drive = network.drive(X)
        states = network.settle(drive)
        after = network.settle(drive, states, 1)
        expected = [max(float((a - b)[i].abs().max()) for a, b in zip(after, states, strict=True)) for i in range(6)]
        residuals[gain] = network.residual(drive, states)
        assert residuals[gain].tolist() == expected
        if gain == 0.5:
            half = [layer.weight.detach() for layer in network.layers]
    assert residuals[0.5].max() < 1e-4 < 1e-2 < residuals[1.0].max()
    for layer, weight in zip(network.layers, half, strict=True):
        assert_close(layer.weight.detach(), 2 * weight, 1e-6)


LEARNING = {
    EquilibriumPropagation: {"nudged_steps": 60},
    ContrastiveSimilarityMatching: {"nudged_steps": 12},
    PredictiveCoding: {},
    PredictiveCodingNudge: {},
}
RATE = {EquilibriumPropagation: 0.1, ContrastiveSimilarityMatching: 0.3, PredictiveCoding: 0.6}


@pytest.mark.slow
@pytest.mark.parametrize("kind", RULES)
def test_it_learns_to_tell_two_clouds_apart_beyond_one_hidden_layer(kind):
    with seeded(0):
        labels = torch.arange(40) % 2
        x = (torch.randn(40, 6) + 3.0 * labels[:, None] - 1.5).sigmoid()
        if kind in ENERGY:
            network = EquilibriumNetwork(6, 2, (16, 16), lateral=ENERGY[kind], steps=40)
        else:
            network = PredictiveCodingNetwork(6, 2, (16, 16), PREDICTIVE[kind])
        rule = kind(**LEARNING[kind])
        rule.attach(network)
        optimizer = torch.optim.SGD(network.layers.parameters(), RATE.get(kind, 0.003))
        before = rule.learn(network, x, labels).loss
        for _ in range(200):
            optimizer.zero_grad(set_to_none=True)
            rule.learn(network, x, labels)
            optimizer.step()
        after = rule.learn(network, x, labels)
    assert after.loss < 0.5 * before
    assert after.correct.float().mean() > 0.9


@pytest.mark.parametrize("kind", RULES)
def test_a_batch_that_is_none_is_refused(kind):
    network, rule = build(kind)
    for bad in (float("nan"), float("inf")):
        inputs = X.clone()
        inputs[2, 1] = bad
        with pytest.raises(NonFiniteDataError, match="take out such samples"):
            rule.learn(network, inputs, LABELS)
    with pytest.raises(MismatchError, match=r"inputs have shape \(6, 4\); give \(samples, 5\)"):
        rule.learn(network, X[:, :4], LABELS)
    with pytest.raises(MismatchError, match=r"inputs are torch\.float32"):
        rule.learn(network, X.float(), LABELS)
    with pytest.raises(LabelError):
        rule.learn(network, X, LABELS + 1)
    with pytest.raises(EmptyBatchError):
        rule.learn(network, X[:0], LABELS[:0])
    with pytest.raises(MismatchError, match="continuous targets"):
        rule.learn(network, X, X[:, :2])


WRONG_RULES = [
    (EquilibriumPropagation, {"nudge": 0}, "nudge 0"),
    (EquilibriumPropagation, {"nudge": 0.0}, "nudge 0.0"),
    (ContrastiveSimilarityMatching, {"nudge": float("nan")}, "nudge nan"),
    (PredictiveCodingNudge, {"nudge": 0}, "nudge 0"),
    (EquilibriumPropagation, {"nudged_steps": 0}, "nudged_steps 0: give a whole number of at least 1"),
    (ContrastiveSimilarityMatching, {"nudged_steps": 4.0}, "nudged_steps 4.0"),
    (PredictiveCoding, {"steps": 0}, "steps 0: give a whole number of at least 1"),
    (PredictiveCodingNudge, {"steps": True}, "steps True"),
    (PredictiveCoding, {"step": "fast"}, "step 'fast': give a number above 0 and below 2"),
    (PredictiveCoding, {"step": 2.0}, "step 2.0: give a number above 0 and below 2"),
    (PredictiveCodingNudge, {"step": 1.0}, "step 1.0: give a number above 0 and below 1"),
    (PredictiveCoding, {"step": 0}, "step 0: give a number above 0"),
]


@pytest.mark.parametrize(("kind", "settings", "message"), WRONG_RULES)
def test_settings_that_cannot_be_are_refused_when_the_rule_meets_its_network(kind, settings, message):
    with pytest.raises(MismatchError, match=message):
        change(build(kind), **settings)


def change(built, **settings):
    """Attach the rule once more, with other settings, where no type was checked."""
    network, rule = built
    vars(rule).update(settings)
    rule.attach(network)


WRONG_NETWORKS = [
    (EquilibriumNetwork, {"steps": 0}, "steps 0"),
    (EquilibriumNetwork, {"step": "0.5"}, "step '0.5'"),
    (EquilibriumNetwork, {"step": float("inf")}, "step inf"),
    (EquilibriumNetwork, {"steps": 20.0}, "steps 20.0"),
    (EquilibriumNetwork, {"step": 2.0}, "step 2.0: give a number above 0 and below 2"),
    (EquilibriumNetwork, {"gain": 0.0}, "gain 0.0: give a number above 0"),
    (EquilibriumNetwork, {"gain": None}, "gain None"),
    (EquilibriumNetwork, {"widths": (8, 0)}, "no layer may be empty"),
    (PredictiveCodingNetwork, {"widths": (-1,)}, "no layer may be empty"),
    (PredictiveCodingNetwork, {"outputs": 0}, "no layer may be empty"),
]


@pytest.mark.parametrize(("kind", "settings", "message"), WRONG_NETWORKS)
def test_a_network_that_cannot_be_is_refused(kind, settings, message):
    with pytest.raises(MismatchError, match=message):
        inspect.unwrap(kind.__init__)(kind.__new__(kind), **settings)  # without the type checks of the tests


def test_a_nonlinearity_that_is_none_of_its_own_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'sigmoid'"):
        inspect.unwrap(PredictiveCodingNetwork.__init__)(
            PredictiveCodingNetwork.__new__(PredictiveCodingNetwork), nonlinearity="sigmoids"
        )


@pytest.mark.parametrize("kind", RULES)
def test_a_network_of_another_kind_is_refused(kind):
    other = PredictiveCodingNetwork() if kind in ENERGY else EquilibriumNetwork()
    for network in (other, MLP()):
        with pytest.raises(MismatchError, match="trains a"):
            kind().attach(network)


def test_lateral_learning_needs_lateral_weights():
    with pytest.raises(MismatchError, match=r"build EquilibriumNetwork\(..., lateral=True\)"):
        ContrastiveSimilarityMatching().attach(EquilibriumNetwork())
