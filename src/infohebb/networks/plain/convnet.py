"""ConvNet: convolutional layers, then fully connected ones."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import MismatchError, is_number, unknown_name
from infohebb.networks.parts import check_sizes, initialise
from infohebb.networks.plain.layered import LayeredNetwork
from infohebb.networks.plain.layers import LayerFactory, Nonlinearity, Settings

CHANNELS = (128, 256, 256, 512, 512, 512)
POOLED = (2, 4, 5, 6)


class ConvNet(LayeredNetwork):
    """Return the logits (m × outputs) of convolutional layers, fully connected layers and a linear readout with bias.

    Convolutions are 3 × 3 and keep the map's size. Max pooling is part of a layer's activity; average pooling follows
    it. The defaults are the network of the second table of the kernelized bottleneck paper, at width 1x.

    Args:
        inputs: shape (channels, rows, columns) of a sample.
        channels: channels of each convolutional layer, before `factor`.
        pooled: the convolutional layers, counted from 1, that end in 2 × 2 pooling.
        widths: neurons of each fully connected layer.
        factor: multiplies all `channels`.
        pooling: "max" or "average".
        outputs, nonlinearity, slope, norm, divisive_norm, dropout, bias, norm_epsilon, initial: as for MLP. On maps
            layer norm goes over the channels of each pixel, and needs average pooling.

    Raises:
        UnknownNameError, GroupingError, MismatchError: as for MLP.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (each setting by its name)
        self,
        inputs: Sequence[int] = (3, 32, 32),
        outputs: int = 10,
        channels: Sequence[int] = CHANNELS,
        pooled: Sequence[int] = POOLED,
        widths: Sequence[int] = (1024,),
        factor: float = 1.0,
        nonlinearity: Nonlinearity = "selu",
        slope: float = 0.01,
        norm: Literal["batch", "layer"] | None = None,
        divisive_norm: Settings = None,
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
            raise MismatchError(f"pooled {list(pooled)}: count the layers that pool from 1 to {len(maps)}")
        if pooling not in ("max", "average"):
            raise unknown_name("pooling", str(pooling), ("max", "average"))
        factory = LayerFactory(nonlinearity, slope, norm, divisive_norm, dropout, bias, norm_epsilon)
        size, layers = (inputs[1], inputs[2]), []
        for place, (below, count) in enumerate(pairwise([inputs[0], *maps])):
            pools = place + 1 in pooled
            after = _halved(size, place) if pools else size
            layers.append(factory.convolution(place, below, count, size, pooling if pools else None))
            size = after
        sizes = [[inputs[0], *maps][-1] * math.prod(size), *widths]
        layers += [factory.linear(place, *each) for place, each in enumerate(pairwise(sizes), len(layers))]
        super().__init__(layers, nn.Linear(sizes[-1], outputs))
        self.inputs = tuple(inputs)
        initialise(self, initial)

    def forward(self, inputs: Float[Tensor, "m *features"]) -> Float[Tensor, "m outputs"]:
        """Return the logits, or the predicted numbers.  Raises MismatchError for samples of another shape."""
        if tuple(inputs.shape[1:]) != self.inputs:
            expected = ", ".join(map(str, self.inputs))
            raise MismatchError(
                f"inputs of shape {tuple(inputs.shape)} do not fit the ConvNet; give (samples, {expected})"
            )
        return super().forward(inputs)


def _halved(size: tuple[int, int], place: int) -> tuple[int, int]:
    """Return the size of a map after 2 × 2 pooling.  Raises MismatchError when nothing is left."""
    if min(size) < 2:
        raise MismatchError(f"layers.{place} cannot pool a map of {size[0]} × {size[1]}: nothing is left; pool less")
    return size[0] // 2, size[1] // 2
