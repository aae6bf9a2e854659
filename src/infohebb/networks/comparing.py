"""A reservoir that is wired to remember and compare: fixed weights, of which only the readout's will be learned.

Its input is s = (x, y, z) of the current sample, held for `hold` steps: features, one-hot label, activities. From there

    line       each input channel enters a chain of leaky linear units, `stages` of them, which holds its recent past
    recall     per remembered sample and channel one linear unit: what the line says that it was
    alike      per remembered sample and class one unit: both it and the current sample are of that class
    compare    per remembered sample `units` random units that read z_N - z_q, x_N - x_q, whether the labels are alike,
               and how many of the remembered samples have the current label; the same random weights for each of them
    pool       `units` linear units: compare units of the same weights, summed over the remembered samples; all that
               the readout reads

Rate units are linear where they are driven little: those that are meant to be are driven by LITTLE.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from infohebb.errors import UsageError, is_whole
from infohebb.functional.reservoir import Weights
from infohebb.networks.wiring import Wiring

LITTLE = 1e-3
SHARP = 4.0  # the drive of an `alike` unit goes from -1.5 to 0.5, times this
SETTLED = 6  # steps at the end of a stimulus in which recall is to be right: the units after it need some
RIDGE = 1e-8
DENSE = 1500  # units up to which the recurrent weights are a dense matrix


class Channels(NamedTuple):
    """Numbers of features, classes and activities: x, y, z of the input, in this order."""

    features: int
    classes: int
    activities: int


class Gains(NamedTuple):
    """What compare units listen to, and how much: standard deviations of their random weights."""

    activities: float = 1.0
    features: float = 0.12
    alike: float = 1.4
    counted: float = 0.7
    bias: float = 1.0


def line_leak(window: int, stages: int, hold: int) -> float:
    """k of a line whose last stage lags behind by about the window; 1, an exact delay, of as many stages as steps."""
    return 1.0 if stages > hold * (window - 1) else stages / (hold * (window - 0.5))


def recalling(window: int, stages: int, hold: int) -> Float[Tensor, "q stages"]:
    """Weights from a line's stages to its value 1, 2, … window - 1 samples ago, at the last steps of a stimulus.

    From the line's answer to a single sample, by least squares.
    """
    k, older = line_leak(window, stages, hold), 2 * window
    u, answers = torch.zeros(stages, dtype=torch.float64), []
    for step in range((older + 1) * hold):
        answers.append(u)
        push = torch.cat([torch.tensor([float(step < hold)], dtype=torch.float64), u[:-1]])
        u = torch.lerp(u, push, k)
    of_lag = torch.stack(answers).view(older + 1, hold, stages)[:, -SETTLED:]
    wanted = torch.eye(older + 1, dtype=torch.float64)[:, 1:window].repeat_interleave(of_lag.shape[1], 0)
    A = of_lag.flatten(0, 1)
    gram = A.T @ A + RIDGE * torch.eye(stages, dtype=torch.float64)
    return torch.linalg.solve(gram, A.T @ wanted).T.float()


def comparing_wiring(
    channels: Channels,
    window: int,
    units: int = 400,
    *,
    stages: int | None = None,
    hold: int = 20,
    gains: Gains | None = None,
    chance: torch.Generator | None = None,
) -> Wiring:
    """The wiring for windows of `window` samples: a line of four `stages` per sample, unless told otherwise.

    With a stage for each step, hold · (window - 1) + 1 of them, its delays are exact. Raises UsageError.
    """
    stages = 4 * window if stages is None else stages
    known = {"window": (window, 2), "units": (units, 1), "hold": (hold, SETTLED), "stages": (stages, 1)}
    for name, (number, least) in known.items():
        if not is_whole(number) or number < least:
            raise UsageError(f"{name} {number!r} of a comparing reservoir; take a whole number of at least {least}")
    parts = _Parts(channels, window - 1, stages, units)
    edges = _Edges(sum(parts.lengths))
    gains = Gains() if gains is None else gains
    inputs = torch.zeros(sum(channels), edges.units)
    _wire_line(parts, edges, inputs, recalling(window, stages, hold))
    _wire_alike(parts, edges, inputs)
    _wire_compare(parts, edges, inputs, gains, chance)
    leak = torch.ones(edges.units)
    leak[: parts.start("recall")] = line_leak(window, stages, hold)
    return Wiring(Weights(edges.matrix(), inputs, torch.zeros(channels.activities, edges.units)), 1.0, leak, units)


class _Parts(NamedTuple):
    """Which unit is where."""

    channels: Channels
    remembered: int
    stages: int
    units: int

    @property
    def lengths(self) -> tuple[int, ...]:
        width, per = sum(self.channels), self.remembered
        return width * self.stages, per * width, per * self.channels.classes, per * self.units, self.units

    def start(self, part: str) -> int:
        return sum(self.lengths[: ("line", "recall", "alike", "compare", "pool").index(part)])

    def at(self, part: str, *shape: int) -> Tensor:
        """Positions of the units of a part, as an array of that shape."""
        return self.start(part) + torch.arange(torch.Size(shape).numel()).view(shape)

    def slices(self) -> tuple[slice, slice, slice]:
        """Where x, y and z are among the channels."""
        x, y, _ = self.channels
        return slice(0, x), slice(x, x + y), slice(x + y, None)


class _Edges:
    """A matrix of few connections while it grows."""

    def __init__(self, units: int):
        self.units = units
        self._from: list[Tensor] = []
        self._to: list[Tensor] = []
        self._weights: list[Tensor] = []

    def add(self, source: Tensor, target: Tensor, weight: Tensor | float) -> None:
        """Connections from `source` to `target`, all broadcast against each other."""
        added = torch.broadcast_tensors(source, target, torch.as_tensor(weight))
        for known, new in zip((self._from, self._to, self._weights), added, strict=True):
            known.append(new.flatten())

    def matrix(self) -> Tensor:
        """All of them; dense while that is the faster one."""
        places = torch.stack([torch.cat(self._from), torch.cat(self._to)])
        size = (self.units, self.units)
        matrix = torch.sparse_coo_tensor(places, torch.cat(self._weights).float(), size, check_invariants=True)
        return matrix.to_dense() if self.units <= DENSE else matrix.coalesce()


def _wire_line(parts: _Parts, edges: _Edges, inputs: Tensor, recall: Tensor) -> None:
    width = sum(parts.channels)
    line = parts.at("line", width, parts.stages)
    inputs[torch.arange(width), line[:, 0]] = LITTLE
    edges.add(line[:, :-1], line[:, 1:], 1.0)
    edges.add(line, parts.at("recall", parts.remembered, width)[:, :, None], recall[:, None])


def _wire_alike(parts: _Parts, edges: _Edges, inputs: Tensor) -> None:
    """tanh(SHARP (y_N + y_q - 1.5)) of each class; labels sum to one, so that -1.5 may come from them."""
    classes = parts.channels.classes
    alike, y = parts.at("alike", parts.remembered, classes), parts.slices()[1]
    edges.add(parts.at("recall", parts.remembered, sum(parts.channels))[:, y], alike, SHARP / LITTLE)
    own = SHARP * (torch.eye(classes) - 1.5)
    inputs[y, alike.flatten()] = own.repeat(1, parts.remembered)


def _wire_compare(parts: _Parts, edges: _Edges, inputs: Tensor, gains: Gains, chance: torch.Generator | None) -> None:
    (features, classes, activities), m, per = parts.channels, parts.units, parts.remembered
    x, y, z = parts.slices()
    compare = parts.at("compare", per, m)
    recall = parts.at("recall", per, features + classes + activities)

    def draw(rows: int, gain: float) -> Tensor:
        return torch.randn(rows, m, generator=chance) * gain

    of_z, of_x = (draw(n, gain / n**0.5) for n, gain in ((activities, gains.activities), (features, gains.features)))
    of_alike, of_count, bias = (draw(1, gain) for gain in (gains.alike, gains.counted, gains.bias))
    for place, weights in ((x, of_x), (z, of_z)):
        inputs[place, compare.flatten()] = weights.repeat(1, per)
        edges.add(recall[:, place, None], compare[:, None], -weights / LITTLE)
    inputs[y, compare.flatten()] = bias.repeat(classes, per)
    alike = parts.at("alike", per, classes)
    edges.add(alike[:, :, None], compare[:, None], of_alike)
    edges.add(alike[None, :, :, None], compare[:, None, None], of_count / per)
    edges.add(compare, parts.at("pool", m), LITTLE)
