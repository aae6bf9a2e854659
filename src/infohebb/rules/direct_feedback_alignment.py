"""Direct feedback alignment: each layer is sent the readout's error, through a fixed random matrix of its own.

Nøkland, "Direct feedback alignment provides learning in deep neural networks", NeurIPS 2016.

e (m × N)  error at the readout's output    B (N × n)  fixed, of a block of n outputs    error at them = e B
"""

from typing import Any

import torch
from torch import Tensor, nn

from infohebb.errors import MismatchError
from infohebb.functional.products import product
from infohebb.networks import Block
from infohebb.rules.base import FixedFeedback, attached_before
from infohebb.rules.transport import Sender, TransportRule


class DirectFeedbackAlignment(TransportRule):
    """The readout's error reaches each block at once, past all blocks between; no weight is transported.

    The matrix of a block is drawn as the weight of a readout of its outputs would be. Raises MismatchError from
    `attach` for maps of unknown size.
    """

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

    def feedback_weight(self, position: int, layer: Block | nn.Linear) -> Tensor:
        """The matrix of the block below that layer."""
        del layer
        return self.feedback[position - 1]

    def arriving(self, sender: Sender, top: Tensor, size: torch.Size) -> Tensor:
        """The readout's error at once, whatever the layer above made of it."""
        return product(top, self.feedback.fitting(sender.position - 1, (top.shape[1], size[1:].numel()), top)).view(
            size
        )
