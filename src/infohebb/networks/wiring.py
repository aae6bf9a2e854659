"""How the fixed part of a reservoir is wired: at random, or to remember and compare."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from infohebb.errors import UsageError, is_number, is_whole
from infohebb.functional.reservoir import INTENDED, PUBLISHED, Weights, random_recurrent, spectral_radius


class Wiring(NamedTuple):
    """All of a reservoir that never learns; its readout reads the last `readable` units."""

    weights: Weights
    strength: float  # λ, of the recurrent weights
    leak: Float[Tensor, "n"]  # k of each unit: the share of the way that one time step goes
    readable: int


class Sizes(NamedTuple):
    """Numbers of inputs, of units, and of outputs."""

    inputs: int
    units: int
    outputs: int


def leaks(units: int, tau: float | Sequence[float] = 5e-3, dt: float = 1e-3) -> Float[Tensor, "n"]:
    """dt / tau of each unit; of several time constants each has its share of the units.

    Raises UsageError for what is no time constant, and for a step that is longer than one, or not positive.
    """
    several = list(tau) if isinstance(tau, Sequence) else [tau]
    if not several or not all(map(is_number, several)):
        raise UsageError(f"tau {tau!r} of a reservoir; take seconds, such as 5e-3, or a list of them")
    constants = torch.tensor(several, dtype=torch.get_default_dtype())
    if not is_number(dt) or dt <= 0 or bool((constants < dt).any()):
        shortest = constants.min().item()
        raise UsageError(
            f"a time step of {dt!r} s with a time constant of {shortest:g} s: units would overshoot what drives them; "
            "take a positive dt that is not longer than tau"
        )
    return dt / constants[torch.arange(units) * len(constants) // units]


def random_wiring(
    sizes: Sizes,
    *,
    strength: float = 1.2,
    density: float = INTENDED,
    published: bool = False,
    radius: float | None = None,
    tau: float | Sequence[float] = 5e-3,
    dt: float = 1e-3,
    input_scale: float = 1.0,
    feedback: bool = True,
    chance: torch.Generator | None = None,
) -> Wiring:
    """Recurrent weights of variance 1 / (0.1 n) and the given density; from inputs and readout, U(-1, 1).

    `published` keeps nine of ten weights where one of ten was meant: a spectral radius of 3. A `radius` scales them to
    exactly that one, before `strength` multiplies them. `input_scale` multiplies the input's. Raises UsageError.
    """
    check_sizes(sizes)
    for name, number in (("strength", strength), ("input_scale", input_scale)):
        if not is_number(number):
            raise UsageError(f"{name} {number!r} of a reservoir; take a finite number")
    if not is_number(density) or not 0 < density <= 1:
        raise UsageError(f"density {density!r} of recurrent weights; take a share of more than 0 and at most 1")
    recurrent = random_recurrent(sizes.units, PUBLISHED if published else density, chance)
    if radius is not None:
        found = spectral_radius(recurrent)
        if not is_number(radius) or radius < 0 or found == 0:
            raise UsageError(
                f"spectral radius {radius!r} of weights whose own is {found:g}; take more of them, or None"
            )
        recurrent *= radius / found
    inputs, back = (2 * torch.rand(rows, sizes.units, generator=chance) - 1 for rows in (sizes.inputs, sizes.outputs))
    weights = Weights(recurrent, inputs * input_scale, back * feedback)
    return Wiring(weights, strength, leaks(sizes.units, tau, dt), sizes.units)


def check_sizes(sizes: Sizes) -> None:
    """Raise UsageError unless there is at least one of everything."""
    for name, number in sizes._asdict().items():
        if not is_whole(number) or number < 1:
            raise UsageError(f"{number!r} {name} of a reservoir; take a whole number of at least 1")
