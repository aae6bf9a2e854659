"""The reference code's own numbers, through a Learner on plain modules: the tests of version 1 on a bridge to it."""

import math

import pytest
import torch

from infohebb import (
    Backprop,
    FeedbackAlignment,
    KernelizedBottleneck,
    LastLayer,
    LayerwiseClassification,
    Learner,
    SignSymmetry,
)
from infohebb.networks import plain
from infohebb.rules.base import Diagnostics
from rules import test_golden as version_1

WHOLE = (Backprop, FeedbackAlignment, SignSymmetry)  # rules that train all of a network at one rate


class Layer:
    """A plain layer by the names of version 1's blocks."""

    def __init__(self, layer):
        self.layer, parts = layer, dict(layer.activity.named_children())
        self.weight, self.batch_norm = (parts.get("linear") or parts["conv"]).weight, parts.get("norm")

    def named_parameters(self):
        yield "weight", self.weight
        for name in ("weight", "bias") if self.batch_norm else ():
            yield f"batch_norm.{name}", getattr(self.batch_norm, name)

    def respond(self, x, *, learning=False):
        with torch.no_grad():
            self.activity = self.layer.train(learning).activity(x)
        self.layer.train()
        return self

    def __call__(self, x):
        with torch.no_grad():
            output = self.layer.eval()(x)
        self.layer.train()
        return output


class Bridged:
    """Blocks of version 1 by name, and predictions as in evaluation."""

    @property
    def blocks(self):
        return [Layer(layer) for layer in self.layers]

    def __call__(self, x):
        if self.learns:
            return super().__call__(x)
        self.eval()
        with torch.no_grad():
            output = super().__call__(x)
        self.train()
        return output

    learns = False


class MLP(Bridged, plain.MLP):
    pass


class ConvNet(Bridged, plain.ConvNet):
    pass


def bridged(rule):
    """A rule with the calls of version 1, each of them made of the Learner's."""

    class Rule(rule):
        def attach(self, network):
            self.__dict__["learner"] = learner = Learner(network, self)
            learner.bind(torch.optim.SGD(learner.param_groups(), lr=0.1))  # `finish` takes its place

        def groups(self, network):
            groups = self.learner.param_groups(units=1.0, head=1.0, rule=1.0)
            found = {group["role"]: group["params"] for group in groups}
            if isinstance(self, WHOLE):
                return {"readout": [*found["units"], *found["head"]]}
            local = [*found.get("units", []), *found.get("rule", [])]
            return ({"local": local} if local else {}) | {"readout": found["head"]}

        def learn(self, network, inputs, targets):
            learner = self.learner if self.learner.model is network else Learner(network, self)
            network.learns = True
            learner.zero_grad()
            step = learner.backward(inputs, targets, accumulate=True)
            network.learns = False
            terms = {f"blocks.{place}": dict(each) for place, each in enumerate(step.terms.values())}
            return Diagnostics(step.loss, step.correct, terms)

    return Rule


class AlignmentByPlace(bridged(FeedbackAlignment)):
    """Feedback alignment whose matrices are known by the place of a layer."""

    @property
    def feedback(self):
        names = [name for name, p in self.learner.model.named_parameters() if p.dim() > 1]
        return {place: self.matrices.find(name) for place, name in enumerate(names)}


@pytest.fixture(autouse=True)
def on_the_learner(monkeypatch):
    """What the tests of version 1 build is new."""
    for name, value in {"MLP": MLP, "ConvNet": ConvNet}.items():
        monkeypatch.setattr(version_1, name, value)
    for rule in (KernelizedBottleneck, LastLayer, LayerwiseClassification, Backprop, SignSymmetry):
        monkeypatch.setattr(version_1, rule.__name__, bridged(rule))
    monkeypatch.setattr(version_1, "FeedbackAlignment", AlignmentByPlace)


def test_layers():
    for file in sorted(
        {"layer_fc_lrelu001"} | {f"layer_fc_{n}" for n in version_1.NONLINEARITIES} & version_1.found("*")
    ):
        version_1.test_a_layer_learns_as_in_the_reference_code(file)
    version_1.test_a_layer_with_batch_norm_learns_as_in_the_reference_code()
    version_1.test_a_layer_learns_by_equation_2_as_in_the_reference_code()


def test_convolutional_layers():
    for file in sorted(version_1.MAPS | version_1.found("layer_conv_*.npz")):
        version_1.test_a_convolutional_layer_learns_as_in_the_reference_code(file)


@pytest.mark.parametrize("file", sorted(version_1.TRAINED | version_1.found("train_*.npz")))
def test_whole_networks(file):
    version_1.test_a_network_trains_as_in_the_reference_code(file)


def test_the_bridge_is_crossed():
    network, rule = MLP(4, 3, (6,)), version_1.KernelizedBottleneck()
    rule.attach(network)
    seen = rule.learn(network, torch.randn(8, 4), torch.arange(8) % 3)
    assert isinstance(rule.learner, Learner)
    assert math.isfinite(seen.loss)
