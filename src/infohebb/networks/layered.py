"""Layered: blocks one after the other, and a linear readout."""

from collections.abc import Iterable, Iterator

from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import MismatchError
from infohebb.functional.products import Precision
from infohebb.networks.blocks import Block


class Layered(nn.Module):
    """Blocks and a readout.  `network(x)` predicts as in evaluation and changes nothing."""

    def __init__(self, blocks: Iterable[Block], readout: nn.Linear):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        for position, block in enumerate(self.blocks):
            if not isinstance(block, Block):
                raise MismatchError(
                    f"blocks.{position} is a {type(block).__name__}; a Layered network is made of Blocks"
                )
        self.readout = readout
        self.precision = "fp32"

    @property
    def precision(self) -> Precision:
        """Of the blocks' matrix products; the readout's are always in full."""
        return self._precision

    @precision.setter
    def precision(self, precision: Precision) -> None:
        self._precision: Precision = precision
        for _, block in self.named_blocks():
            block.precision = precision

    def named_blocks(self) -> Iterator[tuple[str, Block]]:
        """Each block with its name in `state_dict`, from the input up."""
        for position, block in enumerate(self.blocks):
            if isinstance(block, Block):
                yield f"blocks.{position}", block

    def forward(self, inputs: Float[Tensor, "m *features"]) -> Float[Tensor, "m outputs"]:
        """Logits, or the predicted numbers."""
        for _, block in self.named_blocks():
            inputs = block(inputs)
        return self.read_out(inputs)

    def read_out(self, x: Float[Tensor, "m *features"]) -> Float[Tensor, "m outputs"]:
        """The readout of what the last block sends.  Raises MismatchError when its size is another."""
        features = x.flatten(1)
        if features.shape[1] != self.readout.in_features:
            raise MismatchError(
                f"samples reach the readout as {features.shape[1]} numbers; it takes {self.readout.in_features}"
            )
        return self.readout(features)
