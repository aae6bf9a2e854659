"""What all blocks of a network have in common, checked once, and the blocks that are made of it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from infohebb.errors import GroupingError, MismatchError, is_whole, naming, unknown_name
from infohebb.functional.convolution import HALVING
from infohebb.functional.nonlinearities import IDENTITY, RELU, SELU, TANH, Nonlinearity, leaky_relu
from infohebb.networks.blocks import Block, DivisiveNorm

NONLINEARITIES = {"leaky_relu": leaky_relu(), "relu": RELU, "selu": SELU, "tanh": TANH, "identity": IDENTITY}


class Parts:
    """Nonlinearity, normalisation, dropout and bias of a network's blocks, as MLP describes them.

    Raises UnknownNameError, GroupingError, MismatchError.
    """

    def __init__(
        self,
        nonlinearity: str | Nonlinearity,
        slope: float,
        norm: str | None,
        divisive_norm: DivisiveNorm | dict[str, Any] | None,
        dropout: float,
        bias: bool,
    ):
        if norm not in (None, "batch", "layer"):
            raise unknown_name("norm", str(norm), ("batch", "layer"))
        self.nonlinearity = nonlinearity_of(nonlinearity, slope)
        self.norm, self.divisive_norm, self.dropout, self.bias = norm, divisive_norm, dropout, bias

    def dense(self, widths: Sequence[int], first: int = 0) -> list[Block]:
        """Fully connected blocks on widths[0] inputs, counted from `first`."""
        return [self._dense(place, *each) for place, each in enumerate(pairwise(widths), first)]

    def _dense(self, place: int, below: int, width: int) -> Block:
        with naming(f"blocks.{place}", GroupingError):
            return Block(
                nn.Linear(below, width, bias=self.bias),
                self.nonlinearity,
                batch_norm=nn.BatchNorm1d(width) if self.norm == "batch" else None,
                layer_norm=nn.LayerNorm(width, elementwise_affine=False) if self.norm == "layer" else None,
                divisive_norm=divisive_norm_of(self.divisive_norm),
                dropout=self.dropout,
            )

    def convolution(self, place: int, below: int, channels: int, map_size: tuple[int, int], *, pool: bool) -> Block:
        """A block of 3 × 3 convolutions that keep the map's size; `map_size` is that of its activity, after pooling."""
        if self.norm == "layer":
            raise MismatchError("norm 'layer' of a convolutional network: take 'batch' or None")
        with naming(f"blocks.{place}", GroupingError):
            return Block(
                nn.Conv2d(below, channels, 3, padding=1, bias=self.bias),
                self.nonlinearity,
                batch_norm=nn.BatchNorm2d(channels) if self.norm == "batch" else None,
                divisive_norm=divisive_norm_of(self.divisive_norm),
                dropout=self.dropout,
                pool=HALVING if pool else None,
                map_size=map_size,
            )


def check_sizes(**sizes: object) -> None:
    """Raise MismatchError naming what is no row of whole numbers."""
    for name, row in sizes.items():
        if not isinstance(row, Sequence) or not all(map(is_whole, row)):
            raise MismatchError(f"{name} {row!r}: give whole numbers, as in MLP(64, 10, widths=(16,))")


def nonlinearity_of(nonlinearity: str | Nonlinearity, slope: float) -> Nonlinearity:
    """The nonlinearity of that name, or itself.  Raises UnknownNameError, MismatchError."""
    if isinstance(nonlinearity, Nonlinearity):
        return nonlinearity
    if nonlinearity not in NONLINEARITIES:
        raise unknown_name("nonlinearity", str(nonlinearity), NONLINEARITIES)
    try:
        return leaky_relu(slope) if nonlinearity == "leaky_relu" else NONLINEARITIES[nonlinearity]
    except (ValueError, TypeError) as error:
        raise MismatchError(f"slope {slope!r} of leaky ReLU: give a number above 0, or take relu for 0") from error


def divisive_norm_of(options: DivisiveNorm | dict[str, Any] | None) -> DivisiveNorm | None:
    """A module for each block: it is no state that blocks could share."""
    if isinstance(options, DivisiveNorm):
        return DivisiveNorm(options.groups, options.power, options.delta)
    try:
        return None if options is None else DivisiveNorm(**options)
    except TypeError as error:
        raise MismatchError(f"divisive_norm takes groups, power and delta, not {options!r}") from error
