"""The third factor that a reservoir says, in place of the one that needs the whole window."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import MismatchError, UsageError
from infohebb.functional.kernels import gaussian_gram
from infohebb.functional.readout import one_hot
from infohebb.functional.reservoir import explained, ridge
from infohebb.functional.working_memory import memory_weights, modulate_current
from infohebb.networks.comparing import Channels
from infohebb.networks.reservoir import Reservoir

PENALTIES = tuple(10.0**power for power in range(-10, 3))  # in units of the rates' mean square, times their number
Rows = Float[Tensor, "t d"]


class Samples(NamedTuple):
    """A stream of samples: features, one-hot labels, activities."""

    x: Float[Tensor, "t i"]
    y: Float[Tensor, "t c"]
    z: Float[Tensor, "t d"]


class Objective(NamedTuple):
    """Of which objective the third factor is the derivative, or what has been taken for it."""

    gamma: float = 10.0
    sigmas: tuple[float, float, float] = (0.5, 0.25, 1.0)  # of x, y, z
    modulator: str = "exact"


class Fitted(NamedTuple):
    """A readout, its penalty in units of mean-square rate times rows, and R² per output on rows that were held out."""

    readout: Float[Tensor, "r p"]
    penalty: float
    validation: Float[Tensor, "p"]


def third_factors(samples: Samples, window: int, objective: Objective) -> Float[Tensor, "k d"]:
    """ξ of every window of a stream of t samples: t - window + 1 rows, the last sample of each being the current one.

    Raises MismatchError for streams that are shorter than a window.
    """
    count = len(samples.x)
    if window > count or window < 2:
        raise MismatchError(f"windows of {window} samples in a stream of {count}; take 2 or more, or a longer stream")
    X, Y, Z = (rows.unfold(0, window, 1).mT for rows in samples)
    sigma_x, sigma_y, sigma_z = objective.sigmas
    Q = gaussian_gram(X, sigma_x, "per_sqrt_dim") - objective.gamma * gaussian_gram(Y, sigma_y, "per_sqrt_dim")
    return modulate_current(Z, memory_weights(Q, objective.modulator), sigma_z)


def in_blocks(stream: Rows, length: int, before: int) -> Float[Tensor, "b l d"]:
    """A stream cut into blocks of `length` rows that go on for themselves, each led by the `before` rows before it.

    Ahead of the first block its beginning is repeated; the last block is filled up with the stream's last row.
    """
    count = -(-len(stream) // length)
    index = torch.arange(count)[:, None] * length + torch.arange(-before, length)
    return stream[index.clamp(0, len(stream) - 1)]


def responses(
    reservoir: Reservoir, stream: Rows, hold: int = 20, at: tuple[int, ...] = (-1,), length: int = 50, before: int = 10
) -> Float[Tensor, "t f"]:
    """Rates of a stream of samples, each held, in blocks of `length` after `before` samples of warming up."""
    rates = reservoir.drive(in_blocks(stream, length, before), hold, at)
    return rates[:, before:].flatten(0, 1)[: len(stream)]


def fit_readout(rates: Float[Tensor, "m r"], targets: Float[Tensor, "m p"], share: float = 0.2) -> Fitted:
    """Ridge regression, its penalty chosen on the last `share` of the rows, then fitted to all of them.

    Rates are measured in units of their root mean square, so that one penalty suits large and small ones.
    """
    rates, targets = rates.double(), targets.double()
    scale = rates.square().mean(0).sqrt().clamp(min=1e-30)
    R, kept = rates / scale, len(rates) - max(1, int(share * len(rates)))
    held_out = [
        explained(R[kept:] @ W, targets[kept:]) for W in ridge(R[:kept], targets[:kept], [p * kept for p in PENALTIES])
    ]
    best = max(range(len(PENALTIES)), key=lambda i: held_out[i].mean().item())
    (readout,) = ridge(R, targets, [PENALTIES[best] * len(R)])
    return Fitted(readout / scale[:, None], PENALTIES[best], held_out[best])


Draw = Callable[[int, torch.Generator | None], Samples]


def random_samples(channels: Channels, count: int, chance: torch.Generator | None = None) -> Samples:
    """Normal features and activities, one-hot labels in equal shares: of a task's shape, and nothing else of it."""
    x, z = (torch.randn(count, width, generator=chance) for width in (channels.features, channels.activities))
    labels = torch.randint(channels.classes, (count,), generator=chance)
    return Samples(x, one_hot(labels, channels.classes), z)


class ReservoirModulator(nn.Module):
    """A layer's auxiliary network: from the current sample alone, x, y and z, what the third factor of the window is.

    What it knows of the remembered samples is in the reservoir's potential. Each sample is held for `hold` steps.
    Raises MismatchError for a reservoir of other inputs or outputs, UsageError for a hold of none.
    """

    advances = Reservoir.advances

    def __init__(
        self, reservoir: Reservoir, channels: Channels, window: int, objective: Objective | None = None, hold: int = 20
    ):
        super().__init__()
        expected = sum(channels), channels.activities
        found = len(reservoir.inputs), reservoir.readout.shape[1]
        if expected != found:
            raise MismatchError(
                f"a reservoir of {found[0]} inputs and {found[1]} outputs for samples of {expected[0]} numbers and a "
                f"layer of {expected[1]}; make it of these sizes"
            )
        if hold < 1:
            raise UsageError(f"a sample held for {hold} steps; take 1 or more")
        self.reservoir, self.channels, self.window, self.hold = reservoir, channels, window, hold
        self.objective = Objective() if objective is None else objective

    def estimate(
        self,
        x: Float[Tensor, "1 *shape"],
        y: Float[Tensor, "1 c"],
        z: Float[Tensor, "1 d"],
        teacher: Float[Tensor, "1 d"] | None = None,
    ) -> Float[Tensor, "1 d"]:
        """The readout at this sample's last step; given the true third factor it learns at every step.  [WMH 9.2]"""
        stimulus = torch.cat([x.flatten(1), y, z], 1)[0].to(self.reservoir.potential)
        target = None if teacher is None else teacher[0].to(stimulus)
        return self.reservoir.hold(stimulus, self.hold, target)[-1:].to(z)

    @torch.no_grad()
    def pretrain(
        self, samples: int = 3000, draw: Draw | None = None, chance: torch.Generator | None = None
    ) -> Float[Tensor, "d"]:
        """Set the readout by ridge regression on random data; R² per unit on the part that was held out.  [WMH 9.1]

        `draw(count, chance)` gives them; by default `random_samples`. Raises MismatchError for too few samples.
        """
        drawn = random_samples(self.channels, samples, chance) if draw is None else draw(samples, chance)
        targets = third_factors(drawn, self.window, self.objective)
        rates = responses(self.reservoir, torch.cat(drawn, 1).to(self.reservoir.potential), self.hold)
        fitted = fit_readout(rates[self.window - 1 :], targets)
        self.reservoir.readout.copy_(fitted.readout)
        return fitted.validation
