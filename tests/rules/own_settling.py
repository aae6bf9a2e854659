"""A user's own settling network and rule, small but whole, and ways to cheat with them."""

import torch
from torch import nn

from infohebb import CorInfoMax
from infohebb.networks import Settling
from infohebb.rules import SettlingRule
from infohebb.rules.settling import Experience
from rules.settling_cheats import ReadsItsNeighbour, Transport


class Leaky(Settling):
    """One layer that settles, linear and leaky, to half of what its inputs send it; more layers it has not."""

    def __init__(self, inputs, outputs, widths=()):
        super().__init__(inputs, outputs, ())
        self.layers = nn.ModuleList([nn.Linear(self.sizes[0], outputs)])

    def settle(self, x, target=None):
        drive, r = self.layers[0](x), x.new_zeros(len(x), self.outputs)
        for _ in range(30):
            r = r + 0.3 * (drive - 2 * r if target is None else drive + target - 3 * r)
        return r

    def predict(self, x):
        return self.settle(x)


class Contrast(SettlingRule):
    """Hebbian where the output is nudged, anti-Hebbian where it is free."""

    own_network = Leaky

    def experience(self, network, x, target):
        free, nudged = network.settle(x), network.settle(x, target)
        pre, error = torch.cat((x, x)), torch.cat((free, -nudged)) / len(x)
        return Experience(free, {"layers.0": {"pre": pre, "error": error}})


class SecretSignal(Contrast):
    """Gives its synapses a signal whose role it does not declare."""

    def experience(self, network, x, target):
        answers, signals = super().experience(network, x, target)
        return Experience(answers, {name: {**given, "secret": target} for name, given in signals.items()})


class ReadsThirdNeuron(Contrast):
    """A synapse is changed by the rate of a neuron that is at neither of its ends."""

    def update(self, signals, precision="fp32"):
        error = signals["error"] + 0.1 * signals["error"].roll(1, 1)
        return super().update({**signals, "error": error}, precision)


class ReadsThirdInput(Contrast):
    """A synapse is changed by an input that another one carries."""

    def update(self, signals, precision="fp32"):
        return super().update({**signals, "pre": signals["pre"] + 0.1 * signals["pre"].roll(1, 1)}, precision)


class ChangesWhatItSaw(Contrast):
    """Learns by other than what it records."""

    def learn(self, network, inputs, targets, **options):
        seen = super().learn(network, inputs, targets, **options)
        network.layers[0].weight.grad.add_(0.01 * network.layers[0].weight.detach())
        return seen


class OneSideOnly(Contrast):
    """Records the phase where it is told, and learns by both."""

    def learn(self, network, inputs, targets, **options):
        seen = super().learn(network, inputs, targets, **options)
        for given in seen.signals.values():
            given["pre"], given["error"] = (given[name][: len(inputs)] for name in ("pre", "error"))
        return seen


class ChangesGradients(Contrast):
    """Learns by other than what it hands over: behind the learner's back, a weight decay."""

    def backward(self, walk, inputs, targets):
        step, weight = super().backward(walk, inputs, targets), walk.model.layers[0].weight
        if weight.grad is not None:
            weight.grad.add_(0.01 * weight.detach())
        return step


class MixesNeurons(Contrast):
    """A synapse is changed by what another neuron's would be."""

    def backward(self, walk, inputs, targets):
        step, weight = super().backward(walk, inputs, targets), walk.model.layers[0].weight
        if weight.grad is not None:
            weight.grad.add_(0.1 * weight.grad.roll(1, 0))
        return step


class ForgetsLayer(Contrast):
    """Its layer gets no signals."""

    def experience(self, network, x, target):
        return Experience(super().experience(network, x, target).answers, {})


class Counting(Leaky):
    """A network that counts how often it was asked."""

    def __init__(self, inputs, outputs, widths=()):
        super().__init__(inputs, outputs, widths)
        self.register_buffer("asked", torch.zeros(()))

    def predict(self, x):
        self.asked += 1
        return super().predict(x)


class OnCounting(Contrast):
    """Trains networks that change when they predict."""

    own_network = Counting


class UndeclaredBuffer(CorInfoMax):
    """Does not declare that inverse correlations change in a step."""

    updated_buffers = frozenset()


CHEATS = {  # on version 1: which promise each breaks, and no other
    SecretSignal: "update is local",
    ReadsThirdNeuron: "update is local",
    ReadsThirdInput: "update is local",
    ChangesWhatItSaw: "update follows from signals",
    OneSideOnly: "update follows from signals",
}

ON_A_LEARNER = {  # which promises each breaks, and no other
    ChangesGradients: {"gradient is pre times error", "loss gives the same gradients"},
    MixesNeurons: {"gradient is pre times error", "loss gives the same gradients"},
    ForgetsLayer: {"fills gradients", "loss gives the same gradients", "learns blobs"},
    OnCounting: {"prediction changes nothing"},
    UndeclaredBuffer: {"changes no state"},
    Transport: {"weights elsewhere do not matter"},
    ReadsItsNeighbour: {"first layer receives the input", "learns blobs"},
}
