"""Small plain networks on which rules are checked, and the units and head that a Learner is told."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from infohebb.errors import MismatchError
from infohebb.networks import CorInfoMaxNetwork, EquilibriumNetwork, PredictiveCodingNetwork, Settling
from infohebb.networks.plain import MLP, ConvNet, LeakyMLP
from infohebb.rules.contract import LearningRule

SAMPLES, CLASSES, IMAGE = 6, 3, (2, 4, 4)
WIDTHS = (24, 20, 16)
NORM = {"groups": 4, "power": 0.2, "delta": 1.0}
VARIANTS: dict[type[Settling], list[dict[str, Any]]] = {  # settings beside the defaults
    CorInfoMaxNetwork: [
        {"sparse": (1, 2), "multiplier_rates": (0.1, 0.05), "entropy_gain": 0.01},
        {"schedule": "divide_by_loop_index"},
    ],
    EquilibriumNetwork: [{"lateral": True}],
    PredictiveCodingNetwork: [{"nonlinearity": "relu"}],
}


@dataclass(frozen=True)
class Example:
    """How to make a network, and its units and head; None for those that a Learner finds by itself."""

    make: Callable[[], nn.Module]
    units: Sequence[str] | None = None
    head: str | None = None


class ResidualBlock(nn.Module):
    """Return relu(conv(relu(conv(x))) + shortcut(x)), with batch norms; the shortcut is a strided convolution."""

    def __init__(self, channels: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        strided = (nn.Conv2d(channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Sequential(*strided) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activity (m × outputs × rows × columns)."""
        inside = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inside)) + self.shortcut(x))


class ResidualNetwork(nn.Module):
    """Return the logits of a stem, two residual blocks and a linear readout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(IMAGE[0], 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.layers = nn.ModuleList([ResidualBlock(8, 8, 2), ResidualBlock(8, 8, 1)])
        self.fc = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (m × classes)."""
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.fc(x.flatten(1))


class SequenceNetwork(nn.Module):
    """Return the logits of two layers that see each time step alone, averaged over time, and a linear readout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(inputs, 24), nn.GELU()) for inputs in (16, 24))
        self.fc = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (m × classes) of sequences: an image's channels are taken for its time steps."""
        x = x.flatten(2)
        for layer in self.layers:
            x = layer(x)
        return self.fc(x.mean(1))


def convolution_batch_norm() -> nn.Module:
    """Return a convolutional network of torch's own modules."""
    return nn.Sequential(
        *(nn.Conv2d(IMAGE[0], 8, 3, padding=1), nn.BatchNorm2d(8), nn.LeakyReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten()),
        nn.Linear(16, CLASSES),
    )


def leaky_networks(rule: LearningRule) -> dict[str, Example]:
    """Return a network whose potentials go on from step to step, for a rule that names them in `updated_buffers`."""
    if "potential" not in rule.updated_buffers:
        return {}
    return {"LeakyMLP": Example(partial(LeakyMLP, IMAGE, CLASSES, WIDTHS, slots=SAMPLES))}


def example_networks() -> dict[str, Example]:
    """Return the networks of the suite, by name."""
    mlp = partial(MLP, IMAGE, CLASSES, WIDTHS)
    convolutional = partial(ConvNet, IMAGE, CLASSES, (8, 4), (1,), (12,))
    return {
        "MLP": Example(partial(mlp, bias=True)),
        "MLP, divisive norm": Example(partial(mlp, divisive_norm=NORM)),
        "MLP, layer norm": Example(partial(mlp, norm="layer", nonlinearity="tanh")),
        "MLP, dropout": Example(partial(mlp, divisive_norm=NORM, dropout=0.3)),
        "convolution, batch norm": Example(convolution_batch_norm),
        "convolution, divisive norm": Example(partial(convolutional, divisive_norm=NORM)),
        "residual": Example(ResidualNetwork, ("stem", "layers.*"), "fc"),
        "sequence": Example(SequenceNetwork, ("layers.*",), "fc"),
    }


def networks_for(rule: LearningRule) -> dict[str, Example]:
    """Return the networks on which a rule is checked, by name: those of its own type, or any."""
    return example_networks() if rule.own_network is None else settling_networks(rule.own_network)


def settling_networks(kind: type[nn.Module]) -> dict[str, Example]:
    """Return small networks of a type that settles, shallow and deep, by name.

    One of a user's own is made of inputs, outputs and widths. Raises MismatchError for a type that does not settle.
    """
    if not issubclass(kind, Settling):
        raise MismatchError(
            f"the contract suite has no example of a {kind.__name__} network; derive it from infohebb.networks.Settling"
        )
    found = {}
    for each, options in settling_kinds(kind):
        words = f", {' '.join(options)}" if options else ""
        for depth, widths in (("shallow", (12,)), ("deep", (12, 10, 8))):
            make = partial(each, IMAGE, CLASSES, widths, **options)
            found[f"{each.__name__}, {depth}{words}"] = Example(make)
    return found


def settling_kinds(kind: type[Settling]) -> Iterator[tuple[type[Settling], dict[str, Any]]]:
    """Yield types of settling networks that are of a kind, each with the settings that its rules may need."""
    known = [each for each in VARIANTS if issubclass(each, kind)]
    if not known:
        yield kind, {}
    for each in known:
        yield each, {}
        yield from ((each, options) for options in VARIANTS[each])
