"""The circuit that makes a layer's third factor from a stream: a few cells, each with one running quantity.

s (c)  what the layer's kernel sees: the signals of its groups, or the activity itself
μ (c)  what s is compared with: that of the stimulus before, or a fast trace

    difference    Δs = s - μ, a cell for each number
    population    |Δs|², summed by one population
    similarity    k_z = exp(-|Δs|² / 2σ²), its exponential gain
    average       κ_z, one slow cell that follows k_z
    teaching      k_y - κ_y, the same label as before or another, minus its average: one number for all layers
    modulator     M = -(1/σ²) (gamma (k_y - κ_y) - 2 (k_z - κ_z)) k_z
    for_groups    M Δs, one cell for each group

All but the teaching signal is inside the layer. A cell's slow average moves by a share max(rate, 1/t) of the way at the
t-th pair of stimuli, so that it is their mean first.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from infohebb.functional import online

Scalar = Float[Tensor, ""]
Signal = Float[Tensor, "c"]


class Cells(NamedTuple):
    """What each cell of a layer's circuit holds after a stimulus."""

    difference: Signal
    population: Scalar
    similarity: Scalar
    teaching: Scalar
    modulator: Scalar
    for_groups: Signal


class TeachingCell(nn.Module):
    """The global signal: whether a label is that of the stimulus before, and its slow average κ_y.

    Buffers `label`, `same` (k_y: 1, or -1/(N-1) of N classes), `average` (κ_y) and `stimuli`, how many there were;
    `like` gives their type.
    """

    label: Tensor
    same: Tensor
    average: Tensor
    stimuli: Tensor
    one: Tensor
    other: Tensor

    def __init__(self, classes: int, like: Tensor):
        super().__init__()
        self.register_buffer("label", torch.zeros((), dtype=torch.int64, device=like.device))
        for name in ("same", "average", "stimuli"):
            self.register_buffer(name, like.new_zeros(()))
        self.register_buffer("one", like.new_ones(()), persistent=False)
        self.register_buffer("other", like.new_full((), -1 / max(classes - 1, 1)), persistent=False)

    def hear(self, label: Int[Tensor, ""], rate: float) -> Scalar:
        """Compare a new stimulus with the one before; returns the share of the way for slow cells."""
        share = self.stimuli.reciprocal().clamp_(min=rate)
        self.same.copy_(torch.where(label.eq(self.label), self.one, self.other))
        self.average.lerp_(self.same, share)
        return share

    def remember(self, label: Int[Tensor, ""]) -> None:
        """The stimulus that is there: the one before, for the next."""
        self.label.copy_(label)
        self.stimuli.add_(self.one)

    @property
    def signal(self) -> Scalar:
        """k_y - κ_y."""
        return self.same - self.average


class Circuit(nn.Module):
    """A layer's third factor, from its own signals s (c) and the teaching signal.

    Buffers `before` (c), the μ of its difference cells, and `average`, κ_z. `cells` are readable after each call.
    """

    before: Tensor
    average: Tensor

    def __init__(self, width: int, sigma: float, gamma: float, like: Tensor):
        super().__init__()
        self.sigma, self.gamma = sigma, gamma
        self.register_buffer("before", like.new_zeros(width))
        self.register_buffer("average", like.new_zeros(()))
        self.cells: Cells | None = None

    def forward(self, signal: Signal, teaching: Scalar, share: Scalar | None) -> Cells:
        """Take in the layer's signals of a time step; the slow cell moves by `share`, not at all without it."""
        difference = signal - self.before
        population = torch.dot(difference, difference)
        similarity = torch.exp(population * (-0.5 / self.sigma**2))
        if share is not None:
            self.average.lerp_(similarity, share)
        modulator = online.modulator(similarity, similarity - self.average, teaching, self.sigma, self.gamma)
        for_groups = modulator * difference
        self.cells = Cells(difference, population, similarity, teaching, modulator, for_groups)
        return self.cells

    def remember(self, signal: Signal, share: float = 1.0) -> None:
        """Move μ to the signals that are there, or by a share of the way."""
        follow(self.before, signal, share)


def follow(trace: Tensor, value: Tensor, share: float) -> None:
    """Move a trace by a share of the way to a value; wholly, if it is 1."""
    if share == 1:
        trace.copy_(value)
    else:
        trace.lerp_(value, share)
