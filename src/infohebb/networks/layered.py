"""Layered: blocks one after the other, and a linear readout."""

from collections.abc import Iterable, Iterator

from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import MismatchError
from infohebb.functional.products import Precision
from infohebb.networks.blocks import Block


class Layered(nn.Module):
    """Blocks and a readout.  `network(x)` predicts as in evaluation and changes nothing.

    `networks` tells how many stand side by side, sharing their input (m, ...): what they answer is then
    (nets × m × outputs). It is None for a single one.
    """

    share: float = 1.0  # of the way to what drives it that the readout goes in one time step

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
    def networks(self) -> int | None:
        """How many networks stand side by side."""
        weight = self.readout.weight
        return len(weight) if weight.dim() == 3 else None

    @property
    def outputs(self) -> int:
        """Numbers that it answers with."""
        return self.readout.weight.shape[-2]

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

    def forward(self, inputs: Float[Tensor, "m *features"]) -> Float[Tensor, "*nets m outputs"]:
        """Logits, or the predicted numbers."""
        x = self.receive(inputs)
        for _, block in self.named_blocks():
            x = block(x)
        return self.read_out(x)

    def receive(self, inputs: Float[Tensor, "m *features"]) -> Float[Tensor, "m *received"]:
        """What the first block is given: rows of numbers where several networks share it."""
        return inputs if self.networks is None else inputs.flatten(1)

    def features(self, x: Float[Tensor, "m *sent"]) -> Float[Tensor, "*nets rows features"]:
        """What the readout is given of what the last block sends."""
        return x.flatten(1) if self.networks is None else x

    def read_out(self, x: Float[Tensor, "m *features"], *, learning: bool = False) -> Tensor:
        """The readout of what the last block sends.  Raises MismatchError when its size is another."""
        del learning
        return self.weigh(x)

    def weigh(self, x: Float[Tensor, "m *features"]) -> Tensor:
        """What drives the readout's neurons."""
        x = self.features(x)
        weight, bias = self.readout.weight, self.readout.bias
        if x.shape[-1] != weight.shape[-1]:
            raise MismatchError(f"samples reach the readout as {x.shape[-1]} numbers; it takes {weight.shape[-1]}")
        if weight.dim() == 2:
            return self.readout(x)
        product = x @ weight.mT
        return product if bias is None else product + bias.unsqueeze(-2)
