"""A rule that keeps the contract, and one for each way to break it. Each file of it could be a user's."""

import itertools
import random

import torch

from infohebb import LearningRule
from infohebb.errors import MismatchError
from infohebb.rules import LayerwiseClassification
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


class Waits(Honest):
    """Honest too: it learns nothing from its first two batches, and says so."""

    advances = (*Honest.advances, "batches")
    longest = 2

    def __init__(self):
        super().__init__()
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def learn(self, network, inputs, targets, **options):
        self.batches += 1
        if self.batches > self.longest:
            return super().learn(network, inputs, targets, **options)
        return Diagnostics(torch.zeros(()), None, waiting=True)


class NeedsArgument(Honest):
    """Cannot be built without arguments."""

    def __init__(self, rate):
        super().__init__()


class FailsToBuild(Honest):
    """Raises where it should store."""

    def __init__(self):
        raise ValueError("boom\nand bang")


class Reseeds(Honest):
    """Draws the same numbers again in each batch, and has everybody else do so."""

    def learn(self, network, inputs, targets, **options):
        torch.manual_seed(0)
        return super().learn(network, inputs, targets, **options)


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


class MixesBiases(Honest):
    """Each bias learns from its neighbours' errors."""

    def update(self, signals, precision="fp32"):
        gradients = super().update(signals, precision)
        return {name: g + 0.1 * g.roll(1, 0) if name == "bias" else g for name, g in gradients.items()}


class MixesBatchNorms(Honest):
    """Each batch norm's scale learns from its neighbours' errors."""

    def update(self, signals, precision="fp32"):
        gradients = super().update(signals, precision)
        return {name: g + 0.1 * g.roll(1, 0) if name == "batch_norm.weight" else g for name, g in gradients.items()}


class WideBias(Honest):
    """Tells each neuron more than a constant as the presynaptic end of its bias."""

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        return step._replace(signals={**step.signals, "bias_pre": response.hidden.mean(0)})


class MixesInputs(Honest):
    """Calls presynaptic what each synapse's neighbours received."""

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        return step._replace(signals={**step.signals, "pre": response.pre + 0.1 * response.pre.roll(1, 1)})


class LateralMixer(Honest):
    """Calls error of a neuron what dense lateral weights, undeclared, bring it from the others."""

    def local_step(self, block, response, context):
        error = response.hidden @ lateral_weights(block) / block.width
        return LocalStep({**block_signals(block, response), "error": error}, {})


class MixesUnderOneFactor(LateralMixer):
    """Takes the whole layer for one group."""

    broadcasts = frozenset({"third_factor"})

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        return step._replace(signals={**step.signals, "third_factor": torch.ones_like(response.hidden[:, :1])})


class MixesTwoNeurons(Honest):
    """One neuron's error holds one other's."""

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        step.signals["error"][:, 5] += 0.1 * step.signals["error"][:, 12]
        return step


class MixesLastBatch(Honest):
    """Each neuron's error depends on its neighbours' activity in the batch before."""

    advances = (*Honest.advances, "last")

    def __init__(self):
        super().__init__()
        self.register_buffer("last", torch.ones(3, 64))

    def attach(self, network):
        super().attach(network)
        self.last = self.last.to(next(network.parameters()).dtype)

    def context(self, network, inputs, targets):
        return list(network.blocks)

    def local_step(self, block, response, context):
        last = self.last[next(position for position, here in enumerate(context) if here is block), : block.width]
        step = super().local_step(block, response, None)
        step.signals["error"] *= last.roll(1)
        last.copy_(response.hidden.square().mean(0))
        return step


class KeepsErrorsToItself(LateralMixer):
    """Records an error of zero, and adds in `update` what it kept."""

    def attach(self, network):
        super().attach(network)
        self.kept = {}

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        self.kept[block.width] = step.signals["error"]
        return step._replace(signals={**step.signals, "error": torch.zeros_like(response.hidden)})

    def postsynaptic_error(self, signals):
        return signals["error"] + self.kept.get(signals["error"].shape[1], 0)


class WaitsForEver(Waits):
    """Always says that it waits."""

    longest = 10**9


class FillsWhileWaiting(Waits):
    """Has a gradient for the readout while it says that it waits."""

    def learn(self, network, inputs, targets, **options):
        seen = super().learn(network, inputs, targets, **options)
        if seen.waiting:
            network.readout.bias.grad = torch.ones_like(network.readout.bias)
        return seen


class AllocatesFloat32(Honest):
    """Allocates in single precision, whatever the network's."""

    def attach(self, network):
        super().attach(network)
        self.register_buffer("lateral", torch.eye(64))

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        error = step.signals["error"] @ self.lateral[: block.width, : block.width]
        return step._replace(signals={**step.signals, "error": error})


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


class RemembersWeights(Honest):
    """Uses the weights above as they were in the batch before."""

    advances = (*Honest.advances, "above")

    def attach(self, network):
        super().attach(network)
        like = next(network.parameters())
        self.register_buffer("above", torch.zeros(len(network.blocks), 64, dtype=like.dtype))

    def context(self, network, inputs, targets):
        return list(network.blocks)

    def local_step(self, block, response, context):
        above = self.above[next(position for position, here in enumerate(context) if here is block), : block.width]
        step = super().local_step(block, response, None)
        step.signals["error"] *= 1 + above
        return step

    def learn(self, network, inputs, targets, **options):
        seen = super().learn(network, inputs, targets, **options)
        for position, above in enumerate([*network.blocks, network.readout][1:]):
            self.above[position, : above.weight.shape[1]] = above.weight.detach().sum(0)
        return seen


class ListensToLoss(Honest):
    """Uses what the whole network answers without a word."""

    def context(self, network, inputs, targets):
        return network(inputs).square().mean()

    def factor(self, context):
        return context


class TransportsOwnWeights(LayerwiseClassification):
    """Uses the weights of its classifiers without a word."""

    def attach(self, network):
        super().attach(network)
        self.weight_transport = False


class LearnsAtTheEnd(Honest):
    """Goes up to the readout first, and lets its blocks learn only then."""

    def learn(self, network, inputs, targets, **options):
        network(inputs)
        return super().learn(network, inputs, targets, **options)


class ClaimsUpdateLocking(Honest):
    """Declares that it waits, and does not."""

    update_locking = True


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


def lateral_weights(block):
    """Dense weights between a block's neurons, the same for each block of its width."""
    generator = torch.Generator().manual_seed(block.width)
    return torch.randn(block.width, block.width, generator=generator).to(block.weight.dtype)


class NoRule:
    """Not a rule at all."""


class HalfWritten(LearningRule):
    """Lacks the methods of a rule."""


LEARNING = {  # promises that each call `learn`
    "fills gradients",
    "keeps no graph",
    "same seed same gradient",
    "does not reseed",
    "state round trips",
    "batch order does not matter",
    "update follows from signals",
    "update is local",
    "presynaptic signals are what came in",
    "postsynaptic signals are the neurons own",
    "weights are not transported",
    "errors are not global",
    "learning does not wait",
}


class MixesChannels(Honest):
    """A convolution's neurons are handed the error of the channel beside theirs."""

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        mixed = step.signals["error"].roll(1, 1) if block.geometry else step.signals["error"]
        return step._replace(signals={**step.signals, "error": mixed})


class ShiftsMaps(Honest):
    """A convolution's synapses are told of the map beside the one that they see."""

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        moved = step.signals["pre"].roll(1, -1) if block.geometry else step.signals["pre"]
        return step._replace(signals={**step.signals, "pre": moved})


class MixesKernels(Honest):
    """A convolution's weights change as those of another channel should."""

    def update(self, signals, precision="fp32"):
        gradients = super().update(signals, precision)
        if gradients["weight"].dim() == 4:
            gradients["weight"] = gradients["weight"] + gradients["weight"].flip(0)
        return gradients


def refuse_maps_and_batches(network):
    """What the small rules on streams are not made for."""
    if any(block.batch_norm is not None or block.geometry is not None for block in network.blocks):
        raise MismatchError("no batch to normalise by, and no maps, please")


class OneByOne(Honest):
    """Honest too: from single samples, each neuron learns by how it and its inputs differ from their own averages."""

    consumes = "sample"
    order_matters = True
    advances = ("pre_traces", "post_traces")

    def __init__(self):
        super().__init__()
        self.register_buffer("pre_traces", torch.zeros(3, 64))
        self.register_buffer("post_traces", torch.zeros(3, 64))

    def attach(self, network):
        super().attach(network)
        refuse_maps_and_batches(network)
        self.to(next(network.parameters()).dtype)

    def context(self, network, inputs, targets):
        return list(network.blocks)

    def local_step(self, block, response, context):
        place = next(position for position, here in enumerate(context) if here is block)
        kept = self.pre_traces[place, : block.weight.shape[1]], self.post_traces[place, : block.width]
        pre_average, post_average = (trace.clone()[None] for trace in kept)
        for trace, now in zip(kept, (response.pre[0], response.hidden[0]), strict=True):
            trace.lerp_(now, 0.5)
        signals = {**block_signals(block, response), "post": response.hidden}
        return LocalStep({**signals, "pre_average": pre_average, "post_average": post_average}, {})

    def update(self, signals, precision="fp32"):
        if "error" in signals:
            return super().update(signals, precision)
        error = (signals["post"] - signals["post_average"]) * (signals["post"].square() - 1)
        return super().update({"pre": signals["pre"] - signals["pre_average"], "error": error})


class ReadsOthersTraces(OneByOne):
    """Each neuron compares itself with the average of the one beside it."""

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        return step._replace(signals={**step.signals, "post_average": step.signals["post_average"].roll(1, 1)})


class ReadsOtherInputs(OneByOne):
    """Each synapse compares its input with the average of the one beside it."""

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        average = step.signals["pre_average"]
        return step._replace(signals={**step.signals, "pre_average": average.lerp(average.roll(1, 1), 0.01)})


class RemembersInputsMixed(OneByOne):
    """Calls presynaptic what came in now and before, mixed."""

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        return step._replace(signals={**step.signals, "pre": step.signals["pre"] + 0.1 * step.signals["pre_average"]})


class Remembers(Honest):
    """Honest too: from a window, each neuron drifts from what it was when others of the window were there."""

    consumes = "window"
    order_matters = True
    broadcasts = frozenset({"third_factor"})

    def attach(self, network):
        super().attach(network)
        refuse_maps_and_batches(network)

    def local_step(self, block, response, context):
        seen = block_signals(block, response)
        signals = {name: value[-1:] if name == "pre" else value for name, value in seen.items()}
        post = response.hidden.flatten(1)
        third_factor = (post[:-1] - post[-1]).square().mean(1).neg().exp()[None]
        kept = {"post": post[-1:], "memory": post[:-1].clone(), "third_factor": third_factor}
        return LocalStep({**signals, **kept}, {})

    def update(self, signals, precision="fp32"):
        if "error" in signals:
            return super().update(signals, precision)
        apart = signals["third_factor"] @ (signals["memory"] - signals["post"])
        return super().update({**{k: v for k, v in signals.items() if k != "memory"}, "error": apart})


class AveragesWindows(Remembers):
    """Calls presynaptic the mean of what came in."""

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        return step._replace(signals={**step.signals, "pre": response.pre[-1:].lerp(response.pre.mean(0), 0.01)})


class MixesMemories(Remembers):
    """Each neuron remembers what the one beside it was."""

    def local_step(self, block, response, context):
        step = super().local_step(block, response, context)
        return step._replace(signals={**step.signals, "memory": step.signals["memory"].roll(1, 1)})


BROKEN = {  # which promises each breaks: these, and no other
    NeedsArgument: {"builds without arguments"},
    HalfWritten: {"builds without arguments"},
    FailsToBuild: {"builds without arguments"},
    RefusesAll: {"trains some network"},
    FailsToAttach: {"attaches to the network", "trains some network"},
    ForgetsGradient: {"fills gradients"},
    ChangesWeight: {"fills gradients", "presynaptic signals are what came in"},
    HidesBuffer: {"fills gradients"},
    KeepsGraph: {"keeps no graph"},
    DisturbsPrediction: {"prediction changes nothing", "fills gradients"},
    RollsDice: {
        "same seed same gradient",
        "state round trips",
        "batch order does not matter",
        "postsynaptic signals are the neurons own",
        "weights are not transported",
        "errors are not global",
    },
    Reseeds: {"does not reseed"},
    LosesState: {"state round trips"},
    CountsSamples: {"batch order does not matter"},
    HidesSignal: {"update follows from signals"},
    KeepsErrorsToItself: {"update follows from signals", "update is local"},
    MixesNeurons: {"update is local"},
    MixesBiases: {"update is local"},
    MixesBatchNorms: {"update is local"},
    SecretSignal: {"update is local"},
    WideThirdFactor: {"update is local"},
    WideBias: {"update is local"},
    MixesKernels: {"update is local"},
    ShiftsMaps: {"presynaptic signals are what came in"},
    MixesChannels: {"postsynaptic signals are the neurons own"},
    MixesInputs: {"presynaptic signals are what came in"},
    ReadsOthersTraces: {"postsynaptic signals are the neurons own"},
    ReadsOtherInputs: {"presynaptic signals are what came in"},
    RemembersInputsMixed: {"presynaptic signals are what came in"},
    AveragesWindows: {"presynaptic signals are what came in"},
    MixesMemories: {"postsynaptic signals are the neurons own"},
    LateralMixer: {"postsynaptic signals are the neurons own"},
    MixesUnderOneFactor: {"postsynaptic signals are the neurons own"},
    MixesTwoNeurons: {"postsynaptic signals are the neurons own"},
    MixesLastBatch: {"postsynaptic signals are the neurons own"},
    TransportsWeights: {"weights are not transported", "errors are not global"},
    RemembersWeights: {"weights are not transported", "errors are not global"},
    TransportsOwnWeights: {"weights are not transported"},
    ListensToLoss: {
        "errors are not global",
        "learning does not wait",
        "postsynaptic signals are the neurons own",
    },
    LearnsAtTheEnd: {"learning does not wait"},
    ClaimsUpdateLocking: {"learning does not wait"},
    ClaimsTransport: {"weights are not transported"},
    ClaimsGlobalError: {"errors are not global"},
    Unlearns: {"learns blobs", "update follows from signals"},
    WaitsForEver: {*LEARNING, "learns blobs"},
    FillsWhileWaiting: LEARNING,
    AllocatesFloat32: LEARNING,
    Crashes: {*LEARNING, "learns blobs"},
}
SEEN_ON = {  # the others are seen on a plain network
    MixesBatchNorms: "batch norm, biases",
    **dict.fromkeys((MixesKernels, ShiftsMaps, MixesChannels), "convolution"),
}
