"""MLP: fully connected blocks from widths."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from torch import nn

from infohebb.errors import MismatchError, is_number, is_whole, unknown_name
from infohebb.functional.nonlinearities import IDENTITY, RELU, SELU, TANH, Nonlinearity, leaky_relu
from infohebb.networks.blocks import Block, DivisiveNorm
from infohebb.networks.layered import Layered

NONLINEARITIES = {"leaky_relu": leaky_relu(), "relu": RELU, "selu": SELU, "tanh": TANH, "identity": IDENTITY}


class MLP(Layered):
    """Fully connected blocks of the given widths on flattened inputs, and a linear readout with bias.

    `inputs` is a number of features or a shape; `widths` has one number per block, (16,) for a single one.
    `nonlinearity` is a name (leaky_relu, relu, selu, tanh, identity) or a `Nonlinearity`; `slope`, above 0, is leaky
    ReLU's. `norm` puts batch norm before the nonlinearity or layer norm after it. `divisive_norm` is a DivisiveNorm or
    its keyword arguments. Weights start as PyTorch's: U(±1/√inputs).
    Raises UnknownNameError, GroupingError, MismatchError.
    """

    def __init__(
        self,
        inputs: int | Sequence[int] = 64,
        outputs: int = 10,
        widths: Sequence[int] = (256, 256),
        nonlinearity: str | Nonlinearity = "leaky_relu",
        slope: float = 0.01,
        norm: Literal["batch", "layer"] | None = None,
        divisive_norm: DivisiveNorm | dict[str, Any] | None = None,
        dropout: float = 0.0,
        bias: bool = False,
    ):
        shape = inputs if isinstance(inputs, Sequence) else (inputs,)
        check_sizes(inputs=shape, outputs=(outputs,), widths=widths)
        features = math.prod(shape)
        if min(features, outputs, *widths) < 1:
            raise MismatchError(f"no layer may be empty: {features} inputs, widths {list(widths)}, {outputs} outputs")
        if norm not in (None, "batch", "layer"):
            raise unknown_name("norm", str(norm), ("batch", "layer"))
        if not is_number(dropout) or not 0 <= dropout < 1:
            raise MismatchError(f"dropout {dropout} is no probability below 1")
        chosen = nonlinearity_of(nonlinearity, slope)
        blocks = [
            Block(
                nn.Linear(below, width, bias=bias),
                chosen,
                batch_norm=nn.BatchNorm1d(width) if norm == "batch" else None,
                layer_norm=nn.LayerNorm(width, elementwise_affine=False) if norm == "layer" else None,
                divisive_norm=divisive_norm_of(divisive_norm),
                dropout=dropout,
            )
            for below, width in pairwise([features, *widths])
        ]
        super().__init__(blocks, nn.Linear([features, *widths][-1], outputs))


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
