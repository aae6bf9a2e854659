"""A user's own settling network and rule, small but whole, and ways to cheat with them."""

import torch
from torch import nn

from infohebb.networks import Settling
from infohebb.rules import SettlingRule
from infohebb.rules.settling import Experience


class Leaky(Settling):
    """One layer that settles, linear and leaky, to half of what its inputs send it; more layers it has not."""

    def __init__(self, inputs, outputs, widths=()):
        super().__init__(inputs, outputs, ())
        self.layers = nn.ModuleList([nn.Linear(self.sizes[0], outputs)])

    def settle(self, x, wanted=None):
        drive, r = self.layers[0](x), x.new_zeros(len(x), self.outputs)
        for _ in range(30):
            r = r + 0.3 * (drive - 2 * r if wanted is None else drive + wanted - 3 * r)
        return r

    def predict(self, x):
        return self.settle(x)


class Contrast(SettlingRule):
    """Hebbian where the output is told, anti-Hebbian where it is free."""

    network_type = Leaky

    def experience(self, network, x, wanted):
        free, told = network.settle(x), network.settle(x, wanted)
        pre, error = torch.cat((x, x)), torch.cat((free, -told)) / len(x)
        return Experience(free, {"layers.0": {"pre": pre, "error": error, "bias_pre": pre.new_ones(())}})


class SecretSignal(Contrast):
    """Gives its synapses a signal whose role it does not declare."""

    def experience(self, network, x, wanted):
        answers, signals = super().experience(network, x, wanted)
        return Experience(answers, {name: {**given, "secret": wanted} for name, given in signals.items()})


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


CHEATS = {  # which promise each breaks, and no other
    SecretSignal: "update is local",
    ReadsThirdNeuron: "update is local",
    ReadsThirdInput: "update is local",
    ChangesWhatItSaw: "update follows from signals",
    OneSideOnly: "update follows from signals",
}
