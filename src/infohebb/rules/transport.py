"""The walk that rules share which send the readout's error down: all the way up first, then layer by layer down."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from infohebb.functional import convolution, dropout, feedback, grouping
from infohebb.functional.products import Precision
from infohebb.networks import Block, Layered, Response
from infohebb.rules.base import Diagnostics, Inputs, LearningRule, Signals, Targets, right_answers
from infohebb.rules.layered import (
    Loss,
    SynapticStep,
    assign_gradients,
    at_nonlinearity,
    block_signals,
    check_fit,
    learning,
    readout_signals,
    synaptic_step,
    to_drive,
)


class Passed(NamedTuple):
    """A block that the batch went through: its response, where dropout struck, and the shape of its output."""

    name: str
    block: Block
    response: Response
    struck: Tensor | None
    size: torch.Size


class Sender(NamedTuple):
    """A layer that has its error at the drive; `skipped` is what a residual block passes on besides."""

    position: int
    layer: Block | nn.Linear
    error: Tensor
    skipped: Tensor | None


class TransportRule(LearningRule):
    """Each layer learns by pre × error; the error comes down from the readout, explicitly.

    Through dropout, divisive norm, pooling, normalisations and the nonlinearity it is carried by their exact
    derivatives, as far as the block itself knows them; through weights, by the rule's own matrices.
    """

    global_error = True
    update_locking = True
    loss: Loss | None = None

    @abstractmethod
    def feedback_weight(self, position: int, layer: Block | nn.Linear) -> Tensor:
        """The matrix that carries the error below a layer; layers count from 0, the readout comes last."""

    def groups(self, network: Layered) -> dict[str, list[Parameter]]:
        """All parameters, at the `readout` rate, as the papers call the rate of what cross-entropy trains."""
        return {"readout": learning([network])}

    @torch.no_grad()
    def learn(
        self, network: Layered, inputs: Inputs, targets: Targets, *, onset: bool = True, record: bool = False
    ) -> Diagnostics:
        """Up to the readout and its error, then down: each layer learns and hands the error on."""
        del onset
        check_fit(network, inputs, targets)
        passed, x = climb(network, inputs)
        logits = network.read_out(x)
        loss, signals = readout_signals(x, logits, targets, self.loss)
        assign_gradients(network.readout, self.update(signals))
        recorded, top = {"readout": signals}, signals["error"]
        sender = Sender(len(passed), network.readout, top, None)
        while passed:
            name, block, response, struck, size = passed.pop()
            error = at_activity(self.arriving(sender, top, size), block, response, struck)
            signals = {**block_signals(block, response), "error": at_nonlinearity(error, block, response)}
            gradients, drive_error = self.synapses(signals, network.precision)
            assign_gradients(block, gradients)
            recorded |= {name: signals} if record else {}
            sender = Sender(len(passed), block, drive_error, skipped(error, block, response))
        return Diagnostics(loss, right_answers(logits, targets), {}, recorded if record else {})

    def arriving(self, sender: Sender, top: Tensor, size: torch.Size) -> Tensor:
        """The error at a block's output, of shape `size`, from the layer above; `top` is the readout's own."""
        del top
        position, layer, error, skip = sender
        geometry, precision = (layer.geometry, layer.precision) if isinstance(layer, Block) else (None, "fp32")
        below = feedback.send_down(error, self.feedback_weight(position, layer), geometry, size, precision)
        return below if skip is None else below + skip.view(size)

    def synapses(self, signals: Signals, precision: Precision = "fp32") -> SynapticStep:
        """What a layer's synapses make of their signals: pre × error, and the error at their drive."""
        return synaptic_step(signals, signals["error"], precision)

    def update(self, signals: Signals, precision: Precision = "fp32") -> dict[str, Tensor]:
        """Minus the update of a layer: pre × error."""
        return self.synapses(signals, precision).gradients


def climb(network: Layered, inputs: Tensor) -> tuple[list[Passed], Tensor]:
    """What each block made of the batch, from the input up, and what the readout receives."""
    passed, x = [], inputs
    for name, block in network.named_blocks():
        response = block.respond(x, learning=True)
        x, struck = block.emission(response.activity, learning=True)
        passed.append(Passed(name, block, response, struck, x.shape))
    return passed, x.flatten(1)


def at_activity(error: Tensor, block: Block, response: Response, struck: Tensor | None) -> Tensor:
    """From a block's output down to its activity: dropout, divisive norm, average pooling."""
    if struck is not None:
        alpha = block.nonlinearity.self_normalising
        back = dropout.alpha_dropout_backward if alpha else dropout.dropout_backward
        error = back(error, block.dropout, struck)
    if block.divisive_norm is not None:
        norm, received = block.divisive_norm, block.averaged(response.activity)
        error = grouping.divisive_normalisation_backward(error, received, norm.groups, norm.power, norm.delta)
    if block.average is None:
        return error
    size = response.activity.shape
    return convolution.average_pool_backward(error, block.average, (size[2], size[3]))


def skipped(error: Tensor, block: Block, response: Response) -> Tensor | None:
    """What a residual block passes on of the error at its activity, beside its weights."""
    if not block.residual or block.geometry is None:
        return error if block.residual else None
    return to_drive(error, response.winners, (response.pre.shape[2], response.pre.shape[3]))
