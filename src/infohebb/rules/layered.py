"""The walk that rules on layered networks share: block by block, each learning from what it has at hand."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from infohebb.errors import MismatchError
from infohebb.functional import convolution, normalisation, plasticity, readout
from infohebb.functional.convolution import Geometry
from infohebb.functional.products import Precision
from infohebb.networks import Block, Layered, Response
from infohebb.rules.base import Diagnostics, Inputs, LearningRule, Signals, Targets, check_batch, right_answers

Loss = Literal["cross_entropy", "mean_squared_error"]


def learning(layers: Iterable[nn.Module]) -> list[Parameter]:
    """The layers' parameters that are not frozen."""
    return [parameter for layer in layers for parameter in layer.parameters() if parameter.requires_grad]


def check_fit(network: Layered, inputs: Tensor, targets: Tensor) -> None:
    """Raise MismatchError for inputs that are not (m, ...) in the network's precision, else as `check_batch`."""
    if inputs.dim() < 2:
        raise MismatchError(f"inputs have shape {tuple(inputs.shape)}; give (samples, features), or x.reshape(-1, 1)")
    if inputs.dtype != network.readout.weight.dtype:
        raise MismatchError(f"inputs are {inputs.dtype}; give x.to({network.readout.weight.dtype}), as the network is")
    check_batch(inputs, targets, network.outputs)


class LocalStep(NamedTuple):
    """What a rule makes of one block's response: signals for its synapses (None: it does not learn), the terms of its
    objective, the divisively normalised activity if the rule has computed just what the block will emit, and signals
    for layers of the rule's own, by their name in the rule."""

    signals: Signals | None
    terms: dict[str, Tensor]
    normalised: Tensor | None = None
    own: Mapping[str, Signals] = MappingProxyType({})


class LayeredRule(LearningRule):
    """A rule that learns while the batch walks up: only the current block's activity is alive.

    A block learns before the next one sees its output, which was computed with the weights from before the step.
    """

    @abstractmethod
    def local_step(self, block: Block, response: Response, context: Any) -> LocalStep:
        """What the block's synapses are given, from the block's own response and the batch's context."""

    def context(self, network: Any, inputs: Any, targets: Any, /) -> Any:
        """What is computed once per batch and handed to each block, such as the labels' Gram matrix."""
        del network, inputs, targets

    def batch_context(self, network: Layered, inputs: Tensor, targets: Tensor) -> Any:
        """What `context` gives; of rules that a Learner drives too, whose `context` knows no network, their own."""
        return self.context(network, inputs, targets)

    def groups(self, network: Layered) -> dict[str, list[Parameter]]:
        """Blocks learn at the `local` rate, the readout at the `readout` rate."""
        return {"local": learning(block for _, block in network.named_blocks()), "readout": learning([network.readout])}

    @torch.no_grad()
    def learn(
        self, network: Layered, inputs: Inputs, targets: Targets, *, onset: bool = True, record: bool = False
    ) -> Diagnostics:
        """Walk the batch up the blocks, then let the readout learn by its delta rule."""
        del onset
        check_fit(network, inputs, targets)
        return self.walk(network, inputs, targets, self.batch_context(network, inputs, targets), record=record)

    def walk(self, network: Layered, x: Tensor, targets: Targets, context: Any, *, record: bool) -> Diagnostics:
        """Block by block, each learning before the next one sees its output, and the readout."""
        x, recorded, objectives = network.receive(x), {}, {}
        for name, block in network.named_blocks():
            x, step = self._emit_and_step(block, x, context)
            if step.signals is not None:
                assign_gradients(block, self.update(step.signals, network.precision))
                recorded |= {name: step.signals} if record else {}
            for layer, signals in step.own.items():
                assign_gradients(self.get_submodule(layer), self.update(signals))
                recorded |= {f"rule.{layer}": signals} if record else {}
            objectives |= {name: step.terms} if step.terms else {}
            del step  # before the next block allocates
        features = network.features(x)
        features, logits = self.recalled(features, network.read_out(features, learning=True), context)
        loss, signals = readout_signals(features, logits, targets, share=network.share)
        assign_gradients(network.readout, self.update(signals))
        recorded |= {"readout": signals} if record else {}
        return Diagnostics(loss, right_answers(logits, targets), objectives, recorded)

    def recalled(self, features: Tensor, logits: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        """Features and logits that the readout learns from: those of the batch."""
        del context
        return features, logits

    def _emit_and_step(self, block: Block, x: Tensor, context: Any) -> tuple[Tensor, LocalStep]:
        """What the block sends on, and what its synapses are given: the activity itself need not live on."""
        response = block.respond(x, learning=True)
        step = self.local_step(block, response, context)
        x = block.emit(response.activity, learning=True, normalised=step.normalised)
        return x, step._replace(normalised=None)

    def postsynaptic_error(self, signals: Signals) -> Tensor:
        """dL/da (m × n, or a map) at the input of a layer's nonlinearity, from its signals alone.

        It is the `error` among them, or else the error at the activity, carried through the nonlinearity's slope.
        """
        return signals["error"] if "error" in signals else through_slope(self.activity_error(signals), signals)

    def activity_error(self, signals: Signals) -> Tensor:
        """dL/dz (m × n, or a map) at a block's activity, of a rule whose signals are no `error` of each neuron."""
        raise NotImplementedError(f"{type(self).__name__} has signals {sorted(signals)} and no activity_error for them")

    def update(self, signals: Signals, precision: Precision = "fp32") -> dict[str, Tensor]:
        """Minus the update of a layer: the error at its nonlinearity's input, times what came in."""
        return synaptic_step(signals, self.postsynaptic_error(signals), precision).gradients


class SynapticStep(NamedTuple):
    """Gradients of a layer's parameters, by name, and the error at its drive, which is what its weights receive."""

    gradients: dict[str, Tensor]
    drive_error: Tensor


def synaptic_step(signals: Signals, error: Tensor, precision: Precision = "fp32") -> SynapticStep:
    """What a layer makes of the error (m × n, or a map) at its nonlinearity's input."""
    gradients, pre = {}, signals["pre"]
    geometry = as_geometry(signals["geometry"]) if "geometry" in signals else None
    if geometry is not None:
        error = to_drive(error, signals.get("winners"), geometry.map_size((pre.shape[2], pre.shape[3])))
    over = normalisation.moments(error)
    if "batch_normalised" in signals:
        back = normalisation.batch_norm_backward(error, signals["batch_normalised"], signals["batch_scale"])
        error, gradients["batch_norm.weight"], gradients["batch_norm.bias"] = back
    if geometry is None:
        gradients["weight"] = plasticity.hebbian(pre, error, precision)
    else:
        gradients["weight"] = plasticity.hebbian_map(pre, error, geometry, precision)
    if "bias_pre" in signals:
        gradients["bias"] = signals["bias_pre"] * error.sum(over if geometry is not None else -2)
    return SynapticStep(gradients, error)


def synaptic_gradients(signals: Signals, error: Tensor, precision: Precision = "fp32") -> dict[str, Tensor]:
    """Gradients of a layer's parameters from the error (m × n, or a map) at its nonlinearity's input."""
    return synaptic_step(signals, error, precision).gradients


def to_drive(error: Tensor, winners: Tensor | None, size: tuple[int, int]) -> Tensor:
    """An error (m × n), or a map of it, as a map of that size, each pooled number at the place it came from."""
    if winners is None:
        return error.reshape(len(error), -1, *size)
    return convolution.route(error.reshape(winners.shape), winners, size)


def at_nonlinearity(error: Tensor, block: Block, response: Response) -> Tensor:
    """From a block's activity down to the input of its nonlinearity, of a map that is pooled at the winners only."""
    if response.layer is not None:
        normalised, scale = response.layer
        factors = normalisation.layer_norm_factors(error, normalised, scale)
        error = normalisation.layer_norm_backward(error, normalised, factors)
    return block.nonlinearity.gate(error, response.hidden)


def as_geometry(signal: Tensor) -> Geometry:
    """A block's geometry from the six numbers that its synapses carry."""
    rows, columns, *rest = signal.tolist()
    return Geometry((rows, columns), (rest[0], rest[1]), (rest[2], rest[3]))


def assign_gradients(layer: nn.Module, gradients: dict[str, Tensor], inside: str = "") -> None:
    """Store each gradient in `.grad` of the layer's parameter of that name, None in that of any other."""
    for name, parameter in layer._parameters.items():
        if parameter is not None:
            assign_gradient(parameter, gradients.get(inside + name))
    for name, child in layer._modules.items():
        if child is not None:
            assign_gradients(child, gradients, f"{inside}{name}.")


def assign_gradient(parameter: Parameter, gradient: Tensor | None) -> None:
    """Store a gradient in `.grad` of a parameter; None if that is frozen."""
    gradient = gradient if parameter.requires_grad else None
    if gradient is not None and gradient.stride() != parameter.stride():
        gradient = torch.empty_like(parameter).copy_(gradient)  # torch's fused optimizers take for granted that
    parameter.grad = gradient  # both lie alike in memory


def block_signals(block: Block, response: Response) -> Signals:
    """What a block's synapses see whatever the rule: what came in, a bias's constant one, and batch norm's state."""
    signals = {"pre": response.pre.detach()}
    if block.geometry is not None:
        signals["geometry"] = torch.tensor([number for pair in block.geometry for number in pair])
    if response.winners is not None:
        signals["winners"] = response.winners
    if block.bias is not None:
        signals["bias_pre"] = response.pre.new_ones(())
    if response.batch is not None:
        signals["batch_normalised"] = response.batch.normalised.detach()
        signals["batch_scale"] = response.batch.scale.detach()
    return signals


def with_slope(
    block: Block, response: Response, signals: Signals, activity_error: Callable[[Signals], Tensor]
) -> Signals:
    """Signals that make the error at a block's activity, with all that its synapses see, and what lets them carry that
    error down to the nonlinearity's input: its slope and, for layer norm, three numbers per sample."""
    one = torch.full_like(response.hidden, block.share)
    signals = {**block_signals(block, response), **signals, "gain": block.nonlinearity.gate(one, response.hidden)}
    if response.layer is not None:
        normalised, scale = response.layer
        factors = normalisation.layer_norm_factors(activity_error(signals), normalised, scale)
        signals |= {"layer_normalised": normalised, "layer_factors": factors}
    return signals


def through_slope(error: Tensor, signals: Signals) -> Tensor:
    """dL/da: the error at the activity, carried through layer norm and the nonlinearity's slope."""
    if "layer_factors" in signals:
        error = normalisation.layer_norm_backward(error, signals["layer_normalised"], signals["layer_factors"])
    return error * signals["gain"] if "gain" in signals else error


def readout_signals(
    x: Tensor, logits: Tensor, targets: Tensor, loss: Loss | None = None, share: float = 1.0
) -> tuple[Tensor, Signals]:
    """The readout's loss and its delta rule: pre × (prediction - target), × the share of a leaky readout's time step.

    Without a `loss` named it is cross-entropy for class indices and the mean squared error for numbers.
    """
    continuous = targets.is_floating_point()
    if continuous and loss == "cross_entropy":
        raise MismatchError("cross-entropy needs class labels, not numbers; take mean_squared_error")
    squared = continuous or loss == "mean_squared_error"
    value, error = (readout.mean_squared_error if squared else readout.cross_entropy)(logits, targets)
    error = error if share == 1 else error * share
    return value, {"pre": x, "bias_pre": x.new_ones(()), "error": error}
