"""The gradients of version 1's closed forms, and of the golden cases, through a Learner on plain modules."""

import copy
from functools import partial

import pytest
import torch

from infohebb import (
    Backprop,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    HSICBottleneck,
    KernelizedBottleneck,
    LastLayer,
    LayerwiseClassification,
    Learner,
    SignSymmetry,
)
from infohebb.networks import MLP, ConvNet, plain

IMAGE, CLASSES, SAMPLES = (2, 6, 6), 4, 12
NORM = {"groups": 4, "power": 0.2, "delta": 1.0}
NETWORKS = {
    "mlp": (MLP, plain.MLP, {"widths": (24, 20)}),
    "mlp, divisive norm": (MLP, plain.MLP, {"widths": (24, 20), "divisive_norm": NORM, "dropout": 0.0}),
    "mlp, batch norm": (MLP, plain.MLP, {"widths": (24, 20), "norm": "batch", "bias": True, "nonlinearity": "selu"}),
    "mlp, layer norm": (MLP, plain.MLP, {"widths": (24, 20), "norm": "layer", "nonlinearity": "tanh"}),
    "conv": (ConvNet, plain.ConvNet, {"channels": (8, 4), "pooled": (1,), "widths": (12,), "bias": True}),
    "conv, divisive norm": (
        ConvNet,
        plain.ConvNet,
        {"channels": (8, 4), "pooled": (1,), "widths": (12,), "divisive_norm": NORM},
    ),
    "conv, batch norm": (
        ConvNet,
        plain.ConvNet,
        {"channels": (8, 4), "pooled": (2,), "widths": (12,), "norm": "batch", "nonlinearity": "leaky_relu"},
    ),
    "conv, average pooling": (
        ConvNet,
        plain.ConvNet,
        {"channels": (8, 4), "pooled": (1,), "widths": (12,), "pooling": "average", "norm": "layer"},
    ),
}
KERNELS = ("gaussian", "gaussian_per_sqrt_dim", "gaussian_median", "cosine", "linear")
OBJECTIVES = ("phsic", "hsic", "phsic_bottleneck", "hsic_bottleneck", "nhsic_bottleneck")
RULES = {
    **{f"{kernel}, {mode}": (KernelizedBottleneck, {"kernel": kernel, "sigma": 2.0, **options})
       for kernel in KERNELS
       for mode, options in {"plain": {}, "groups": {"groups": 4}, "centre": {"centre": True}}.items()},
    **{objective: (KernelizedBottleneck, {"objective": objective, "sigma": 3.0}) for objective in OBJECTIVES},
    **{name: (KernelizedBottleneck, {"target_kernel": name, "sigma": 2.0})
       for name in ("frequency_centred_labels", "inverse_frequency_labels", "gaussian")},
    "hsic memory control": (HSICBottleneck, {}),
    **{f"layer-wise, {feedback}": (LayerwiseClassification, {"feedback": feedback, "projection": 32})
       for feedback in ("exact", "random", "sign")},
    "last layer": (LastLayer, {}),
    "backprop": (Backprop, {}),
    "backprop, squared": (Backprop, {"loss": "mean_squared_error"}),
    "direct feedback": (DirectFeedbackAlignment, {}),
    "feedback alignment": (FeedbackAlignment, {}),
    "feedback alignment, squared": (FeedbackAlignment, {"loss": "mean_squared_error", "initial": "xavier"}),
    "sign symmetry": (SignSymmetry, {}),
}  # fmt: skip


def batch():
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(SAMPLES, *IMAGE, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(CLASSES, (SAMPLES,), generator=generator)


def pair(network):
    """The same network, old and new, in float64."""
    make_old, make_new, options = NETWORKS[network]
    both = []
    for make in (make_old, make_new):
        torch.manual_seed(0)
        both.append(make(IMAGE, CLASSES, **options).double())
    return both


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("network", ["mlp", "mlp, divisive norm", "conv", "conv, divisive norm"])
def test_gradients_equal_those_of_version_1(network, rule):
    compare(*pair(network), *RULES[rule], batch())


@pytest.mark.parametrize(
    "rule",
    [
        *("gaussian, plain", "cosine, groups", "layer-wise, random", "backprop", "direct feedback"),
        *("feedback alignment", "sign symmetry"),
    ],
)
@pytest.mark.parametrize("network", [name for name in NETWORKS if "norm" in name or "average" in name])
def test_normalised_networks_equal_those_of_version_1(network, rule):
    compare(*pair(network), *RULES[rule], batch())


def test_continuous_targets_equal_those_of_version_1():
    inputs, _ = batch()
    targets = torch.randn(SAMPLES, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    for rule in (KernelizedBottleneck(sigma=2.0), HSICBottleneck(), LayerwiseClassification(), Backprop()):
        compare(*pair("mlp"), type(rule), {}, (inputs, targets))


def compare(old, new, make, options, samples):
    """Gradients, terms, loss and buffers after one step of each."""
    before, after = make(**options), make(**options)
    before.attach(old)
    learner = Learner(new, after)
    take_over(after, before, new)
    seen, step = before.learn(old, *samples), learner.backward(*samples)
    torch.testing.assert_close(step.loss, seen.loss, rtol=1e-12, atol=0)
    terms = [{name: float(value) for name, value in each.items()} for each in seen.objectives.values()]
    assert [pytest.approx(each, rel=1e-9, abs=1e-15) for each in terms] == list(map(dict, step.terms.values()))
    assert_same_gradients(ordered(old, before), ordered(new, after))
    for one, other in zip(old.buffers(), new.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def take_over(after, before, new):
    """Give a rule what another one has drawn: feedback by the place of a layer there, by a weight's name here."""
    if not isinstance(before, FeedbackAlignment):
        after.load_state_dict(before.state_dict())
        return
    names = [name for name, parameter in new.named_parameters() if parameter.dim() > 1]
    for place, name in enumerate(names[1:], start=1):
        after.matrices.find(name).copy_(before.feedback[place])


@pytest.mark.parametrize(
    "make",
    [FeedbackAlignment, SignSymmetry, partial(SignSymmetry, gradient_signs=True)],
    ids=["feedback alignment", "sign symmetry", "gradient signs"],
)
@pytest.mark.parametrize("network", ["mlp, divisive norm", "conv, divisive norm"])
def test_three_steps_equal_those_of_version_1(network, make):
    (old, new), before, after = pair(network), make(), make()
    before.attach(old)
    learner = Learner(new, after)
    take_over(after, before, new)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.01, momentum=0.9) for each in (old, new)]
    learner.bind(optimizers[1])
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        before.learn(old, *batch())
        before.finish(old.parameters())
        learner.backward(*batch())
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(old.parameters(), new.parameters(), strict=True):
        assert (one - other).abs().max() <= 1e-12 * one.abs().max()


def ordered(network, rule):
    return [*network.parameters(), *rule.parameters()]


def assert_same_gradients(ones, others):
    """Equal to 1e-12 of the parameter's largest; of one that is zero but for rounding, of a thousandth of all."""
    ones, others = [p.grad for p in ones], [p.grad for p in others]
    largest = max(float(gradient.abs().max()) for gradient in ones if gradient is not None)
    for one, other in zip(ones, others, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert (one - other).abs().max() <= 1e-12 * max(float(one.abs().max()), 1e-3 * largest)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    "rule",
    [
        *("gaussian, plain", "layer-wise, random", "direct feedback", "backprop", "last layer"),
        *("feedback alignment", "sign symmetry"),
    ],
)
def test_the_loss_sent_back_leaves_the_gradients_of_backward(network, rule):
    make, options = RULES[rule]
    torch.manual_seed(1)
    learner = Learner(pair(network)[1], make(**options))
    other = copy.deepcopy(learner)
    step = learner.backward(*batch())
    loss = other(*batch())
    loss.backward()
    objectives = sum(terms["objective"] for terms in step.terms.values())
    torch.testing.assert_close(loss.detach(), step.loss + objectives, rtol=1e-12, atol=1e-12)
    assert_same_gradients(learner.parameters(), other.parameters())
    for one, two in zip(learner.buffers(), other.buffers(), strict=True):
        assert torch.equal(one, two)
