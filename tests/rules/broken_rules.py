"""A rule that keeps the contract, and one for each way to break it. Each file of it could be a user's."""

import itertools
import random

import torch

from infohebb import LearningRule
from infohebb.errors import MismatchError
from infohebb.rules.base import Diagnostics
from infohebb.rules.layered import LayeredRule, LocalStep, block_signals


class Honest(LayeredRule):
    """Each neuron seeks a mean square of one, by pre × post; the readout learns by its delta rule."""

    def local_step(self, block, response, context):
        post = response.hidden
        error = self.factor(context) * post * (post.square().mean(0) - 1)
        return LocalStep({**block_signals(block, response), "error": error}, {})

    def factor(self, context):
        return 1.0


class NeedsArgument(Honest):
    """Cannot be built without arguments."""

    def __init__(self, rate):
        super().__init__()


class ForgetsGradient(Honest):
    """Leaves one gradient empty."""

    def learn(self, network, inputs, targets, **options):
        seen = super().learn(network, inputs, targets, **options)
        network.blocks[0].weight.grad = None
        return seen


class ChangesWeight(Honest):
    """Steps by itself."""

    def learn(self, network, inputs, targets, **options):
        with torch.no_grad():
            network.blocks[1].weight.mul_(0.99)
        return super().learn(network, inputs, targets, **options)


class HidesBuffer(Honest):
    """Moves a buffer that it does not name in `advances`."""

    def __init__(self):
        super().__init__()
        self.register_buffer("trace", torch.zeros(1))

    def learn(self, network, inputs, targets, **options):
        self.trace += 1
        return super().learn(network, inputs, targets, **options)


class KeepsGraph(Honest):
    """Returns a loss that carries a graph."""

    def learn(self, network, inputs, targets, **options):
        seen = super().learn(network, inputs, targets, **options)
        return Diagnostics(network(inputs).mean(), seen.correct, seen.objectives, seen.signals)


class DisturbsPrediction(Honest):
    """Makes the network change when it predicts."""

    def attach(self, network):
        super().attach(network)
        network.readout.register_forward_hook(lambda readout, x, y: y if readout.bias.data.add_(1e-3) is x else None)


class RollsDice(Honest):
    """Draws from a generator that no seed reaches."""

    def factor(self, context):
        return 1 + random.random()


class LosesState(Honest):
    """Counts its calls where `state_dict` does not see it."""

    calls = 0

    def context(self, network, inputs, targets):
        self.calls += 1

    def factor(self, context):
        return self.calls


class CountsSamples(Honest):
    """The order of samples in a batch changes its update, undeclared."""

    def context(self, network, inputs, targets):
        return torch.arange(1, len(inputs) + 1, dtype=inputs.dtype)[:, None]

    def factor(self, context):
        return context


class HidesSignal(Honest):
    """Its update is twice what the recorded signals give."""

    def learn(self, network, inputs, targets, **options):
        seen = super().learn(network, inputs, targets, **options)
        network.blocks[0].weight.grad.mul_(2)
        return seen


class MixesNeurons(Honest):
    """Each neuron's update depends on its neighbours' errors."""

    def postsynaptic_error(self, signals):
        error = signals["error"]
        return error + 0.1 * error.roll(1, 1)


class SecretSignal(Honest):
    """Gives its synapses a signal whose role it does not declare."""

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        return step._replace(signals={**step.signals, "secret": torch.ones(1)})


class WideThirdFactor(Honest):
    """Calls a number for each neuron a third factor."""

    broadcasts = frozenset({"third_factor"})

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        return step._replace(signals={**step.signals, "third_factor": response.hidden})


class TransportsWeights(Honest):
    """Uses the weights above without a word."""

    def context(self, network, inputs, targets):
        return [*network.blocks, network.readout]

    def local_step(self, block, response, context):
        above = next(up for here, up in itertools.pairwise(context) if here is block)
        error = response.hidden * above.weight.sum(0)
        return LocalStep({**block_signals(block, response), "error": error}, {})


class ListensToLoss(Honest):
    """Uses what the whole network answers without a word."""

    def context(self, network, inputs, targets):
        return network(inputs).square().mean()

    def factor(self, context):
        return context


class ClaimsTransport(Honest):
    """Declares a weight transport that it does not need."""

    weight_transport = True


class ClaimsGlobalError(Honest):
    """Declares a global error that it does not need."""

    global_error = True


class Unlearns(Honest):
    """Climbs the loss."""

    def learn(self, network, inputs, targets, **options):
        seen = super().learn(network, inputs, targets, **options)
        for p in network.readout.parameters():
            p.grad.neg_()
        return seen


class RefusesAll(Honest):
    """Trains nothing."""

    def attach(self, network):
        raise MismatchError("no network is good enough")


class FailsToAttach(Honest):
    """Raises where it should refuse."""

    def attach(self, network):
        raise KeyError("blocks")


class Crashes(Honest):
    """Raises in the middle of learning."""

    def local_step(self, block, response, context):
        return response.pre @ response.pre


class NoRule:
    """Not a rule at all."""


class HalfWritten(LearningRule):
    """Lacks the methods of a rule."""


BROKEN = {  # which promises each breaks: these, and no other
    NeedsArgument: {"builds without arguments"},
    HalfWritten: {"builds without arguments"},
    RefusesAll: {"trains some network"},
    FailsToAttach: {"attaches to the network", "trains some network"},
    ForgetsGradient: {"fills gradients"},
    ChangesWeight: {"fills gradients"},
    HidesBuffer: {"fills gradients"},
    KeepsGraph: {"keeps no graph"},
    DisturbsPrediction: {"prediction changes nothing", "fills gradients"},
    RollsDice: {
        "same seed same gradient",
        "state round trips",
        "batch order does not matter",
        "weights are not transported",
        "errors are not global",
    },
    LosesState: {"state round trips"},
    CountsSamples: {"batch order does not matter"},
    HidesSignal: {"update follows from signals"},
    MixesNeurons: {"update is local"},
    SecretSignal: {"update is local"},
    WideThirdFactor: {"update is local"},
    TransportsWeights: {"weights are not transported", "errors are not global"},
    ListensToLoss: {"errors are not global"},
    ClaimsTransport: {"weights are not transported"},
    ClaimsGlobalError: {"errors are not global"},
    Unlearns: {"learns blobs", "update follows from signals"},
    Crashes: {
        "fills gradients",
        "keeps no graph",
        "same seed same gradient",
        "state round trips",
        "batch order does not matter",
        "update follows from signals",
        "update is local",
        "weights are not transported",
        "errors are not global",
        "learns blobs",
    },
}
