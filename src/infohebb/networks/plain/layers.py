"""Layer: weights, nonlinearity and what follows them; LayerFactory builds the layers of one network alike."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import GroupingError, MismatchError, is_number, naming, unknown_name
from infohebb.networks.plain.divisive_norm import DivisiveNorm, check_groups
from infohebb.networks.plain.dropout import Dropout
from infohebb.networks.unit import Shape

ACTIVATIONS: dict[str, Callable[[float], nn.Module]] = {  # the argument is the slope of leaky ReLU
    "leaky_relu": lambda slope: nn.LeakyReLU(slope, inplace=True),
    "relu": lambda _: nn.ReLU(inplace=True),
    "selu": lambda _: nn.SELU(inplace=True),
    "tanh": lambda _: nn.Tanh(),
    "identity": lambda _: nn.Identity(),
    "gelu": lambda _: nn.GELU(),  # GELU and SiLU need their input for the backward, so they cannot overwrite it
    "silu": lambda _: nn.SiLU(),
}
INCREASING = ("leaky_relu", "relu", "selu", "tanh", "identity")  # a maximum may be taken before them, at less cost
MAKE_MODULES = (
    "must be a name, such as 'relu', or a callable without arguments that returns a new module for each layer, such as "
    "torch.nn.GELU"
)

Nonlinearity = str | Callable[[], nn.Module]
Settings = DivisiveNorm | Mapping[str, Any] | None


class ChannelLayerNorm(nn.Module):
    """Return a map (m, channels, rows, columns) with each pixel centred and scaled to variance 1 over its channels.

    There are no weights. The result lies channels last in memory, as torch's layer norm leaves it.
    """

    def __init__(self, channels: int, epsilon: float = 1e-5):
        super().__init__()
        self.channels, self.epsilon = channels, epsilon

    def forward(self, x: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
        """Return the normalised map."""
        pixels = x.permute(0, 2, 3, 1)
        return nn.functional.layer_norm(pixels, (self.channels,), eps=self.epsilon).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """Return the settings as text."""
        return f"{self.channels}, epsilon={self.epsilon}"


class Layer(nn.Module):
    """Return the output: the activity after average pooling, divisive norm and dropout, as far as there are any.

    `activity` is the unit: linear or conv, then norm, pool, activation, layer_norm, as far as there are any. The shapes
    are those of one sample, without the batch axis.
    Activations overwrite what they receive where torch can, which saves memory and time. Torch then refuses a full
    backward hook on linear, conv or norm; take a hook of the output tensor instead.
    Raises GroupingError where the groups of the divisive norm do not divide the output.
    """

    def __init__(
        self,
        activity: nn.Sequential,
        activity_shape: Shape,
        average_pool: nn.AvgPool2d | None = None,
        divisive_norm: DivisiveNorm | None = None,
        dropout: Dropout | None = None,
    ):
        super().__init__()
        self.activity, self.average_pool = activity, average_pool
        self.divisive_norm, self.dropout = divisive_norm, dropout
        self.activity_shape = self.output_shape = activity_shape
        if average_pool is not None:
            self.output_shape = (activity_shape[0], *(length // 2 for length in activity_shape[1:]))
        if divisive_norm is not None:
            check_groups(divisive_norm.groups, math.prod(self.output_shape))

    @property
    def takes_rows(self) -> bool:
        """Whether it is a linear layer, which takes rows of numbers."""
        return len(self.activity_shape) == 1

    def forward(self, x: Float[Tensor, "m *features"]) -> Float[Tensor, "m *outputs"]:
        """Return the output, which the next layer receives."""
        x = self.activity(x)
        for module in (self.average_pool, self.divisive_norm, self.dropout):
            if module is not None:
                x = module(x)
        return x


class LayerFactory:
    """Builds the layers of one network; the arguments are those of MLP.

    Raises UnknownNameError, GroupingError, MismatchError.
    """

    def __init__(
        self,
        nonlinearity: Nonlinearity,
        slope: float,
        norm: str | None,
        divisive_norm: Settings,
        dropout: float,
        bias: bool,
        norm_epsilon: float,
    ):
        if norm not in (None, "batch", "layer"):
            raise unknown_name("norm", str(norm), ("batch", "layer"))
        if not is_number(norm_epsilon) or norm_epsilon <= 0:
            raise MismatchError(f"norm_epsilon {norm_epsilon!r}: give a number above 0, such as 1e-5")
        check_nonlinearity(nonlinearity, slope)
        Dropout(dropout)
        self.nonlinearity, self.slope, self.norm, self.divisive_norm = nonlinearity, slope, norm, divisive_norm
        self.dropout, self.bias, self.norm_epsilon = dropout, bias, norm_epsilon

    def linear(self, place: int, inputs: int, width: int, leak: nn.Module | None = None) -> Layer:
        """Return layer number `place`, of `width` neurons on `inputs` features; `leak` integrates the preactivation."""
        children: dict[str, nn.Module] = {"linear": nn.Linear(inputs, width, bias=self.bias)}
        if self.norm == "batch":
            children["norm"] = nn.BatchNorm1d(width, self.norm_epsilon)
        children |= {} if leak is None else {"leak": leak}
        children["activation"] = self._activation()
        if self.norm == "layer":
            children["layer_norm"] = nn.LayerNorm(width, self.norm_epsilon, elementwise_affine=False)
        return self._layer(place, children, (width,))

    def convolution(self, place: int, inputs: int, channels: int, size: tuple[int, int], pooling: str | None) -> Layer:
        """Return layer number `place`: 3 × 3 convolutions that keep the map's `size`, then 2 × 2 pooling or none.

        `pooling` is "max", "average" or None.
        """
        if self.norm == "layer" and pooling == "max":
            raise MismatchError(
                "norm='layer' does not go with pooling='max', which would pool what is normalised; take "
                "pooling='average' or norm='batch'"
            )
        children: dict[str, nn.Module] = {"conv": nn.Conv2d(inputs, channels, 3, padding=1, bias=self.bias)}
        if self.norm == "batch":
            children["norm"] = nn.BatchNorm2d(channels, self.norm_epsilon)
        later = {"activation": self._activation()}
        pools = {"pool": nn.MaxPool2d(2)} if pooling == "max" else {}
        children |= pools | later if self.nonlinearity in INCREASING else later | pools
        if self.norm == "layer":
            children["layer_norm"] = ChannelLayerNorm(channels, self.norm_epsilon)
        rows, columns = (length // 2 for length in size) if pools else size
        average = nn.AvgPool2d(2) if pooling == "average" else None
        return self._layer(place, children, (channels, rows, columns), average)

    def _layer(
        self, place: int, children: dict[str, nn.Module], shape: Shape, average: nn.AvgPool2d | None = None
    ) -> Layer:
        dropout = Dropout(self.dropout, isinstance(children["activation"], nn.SELU)) if self.dropout else None
        activity = nn.Sequential(OrderedDict(children))
        with naming(f"layers.{place}", GroupingError):
            return Layer(activity, shape, average, divisive_norm_of(self.divisive_norm), dropout)

    def _activation(self) -> nn.Module:
        if isinstance(self.nonlinearity, str):
            return ACTIVATIONS[self.nonlinearity](self.slope)
        try:
            made = self.nonlinearity()
        except TypeError as error:
            raise MismatchError(f"nonlinearity {_name(self.nonlinearity)} {MAKE_MODULES}") from error
        if not isinstance(made, nn.Module):
            raise MismatchError(f"nonlinearity {_name(self.nonlinearity)} returns {_name(made)}; it {MAKE_MODULES}")
        return made


def check_nonlinearity(nonlinearity: Nonlinearity, slope: float) -> None:
    """Raise UnknownNameError for a name that does not exist, MismatchError for anything else that is not allowed."""
    if isinstance(nonlinearity, nn.Module) or not (isinstance(nonlinearity, str) or callable(nonlinearity)):
        raise MismatchError(f"nonlinearity {_name(nonlinearity)} {MAKE_MODULES}")
    if isinstance(nonlinearity, str) and nonlinearity not in ACTIVATIONS:
        raise unknown_name("nonlinearity", nonlinearity, ACTIVATIONS)
    if nonlinearity == "leaky_relu" and (not is_number(slope) or slope <= 0):
        raise MismatchError(f"slope {slope!r} of leaky ReLU: give a number above 0, or take relu for 0")


def _name(given: object) -> str:
    """Return a short name of what was given: modules have representations of many lines."""
    if isinstance(given, nn.Module):
        return f"{type(given).__name__}(…)"
    return getattr(given, "__name__", None) or repr(given)


def divisive_norm_of(settings: Settings) -> DivisiveNorm | None:
    """Return a new module with those settings, so that layers share none.  Raises GroupingError, MismatchError."""
    if settings is None:
        return None
    if isinstance(settings, DivisiveNorm):
        settings = {"groups": settings.groups, "power": settings.power, "delta": settings.delta, "dim": settings.dim}
    if not isinstance(settings, Mapping) or not settings.keys() <= {"groups", "power", "delta", "dim"}:
        raise MismatchError(f"divisive_norm takes groups, power and delta, not {settings!r}")
    if settings.get("dim", 1) != 1:
        raise MismatchError(f"divisive_norm with dim={settings['dim']!r}: layers have their channels on dim 1")
    return DivisiveNorm(**settings)
