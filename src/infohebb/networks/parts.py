"""What all blocks of a network have in common, checked once, and the blocks that are made of it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from infohebb.errors import GroupingError, MismatchError, is_number, is_whole, naming, unknown_name
from infohebb.functional.convolution import HALVING
from infohebb.functional.nonlinearities import IDENTITY, RELU, SELU, TANH, Nonlinearity, leaky_relu
from infohebb.networks.blocks import Block, DivisiveNorm

NONLINEARITIES = {"leaky_relu": leaky_relu(), "relu": RELU, "selu": SELU, "tanh": TANH, "identity": IDENTITY}

LECUN = "lecun"
TRUNCATED = 0.87962566  # the standard deviation of a standard normal that is cut at ±2


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
        norm_epsilon: float = 1e-5,
    ):
        if norm not in (None, "batch", "layer"):
            raise unknown_name("norm", str(norm), ("batch", "layer"))
        if not is_number(norm_epsilon) or norm_epsilon <= 0:
            raise MismatchError(f"norm_epsilon {norm_epsilon!r}: give a number above 0, such as 1e-5")
        self.nonlinearity, self.norm_epsilon = nonlinearity_of(nonlinearity, slope), norm_epsilon
        self.norm, self.divisive_norm, self.dropout, self.bias = norm, divisive_norm, dropout, bias

    def layer_norm(self, neurons: int) -> nn.LayerNorm | None:
        """Layer norm over that many neurons, or channels of a pixel, without weights; None if it was not asked for."""
        return nn.LayerNorm(neurons, self.norm_epsilon, elementwise_affine=False) if self.norm == "layer" else None

    def dense(self, widths: Sequence[int], first: int = 0) -> list[Block]:
        """Fully connected blocks on widths[0] inputs, counted from `first`."""
        return [self._dense(place, *each) for place, each in enumerate(pairwise(widths), first)]

    def _dense(self, place: int, below: int, width: int) -> Block:
        with naming(f"blocks.{place}", GroupingError):
            return Block(
                nn.Linear(below, width, bias=self.bias),
                self.nonlinearity,
                batch_norm=nn.BatchNorm1d(width, self.norm_epsilon) if self.norm == "batch" else None,
                layer_norm=self.layer_norm(width),
                divisive_norm=divisive_norm_of(self.divisive_norm),
                dropout=self.dropout,
            )

    def convolution(
        self, place: int, below: int, channels: int, map_size: tuple[int, int], pooling: str | None
    ) -> Block:
        """A block of 3 × 3 convolutions that keep the map's size, then max or average pooling, or none.

        `map_size` is that of its activity, which comes after maxima and before averages.
        """
        with naming(f"blocks.{place}", GroupingError):
            return Block(
                nn.Conv2d(below, channels, 3, padding=1, bias=self.bias),
                self.nonlinearity,
                batch_norm=nn.BatchNorm2d(channels, self.norm_epsilon) if self.norm == "batch" else None,
                layer_norm=self.layer_norm(channels),
                divisive_norm=divisive_norm_of(self.divisive_norm),
                dropout=self.dropout,
                pool=HALVING if pooling == "max" else None,
                average=HALVING if pooling == "average" else None,
                map_size=map_size,
            )


def initialise(network: nn.Module, initial: str) -> None:
    """Draw the weights of each layer anew, if that is not as torch has drawn them.  Raises UnknownNameError.  [WMH 6.1]

    "lecun": normal with variance 1/inputs, truncated at two standard deviations of what it is cut from; biases 0.
    """
    if initial not in ("torch", LECUN):
        raise unknown_name("initial", str(initial), ("torch", LECUN))
    for layer in network.modules() if initial == LECUN else ():
        weight, bias = (layer._parameters.get(name) for name in ("weight", "bias"))
        if weight is not None and weight.dim() > 1:
            deviation = weight[0].numel() ** -0.5 / TRUNCATED
            nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            if bias is not None:
                nn.init.zeros_(bias)


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
