"""ConvNet: convolutional blocks, then fully connected ones."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from torch import nn

from infohebb.errors import MismatchError, is_number, unknown_name
from infohebb.functional.nonlinearities import Nonlinearity
from infohebb.networks.blocks import DivisiveNorm
from infohebb.networks.layered import Layered
from infohebb.networks.parts import Parts, check_sizes, initialise

CHANNELS = (128, 256, 256, 512, 512, 512)
POOLED = (2, 4, 5, 6)


class ConvNet(Layered):
    """Convolutions 3 × 3 that keep the map's size, some with 2 × 2 pooling, then fully connected blocks, a readout.

    `inputs` is the shape (channels, rows, columns) of a sample; `channels` has one number per convolutional block, all
    multiplied by `factor`; `pooled` names those that pool, counted from 1, by maxima or averages (`pooling`). The
    defaults are the network of the kernelized bottleneck's second table at width 1x. The rest is as in MLP; layer norm
    goes over the channels of each pixel, and takes average pooling.
    Raises UnknownNameError, GroupingError, MismatchError.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (each setting by its name)
        self,
        inputs: Sequence[int] = (3, 32, 32),
        outputs: int = 10,
        channels: Sequence[int] = CHANNELS,
        pooled: Sequence[int] = POOLED,
        widths: Sequence[int] = (1024,),
        factor: float = 1.0,
        nonlinearity: str | Nonlinearity = "selu",
        slope: float = 0.01,
        norm: Literal["batch", "layer"] | None = None,
        divisive_norm: DivisiveNorm | dict[str, Any] | None = None,
        dropout: float = 0.0,
        bias: bool = False,
        norm_epsilon: float = 1e-5,
        initial: Literal["torch", "lecun"] = "torch",
        pooling: Literal["max", "average"] = "max",
    ):
        check_sizes(inputs=inputs, outputs=(outputs,), channels=channels, pooled=pooled, widths=widths)
        if len(inputs) != 3:
            raise MismatchError(f"inputs {tuple(inputs)}: a convolutional network takes (channels, rows, columns)")
        if not is_number(factor):
            raise MismatchError(f"factor {factor!r} of the channels: give a number")
        maps = [round(factor * count) for count in channels]
        if min([*inputs, outputs, *maps, *widths]) < 1:
            raise MismatchError(f"no layer may be empty: {maps} channels, widths {list(widths)}, {outputs} outputs")
        if not set(pooled) <= set(range(1, len(maps) + 1)):
            raise MismatchError(f"pooled {list(pooled)}: count the blocks that pool from 1 to {len(maps)}")
        if pooling not in ("max", "average"):
            raise unknown_name("pooling", str(pooling), ("max", "average"))
        parts = Parts(nonlinearity, slope, norm, divisive_norm, dropout, bias, norm_epsilon)
        size, blocks = (inputs[1], inputs[2]), []
        for place, (below, count) in enumerate(pairwise([inputs[0], *maps]), 1):
            received, size = size, _halved(size, place) if place in pooled else size
            active = size if pooling == "max" else received
            how = pooling if place in pooled else None
            blocks.append(parts.convolution(place - 1, below, count, active, how))
        features = [inputs[0], *maps][-1] * math.prod(size)
        super().__init__(
            [*blocks, *parts.dense([features, *widths], len(blocks))], nn.Linear([features, *widths][-1], outputs)
        )
        initialise(self, initial)


def _halved(size: tuple[int, int], place: int) -> tuple[int, int]:
    """The map after pooling.  Raises MismatchError when nothing is left."""
    if min(size) < 2:
        raise MismatchError(f"block {place} cannot pool a map of {size[0]} × {size[1]}: nothing is left; pool less")
    return size[0] // 2, size[1] // 2
