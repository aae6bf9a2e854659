"""Rules for a Learner: some that keep the contract, and one for each way to break it. Each could be a user's."""

import random

import torch
from torch import nn

from infohebb import FeedbackAlignment, LastLayer, LayerwiseClassification, LocalError, Locality, LocalRule, Step
from infohebb.errors import MismatchError
from infohebb.rules.contract import LearningRule, label_loss


class Honest(LocalRule):
    """Each neuron seeks a mean square of one, by pre × post; the readout learns by its delta rule."""

    def error(self, z, signal, context, unit):
        post = self.factor(context) * self.post(z, unit)
        return LocalError(None, post, post)

    def post(self, z, unit):
        return z * (z.square().mean(0) - 1)

    def factor(self, context):
        return 1.0


class ThreeFactor(LocalRule):
    """Honest too: pairs of neurons share a third factor, the pair's mean activity."""

    locality = Locality(shared=frozenset({"groups"}))

    def error(self, z, signal, context, unit):
        groups = z[0].numel() // 2 if unit.divisive_norm is None else unit.divisive_norm.groups
        third_factor = z.reshape(len(z), groups, -1).mean(2)
        post = z * (z.square().mean(0) - 1)
        error = (third_factor[..., None] * post.reshape(len(z), groups, -1)).view(z.shape)
        return LocalError(third_factor, post, error)


class SubtractsMean(Honest):
    """Honest too: each neuron compares itself with the mean over its unit, and the rule declares it."""

    locality = Locality(layer_mean=True)

    def post(self, z, unit):
        return super().post(z - z.flatten(1).mean(1).view(-1, *[1] * (z.dim() - 1)), unit)


class Waits(Honest):
    """Honest too: it learns nothing from its first two batches, and says so."""

    updated_buffers = frozenset({"batches"})
    longest = 2

    def __init__(self):
        super().__init__()
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def backward(self, walk, inputs, targets):
        self.batches += 1
        if self.batches > self.longest:
            return super().backward(walk, inputs, targets)
        return Step(None, None, targets, waiting=True)


class OneByOne(Honest):
    """Honest too: from single samples, each neuron learns by how it differs from its own average."""

    consumes = "sample"
    updated_buffers = frozenset({"averages"})

    def __init__(self):
        super().__init__()
        self.register_buffer("averages", torch.zeros(3, 128))

    def setup(self, units, head, classes):
        self.to(head[0].dtype)

    def post(self, z, unit):
        average = self.averages[unit.place, : z[0].numel()]
        difference = z - average.view(z.shape[1:])
        average.lerp_(z[0].flatten(), 0.5)
        return difference * (z.square() - 1)


class Remembers(Honest):
    """Honest too: from a window, each neuron drifts from what it was when others of the window were there."""

    consumes = "window"
    locality = Locality(shared=frozenset({"samples"}))

    def error(self, z, signal, context, unit):
        flat = z.flatten(1)
        third_factor = torch.zeros(len(z), len(z), dtype=z.dtype)
        third_factor[-1] = (flat - flat[-1]).square().mean(1).neg().exp()
        third_factor[-1, -1] -= third_factor[-1].sum()
        return LocalError(third_factor, z, (third_factor @ flat).view(z.shape), shared="samples")


class Synapses(LearningRule):
    """Honest too: from single samples, each synapse learns by how its neuron differs from what it was before."""

    consumes = "sample"
    needs_neurons = True
    updated_buffers = frozenset({"before"})

    def __init__(self):
        super().__init__()
        self.register_buffer("before", torch.zeros(3, 32))

    def setup(self, units, head, classes):
        self.to(head[0].dtype)

    @torch.no_grad()
    def backward(self, walk, inputs, targets):
        def learn(unit, neurons):
            before = self.before[unit.place, : neurons.z.shape[1]]
            self.give(walk, unit, neurons, self.post(neurons, before))
            before.copy_(neurons.z[0])

        output = walk.neurons(learn)
        loss, error = label_loss(output.logits.detach(), targets)
        walk.send(output.logits, error, loss)
        return Step(loss, output.logits.detach(), targets)

    def post(self, neurons, before):
        return (neurons.z - before) * (neurons.z.square() - 1) * neurons.slope

    def give(self, walk, unit, neurons, post):
        walk.give(neurons.layer, neurons.pre, post, post=post)


class NeedsArgument(Honest):
    """Cannot be built without arguments."""

    def __init__(self, rate):
        super().__init__()


class HalfWritten(LearningRule):
    """Lacks the methods of a rule."""


class FailsToBuild(Honest):
    """Raises where it should store."""

    def __init__(self):
        raise ValueError("boom\nand bang")


class RefusesAll(Honest):
    """Trains nothing."""

    def setup(self, units, head, classes):
        raise MismatchError("no network is good enough")


class FailsToSetUp(Honest):
    """Raises where it should refuse."""

    def setup(self, units, head, classes):
        raise KeyError("blocks")


class Crashes(Honest):
    """Raises in the middle of learning."""

    def post(self, z, unit):
        return z @ z


class AllocatesFloat32(Honest):
    """Allocates in single precision, whatever the network's."""

    def post(self, z, unit):
        return super().post(z, unit) @ torch.eye(z.shape[1])


class Reseeds(Honest):
    """Draws the same numbers again in each batch, and has everybody else do so."""

    def context(self, inputs, targets, classes, /):
        torch.manual_seed(0)


class RollsDice(Honest):
    """Draws from a generator that no seed reaches."""

    def factor(self, context):
        return 1 + random.random()


class LosesState(Honest):
    """Counts its calls where `state_dict` does not see it."""

    calls = 0

    def context(self, inputs, targets, classes, /):
        self.calls += 1

    def factor(self, context):
        return self.calls


class CountsSamples(Honest):
    """The order of samples in a batch changes its update."""

    def post(self, z, unit):
        return super().post(z, unit) * torch.arange(1, len(z) + 1, dtype=z.dtype).view(-1, *[1] * (z.dim() - 1))


class HidesBuffer(Honest):
    """Changes a buffer that it does not name in `updated_buffers`."""

    def __init__(self):
        super().__init__()
        self.register_buffer("trace", torch.zeros(1))

    def context(self, inputs, targets, classes, /):
        self.trace += 1


class KeepsGraph(Honest):
    """Returns a loss that carries a graph."""

    def backward(self, walk, inputs, targets):
        step = super().backward(walk, inputs, targets)
        return Step(step.loss.requires_grad_(), step.logits, targets, step.terms)


class LeavesHook(Honest):
    """Leaves a hook on the network."""

    def backward(self, walk, inputs, targets):
        walk.plan.model.register_forward_hook(lambda *_: None)
        return super().backward(walk, inputs, targets)


class Tampers(Honest):
    """Changes gradients, or weights, behind the learner's back."""

    def backward(self, walk, inputs, targets):
        step = super().backward(walk, inputs, targets)
        for name, parameter in walk.plan.model.named_parameters():
            if parameter.grad is not None:
                self.tamper(name, parameter)
        return step

    def tamper(self, name, parameter):
        raise NotImplementedError


class ForgetsGradient(Tampers):
    """Leaves one gradient empty."""

    def tamper(self, name, parameter):
        if name == "layers.0.activity.linear.weight":
            parameter.grad = None


class ChangesWeight(Tampers):
    """Steps by itself."""

    @torch.no_grad()
    def tamper(self, name, parameter):
        if name == "layers.1.activity.linear.weight":
            parameter.mul_(0.99)


class HidesSignal(Tampers):
    """Its update is twice what the recorded error gives."""

    def tamper(self, name, parameter):
        parameter.grad.mul_(2)


class MixesBiases(Tampers):
    """Each bias learns from its neighbour's error too."""

    def tamper(self, name, parameter):
        if name.endswith("bias"):
            parameter.grad += 0.1 * parameter.grad.roll(1, 0)


class MixesInputs(Tampers):
    """Each synapse learns from its neighbour's input too."""

    def tamper(self, name, parameter):
        if parameter.dim() > 1:
            parameter.grad += 0.1 * parameter.grad.roll(1, 1)


class MixesKernels(Tampers):
    """Weights of a convolution change as those of another channel should."""

    def tamper(self, name, parameter):
        if parameter.dim() == 4:
            parameter.grad += parameter.grad.flip(0)


class MixesBatchNorms(Tampers):
    """Each batch norm's scale learns from its neighbour's error too."""

    def tamper(self, name, parameter):
        if name == "1.weight":
            parameter.grad += 0.1 * parameter.grad.roll(1, 0)


class Unlearns(Tampers):
    """Climbs the loss."""

    def tamper(self, name, parameter):
        if name.startswith("readout"):
            parameter.grad.neg_()


class TrainsUnasked(LastLayer):
    """Says that units do not learn, and fills their gradients."""

    def backward(self, walk, inputs, targets):
        step = super().backward(walk, inputs, targets)
        for parameter in walk.plan.model.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.grad is None else parameter.grad
        return step


class MixesNeurons(Honest):
    """Sends each neuron its neighbour's error too, and does not say so in `post`."""

    def error(self, z, signal, context, unit):
        found = super().error(z, signal, context, unit)
        return found._replace(error=found.error + 0.1 * found.error.roll(1, 1))


class KeepsErrorsToItself(Honest):
    """Says that its postsynaptic factor is zero, and sends what dense lateral weights bring."""

    def error(self, z, signal, context, unit):
        return LocalError(None, torch.zeros_like(z), lateral(z))


class LateralMixer(Honest):
    """Calls a neuron's own factor what dense lateral weights, undeclared, bring it from the others."""

    def post(self, z, unit):
        return lateral(z)


class RollsNeurons(Honest):
    """Calls a neuron's own factor that of its neighbour."""

    def post(self, z, unit):
        return super().post(z, unit).roll(1, 1)


class RollsThirdFactors(ThreeFactor):
    """Its third factors are those of the next group, in the error only."""

    def error(self, z, signal, context, unit):
        found = super().error(z, signal, context, unit)
        return found._replace(third_factor=found.third_factor.roll(1, 1))


class MixesUnderOneFactor(LateralMixer):
    """Takes the whole unit for one group, whose neurons may then know each other."""

    locality = Locality(shared=frozenset({"groups"}))

    def error(self, z, signal, context, unit):
        return super().error(z, signal, context, unit)._replace(third_factor=torch.ones_like(z[:, :1].flatten(1)))


class MixesTwoNeurons(Honest):
    """One neuron's error holds one other's."""

    def post(self, z, unit):
        post = super().post(z, unit)
        post[:, 5] += 0.1 * post[:, 12]
        return post


class MixesChannels(Honest):
    """Channels of a map are handed the error of the channel beside theirs."""

    def post(self, z, unit):
        post = super().post(z, unit)
        return post.roll(1, 1) if z.dim() == 4 else post


class MixesLastBatch(Honest):
    """Each neuron's error depends on its neighbour's activity in the batch before."""

    updated_buffers = frozenset({"last"})

    def __init__(self):
        super().__init__()
        self.register_buffer("last", torch.ones(3, 32))

    def setup(self, units, head, classes):
        self.to(head[0].dtype)

    def post(self, z, unit):
        last = self.last[unit.place, : z.shape[1]]
        post = super().post(z, unit) * last.roll(1)
        last.copy_(z.square().mean(0))
        return post


class KnowsTheMean(SubtractsMean):
    """Compares each neuron with the mean over its unit, and does not declare it."""

    locality = Locality()


class SecretSignal(ThreeFactor):
    """Gives its neurons a third factor that it does not declare."""

    locality = Locality()


class WideThirdFactor(Honest):
    """Calls a number for each neuron a third factor."""

    locality = Locality(shared=frozenset({"groups"}))

    def error(self, z, signal, context, unit):
        return LocalError(lateral(z), torch.ones_like(z), lateral(z))


class HidesError(Honest):
    """Lets units learn from errors that it does not show."""

    def backward(self, walk, inputs, targets):
        output, outputs = walk.cut()
        for _, z in outputs:
            walk.send(z, lateral(z.detach()))
        loss, error = label_loss(output.logits.detach(), targets)
        walk.send(output.logits, error, loss)
        return Step(loss, output.logits.detach(), targets)


class LooksAround(Honest):
    """Keeps the weight layers that the walk leads to, the first one first."""

    def backward(self, walk, inputs, targets):
        vars(self)["layers"] = [m for m in walk.plan.model.modules() if isinstance(m, nn.Linear)]
        step = super().backward(walk, inputs, targets)
        del vars(self)["layers"]
        return step


class TransportsWeights(LooksAround):
    """Uses the weights above without a word."""

    def post(self, z, unit):
        return z * self.layers[unit.place + 1].weight.detach().sum(0)


class RemembersWeights(Honest):
    """Uses the weights above as they were in the batch before."""

    updated_buffers = frozenset({"above"})

    def __init__(self):
        super().__init__()
        self.register_buffer("above", torch.zeros(3, 32))

    def setup(self, units, head, classes):
        self.to(head[0].dtype)

    def post(self, z, unit):
        return super().post(z, unit) * (1 + self.above[unit.place, : z.shape[1]])

    def backward(self, walk, inputs, targets):
        step = super().backward(walk, inputs, targets)
        layers = [m for m in walk.plan.model.modules() if isinstance(m, nn.Linear)]
        for place, layer in enumerate(layers[1:]):
            self.above[place, : layer.weight.shape[1]] = layer.weight.detach().sum(0)
        return step


class TransportsOwnWeights(LayerwiseClassification):
    """Uses the weights of its classifiers without a word."""

    @property
    def locality(self):
        return Locality(shared=frozenset({"classes"}))


class SendsThroughWeights(FeedbackAlignment):
    """Claims random feedback, and sends errors through the weights themselves."""

    def feedback_matrix(self, name, weight):
        return weight


class ListensToLoss(Honest):
    """Uses what the whole network answers, without a word."""

    loudness = 1.0

    def backward(self, walk, inputs, targets):
        with torch.no_grad():
            self.loudness = walk.plan.model(inputs).square().mean()
        return super().backward(walk, inputs, targets)

    def factor(self, context):
        return self.loudness


class RemembersLoss(Honest):
    """Uses the loss of the batch before, without a word."""

    updated_buffers = frozenset({"last_loss"})

    def __init__(self):
        super().__init__()
        self.register_buffer("last_loss", torch.ones(()))

    def backward(self, walk, inputs, targets):
        step = super().backward(walk, inputs, targets)
        self.last_loss = step.loss
        return step

    def factor(self, context):
        return self.last_loss


class LearnsAtTheEnd(Honest):
    """Goes up to the head first, and lets its units learn only then."""

    def backward(self, walk, inputs, targets):
        walk.plan.model(inputs)
        return super().backward(walk, inputs, targets)


class ClaimsUpdateLocking(Honest):
    """Declares that it waits, and does not."""

    locality = Locality(update_locking=True)


class ClaimsTransport(Honest):
    """Declares a weight transport that it does not need."""

    locality = Locality(weight_transport=True)


class ClaimsGlobalError(Honest):
    """Declares a global error that it does not need."""

    locality = Locality(global_error=True)


class WaitsForEver(Waits):
    """Always says that it waits."""

    longest = 10**9


class FillsWhileWaiting(Waits):
    """Has a gradient for the head while it says that it waits."""

    def backward(self, walk, inputs, targets):
        step = super().backward(walk, inputs, targets)
        if step.waiting:
            bias = walk.plan.model.readout.bias
            bias.grad = torch.ones_like(bias)
        return step


def lateral(z):
    """What dense weights between a unit's neurons, the same for each width, bring them."""
    flat = z.flatten(1)
    generator = torch.Generator().manual_seed(flat.shape[1])
    weights = torch.randn(flat.shape[1], flat.shape[1], generator=generator, dtype=z.dtype)
    return (flat @ weights).view(z.shape) / flat.shape[1]


class ReadsOthersTraces(OneByOne):
    """Each neuron compares itself with the average of the one beside it."""

    def post(self, z, unit):
        post, place = super().post(z, unit), self.averages[unit.place, : z[0].numel()]
        return post + 0.1 * place.roll(1).view(z.shape[1:])


class NoRule:
    """Not a rule at all."""


class ReadsNeighboursPast(Synapses):
    """Compares each neuron with what its neighbour was before."""

    def post(self, neurons, before):
        return super().post(neurons, before.roll(1))


class ReadsNeighboursSlope(Synapses):
    """Gives each neuron the slope of its neighbour."""

    def post(self, neurons, before):
        return super().post(neurons._replace(slope=neurons.slope.roll(1, 1)), before)


class ReadsWeightsAbove(Synapses):
    """Uses the weights above without a word."""

    def give(self, walk, unit, neurons, post):
        above = [m for m in walk.model.modules() if isinstance(m, nn.Linear)][unit.place + 1]
        super().give(walk, unit, neurons, post * above.weight.sum(0))


class InventsInputs(Synapses):
    """Has each synapse take the input of its neighbour for its own."""

    def give(self, walk, unit, neurons, post):
        walk.give(neurons.layer, neurons.pre.roll(1, 1), post, post=post)


class StatesNoFactors(Synapses):
    """Does not state what its errors are made of."""

    def give(self, walk, unit, neurons, post):
        walk.give(neurons.layer, neurons.pre, post)


class SharesInSecret(Synapses):
    """Has all neurons of a unit share a signal that it does not declare."""

    def give(self, walk, unit, neurons, post):
        third_factor = neurons.z.mean(1, keepdim=True)
        walk.give(neurons.layer, neurons.pre, third_factor * post, third_factor=third_factor, post=post)
