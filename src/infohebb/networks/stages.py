"""What each of torch's modules is as a stage of a block."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from infohebb.errors import MismatchError, naming
from infohebb.functional.convolution import Geometry
from infohebb.functional.nonlinearities import RELU, SELU, TANH, Nonlinearity, leaky_relu
from infohebb.networks.blocks import Block, DivisiveNorm

Shape = tuple[int | None, ...]  # of a sample: (features,) or (channels, rows, columns); None where it is not known

STAGES = {  # of a block, in their order: Block's argument, and its name in words
    "batch_norm": "batch norm",
    "nonlinearity": "activation",
    "layer_norm": "layer norm",
    "residual": "residual addition",
    "pool": "max pooling",
    "average": "average pooling",
    "divisive_norm": "divisive norm",
    "dropout": "dropout",
}
ORDER = tuple(STAGES)


class Place(NamedTuple):
    """A module and its name in the whole, such as "2" or "features.2"."""

    name: str
    module: Any

    def __str__(self) -> str:
        return f"{self.name} ({type(self.module).__name__})"

    def wrong(self, why: str) -> MismatchError:
        """The error that names this module."""
        return MismatchError(f"{self}: {why}")


class Standing(NamedTuple):
    """A module that follows what there is of a block, and the shape of a sample there."""

    place: Place
    block: Block
    shape: Shape

    @property
    def module(self) -> Any:
        """The module itself."""
        return self.place.module

    @property
    def wrong(self) -> Callable[[str], MismatchError]:
        """The error that names the module."""
        return self.place.wrong


def map_size(shape: Shape) -> tuple[int, int] | None:
    """Rows and columns of a map, where they are known."""
    match shape:
        case (_, int(rows), int(columns)):
            return rows, columns
    return None


def flat(shape: Shape) -> Shape:
    """The number of features of a sample of that shape."""
    known = [length for length in shape if length is not None]
    return (math.prod(known) if len(known) == len(shape) else None,)


def resized(place: Place, shape: Shape, windows: Geometry) -> Shape:
    """A map's shape after convolution or pooling.  Raises MismatchError when nothing is left of it."""
    size = map_size(shape)
    if size is None:
        return shape
    after = windows.map_size(size)
    if min(after) < 1:
        raise place.wrong(f"nothing is left of a map of {size[0]} × {size[1]}; pool less, or give larger inputs")
    return (shape[0], *after)


def batch_norm(at: Standing) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """The module itself, which normalises what the layer of weights gives."""
    convolutional = at.block.geometry is not None
    if isinstance(at.module, nn.BatchNorm2d) != convolutional or (len(at.shape) == 3) != convolutional:
        raise at.wrong("take nn.BatchNorm1d right after a Linear, nn.BatchNorm2d right after a Conv2d")
    if at.module.num_features != at.shape[0]:
        raise at.wrong(f"it has {at.module.num_features} features, but receives {at.shape[0]}; change one of them")
    return at.module


def nonlinearity(at: Standing) -> Nonlinearity:
    """What an activation computes, with its derivative."""
    if not isinstance(at.module, nn.LeakyReLU):
        return {nn.ReLU: RELU, nn.SELU: SELU, nn.Tanh: TANH}[type(at.module)]
    try:
        return leaky_relu(at.module.negative_slope) if at.module.negative_slope else RELU
    except ValueError as error:
        raise at.wrong(str(error)) from error


def layer_norm(at: Standing) -> nn.LayerNorm:
    """The module itself, over all neurons of a Linear layer; on maps torch's goes over columns, not channels."""
    if at.block.geometry is not None:
        raise at.wrong("a convolutional block has no layer norm of torch's; build Block with one, or take batch norm")
    if at.module.normalized_shape != at.shape:
        raise at.wrong(f"it normalises {at.module.normalized_shape}, but receives {at.shape}; change one of them")
    return at.module


def windows(at: Standing) -> Geometry:
    """The windows of max or average pooling."""
    check_map(at)
    pool = at.module
    extras = {"ceil_mode": False, "dilation": 1, "return_indices": False, "divisor_override": None}
    for name, wanted in extras.items():
        if any(value != wanted for value in pair(getattr(pool, name, wanted))):
            raise at.wrong(f"a block does not pool with {name}={getattr(pool, name)}; leave it out")
    if any(pair(pool.padding)) and not getattr(pool, "count_include_pad", True):
        raise at.wrong("a block's average counts the zeros beyond the border; take count_include_pad=True")
    return Geometry(pair(pool.kernel_size), pair(pool.stride), pair(pool.padding))


def adaptive_windows(at: Standing) -> Geometry | None:
    """The windows that make a map of known size one of the size asked for; None where it is that already."""
    check_map(at)
    size = map_size(at.shape)
    if size is None:
        raise at.wrong("the size of its map is not known; give inputs=(channels, rows, columns)")
    counts = pair(at.module.output_size)
    rows, columns = (length if count is None else count for length, count in zip(size, counts, strict=True))
    if size[0] % rows or size[1] % columns:
        raise at.wrong(
            f"a map of {size[0]} × {size[1]} is not cut into {rows} × {columns} equal windows; take numbers that "
            "divide it, or nn.AvgPool2d"
        )
    kernel = (size[0] // rows, size[1] // columns)
    return None if kernel == (1, 1) else Geometry(kernel, kernel)


def check_map(at: Standing) -> None:
    """Raise MismatchError for pooling of what is no map."""
    if len(at.shape) != 3:
        raise at.wrong("it pools maps, but receives rows of numbers; put it before nn.Flatten(), or leave it out")


def group_norm(at: Standing) -> DivisiveNorm:
    """Group norm as divisive norm: power 1/2, and epsilon times a group's size for delta.

    Its weights do not learn, so that they must be the ones and zeros that they start as.
    """
    norm, (features,) = at.module, flat(at.shape)
    if norm.affine and bool((norm.weight != 1).any() | (norm.bias != 0).any()):
        raise at.wrong("its weights are not one and zero, and would not learn; take affine=False")
    if features is None:
        raise at.wrong("the size of its groups is not known; give inputs=(channels, rows, columns)")
    if norm.num_channels != at.shape[0]:
        raise at.wrong(f"it has {norm.num_channels} channels, but receives {at.shape[0]}; change one of them")
    with naming(at.place):
        return DivisiveNorm(norm.num_groups, 0.5, norm.eps * features / norm.num_groups)


def itself(at: Standing) -> nn.Module:
    """A module of ours."""
    return at.module


def dropout(at: Standing) -> float | None:
    """The rate, of the kind of dropout that a block chooses by its activation; None where nothing is dropped."""
    if at.module.p == 0:
        return None
    alpha, wanted = isinstance(at.module, nn.AlphaDropout), at.block.nonlinearity.self_normalising
    if wanted and not alpha:
        raise at.wrong("only alpha dropout keeps the mean and variance of SELU neurons; take nn.AlphaDropout")
    if alpha and not wanted:
        raise at.wrong("alpha dropout sets units to SELU's lower limit, and these are not SELU; take nn.Dropout")
    return at.module.p


def pair(value: Any) -> tuple[Any, Any]:
    """Rows and columns of a setting that may be one number for both."""
    return (value[0], value[1]) if isinstance(value, tuple | list) else (value, value)


PARTS: dict[type[nn.Module], tuple[str, Callable[[Standing], Any]]] = {  # the stage, and what Block is given for it
    nn.BatchNorm1d: ("batch_norm", batch_norm),
    nn.BatchNorm2d: ("batch_norm", batch_norm),
    nn.ReLU: ("nonlinearity", nonlinearity),
    nn.LeakyReLU: ("nonlinearity", nonlinearity),
    nn.SELU: ("nonlinearity", nonlinearity),
    nn.Tanh: ("nonlinearity", nonlinearity),
    nn.LayerNorm: ("layer_norm", layer_norm),
    nn.MaxPool2d: ("pool", windows),
    nn.AvgPool2d: ("average", windows),
    nn.AdaptiveAvgPool2d: ("average", adaptive_windows),
    nn.GroupNorm: ("divisive_norm", group_norm),
    DivisiveNorm: ("divisive_norm", itself),
    nn.Dropout: ("dropout", dropout),
    nn.AlphaDropout: ("dropout", dropout),
}
