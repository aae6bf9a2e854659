"""Direct feedback alignment: each layer is sent the readout's error, through a fixed random matrix of its own.

Nøkland, "Direct feedback alignment provides learning in deep neural networks", NeurIPS 2016.

e (m × N)  error at the readout's output    B (N × n)  fixed, of a block of n outputs    error at them = e B
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from infohebb.errors import MismatchError
from infohebb.functional.products import product
from infohebb.networks import Block
from infohebb.networks.unit import Unit
from infohebb.rules import contract
from infohebb.rules.base import FixedFeedback, Targets, attached_before
from infohebb.rules.contract import Locality, Step, Walk, label_loss
from infohebb.rules.transport import Sender, TransportRule


class DirectFeedbackAlignment(contract.LearningRule, TransportRule):
    """The readout's error reaches each block at once, past all blocks between; no weight is transported.

    The matrix of a block is drawn as the weight of a readout of its outputs would be. Raises MismatchError from
    `attach` for maps of unknown size.
    """

    locality = Locality(global_error=True, update_locking=True, shared=frozenset({"classes"}))

    traceable: ClassVar[bool] = False

    def __init__(self):
        super().__init__()
        self.feedback = FixedFeedback()

    def attach(self, network: Any) -> None:
        """Draw a matrix for each block; they stay while the network does."""
        super().attach(network)
        shapes = {}
        for place, (name, block) in enumerate(network.named_blocks()):
            if block.output_width is None:
                mend = "give from_sequential the inputs' shape, or its Block the map_size"
                raise MismatchError(f"{name} has maps of unknown size; {mend}")
            shapes[place] = (network.readout.out_features, block.output_width)
        self.feedback.prepare(shapes, network.readout.weight, keep=attached_before(self, network))

    def reset(self) -> None:
        """Forget the matrices."""
        self.feedback = FixedFeedback()

    def setup(self, units: Sequence[Unit], head: Sequence[Parameter], classes: int | None) -> None:
        """Draw a matrix (classes × numbers) for each unit's output; those that fit stay."""
        if classes is None:
            raise MismatchError("DirectFeedbackAlignment needs the number of outputs: give Learner(..., classes=10)")
        shapes = {}
        for unit in units:
            if unit.output_shape is None:
                raise MismatchError(
                    f"DirectFeedbackAlignment needs the shape of unit {unit.name}'s output: give "
                    "Learner(..., example=x), a batch or the shape of one sample"
                )
            shapes[unit.place] = (classes, math.prod(unit.output_shape))
        self.feedback.prepare(shapes, head[0], keep=True)

    @torch.no_grad()
    def backward(self, walk: Walk, inputs: Tensor, targets: Targets) -> Step:
        """Send the label loss's error to the head and, each through a matrix of its own, to every unit's output."""
        del inputs
        output, outputs = walk.cut()
        assert output.logits is not None
        logits = output.logits.detach()
        loss, error = label_loss(logits, targets)
        if walk.has_head:
            walk.send(output.logits, error, loss)
        for unit, z in outputs:
            matrix = self.feedback[unit.place].to(error.dtype)
            if matrix.shape[1] != z[0].numel():
                raise MismatchError(
                    f"unit {unit.name} gives {z[0].numel()} numbers per sample, but its feedback has "
                    f"{matrix.shape[1]}; give inputs of the example's shape"
                )
            walk.send(z, (error @ matrix).view(z.shape))
        return Step(loss, logits, targets)

    def feedback_weight(self, position: int, layer: Block | nn.Linear) -> Tensor:
        """The matrix of the block below that layer."""
        del layer
        return self.feedback[position - 1]

    def arriving(self, sender: Sender, top: Tensor, size: torch.Size) -> Tensor:
        """The readout's error at once, whatever the layer above made of it."""
        return product(top, self.feedback.fitting(sender.position - 1, (top.shape[1], size[1:].numel()), top)).view(
            size
        )
