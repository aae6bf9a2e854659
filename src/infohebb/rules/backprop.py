"""Backpropagation, the reference: the one rule whose errors are found by autograd."""

import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from infohebb.errors import unknown_name
from infohebb.functional.products import Precision, rounded_operands
from infohebb.networks import Layered, Response
from infohebb.networks.unit import Unit
from infohebb.rules import contract
from infohebb.rules.base import Diagnostics, Inputs, LearningRule, Signals, Targets, right_answers
from infohebb.rules.contract import Locality, Step, Walk, label_loss
from infohebb.rules.layered import (
    Loss,
    assign_gradients,
    at_nonlinearity,
    block_signals,
    check_fit,
    learning,
    readout_signals,
    synaptic_gradients,
)


class Backprop(contract.LearningRule, LearningRule):
    """Gradient descent on the readout's loss: each layer is sent its exact error through all weights above it.

    `loss` is "cross_entropy" or "mean_squared_error" (labels one-hot); left out, it follows the targets' type.
    Autograd finds the errors; each layer's update is then pre × error, as in every other rule.
    """

    weight_transport = True
    global_error = True
    update_locking = True
    locality = Locality(weight_transport=True, global_error=True, update_locking=True)
    needs_units: ClassVar[bool] = False

    def __init__(self, loss: Loss | None = None):
        super().__init__()
        self.loss: Loss | None = loss

    def groups(self, network: Layered) -> dict[str, list[Parameter]]:
        """All parameters, at the `readout` rate, as the papers call the rate of what cross-entropy trains."""
        return {"readout": learning([network])}

    def attach(self, network: Any) -> None:
        """Check network and loss."""
        super().attach(network)
        self.check_names()

    def check_names(self) -> None:
        """Raise UnknownNameError for a loss that does not exist."""
        if self.loss not in (None, "cross_entropy", "mean_squared_error"):
            raise unknown_name("loss", str(self.loss), ("cross_entropy", "mean_squared_error"))

    def setup(self, units: Sequence[Unit], head: Sequence[Parameter], classes: int | None) -> None:
        """Check the loss."""
        del units, head, classes
        self.check_names()

    @torch.no_grad()
    def backward(self, walk: Walk, inputs: Tensor, targets: Targets) -> Step:
        """Run the whole network on one graph, and send the label loss down all of it."""
        del inputs
        output = walk.whole()
        assert output.logits is not None
        logits = output.logits.detach()
        loss, error = label_loss(logits, targets, self.loss)
        walk.send(output.logits, error, loss)
        return Step(loss, logits, targets)

    def learn(
        self, network: Layered, inputs: Inputs, targets: Targets, *, onset: bool = True, record: bool = False
    ) -> Diagnostics:
        """Forward with a graph, errors at each block by autograd, then the local products."""
        del onset
        check_fit(network, inputs, targets)
        with torch.enable_grad():
            responses, x, logits = forward(network, inputs)  # pyright: ignore[reportCallIssue]
        with torch.no_grad():
            loss, signals = readout_signals(x.detach(), logits, targets, self.loss)
        activities = [response.activity for response in responses]
        top = signals["error"] @ network.readout.weight.detach()
        errors = carry_down(x, top, activities, network.precision)  # pyright: ignore[reportCallIssue]
        recorded = {}
        for (name, block), response, error in zip(network.named_blocks(), responses, errors, strict=True):
            with torch.no_grad():
                error = at_nonlinearity(error, block, response)
            recorded[name] = {"error": error, **block_signals(block, response)}
            assign_gradients(block, self.update(recorded[name], network.precision))
        recorded["readout"] = signals
        assign_gradients(network.readout, self.update(signals))
        return Diagnostics(loss, right_answers(logits.detach(), targets), {}, recorded if record else {})

    @torch.no_grad()
    def update(self, signals: Signals, precision: Precision = "fp32") -> dict[str, Tensor]:
        """Minus the update of a layer: pre × error."""
        return synaptic_gradients(signals, signals["error"], precision)


@torch.compiler.disable  # the graph is to be walked back from here
def forward(network: Layered, inputs: Tensor) -> tuple[list[Response], Tensor, Tensor]:
    """Every block's response, what the readout receives, and the logits; all are kept for the way back.

    Its graph starts at the inputs, so that frozen weights do not cut it.
    """
    responses, x = [], inputs.detach().requires_grad_()
    for _, block in network.named_blocks():
        responses.append(block.respond(x, learning=True))
        x = block.emit(responses[-1].activity, learning=True)
    x = x.flatten(1)
    return responses, x, network.read_out(x)


@torch.compiler.disable
def carry_down(x: Tensor, error: Tensor, activities: list[Tensor], precision: Precision) -> tuple[Tensor, ...]:
    """The error at each block's activity, from the error at what the readout receives, by autograd."""
    if not activities:
        return ()
    with rounded_operands() if precision == "bf16" else contextlib.nullcontext():
        return torch.autograd.grad(x, activities, error)
