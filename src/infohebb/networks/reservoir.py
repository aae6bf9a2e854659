"""Reservoir: fixed recurrent rate units, driven by one stimulus after another, and a linear readout that learns."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import DivergenceError, UsageError, is_number
from infohebb.functional.reservoir import (
    Moment,
    Weights,
    advance_held,
    least_mean_squares_,
    recursive_least_squares_,
    ridge,
)
from infohebb.networks.wiring import Wiring

Stimulus = Float[Tensor, "i"]
Target = Float[Tensor, "p"]
DRIVE = "check the inputs for NaN and infinity, or take a smaller strength or input_scale; then rest()"


class Reservoir(nn.Module):
    """A wiring, the potential that goes on from stimulus to stimulus, and the readout W_o: all in buffers.

    The readout learns from a target by "lms", with `rate`, or by "rls" (FORCE), with `alpha`; where no target is given
    it is frozen. `noise` is the half-width of what is added to rates and to the output. Raises UsageError.
    """

    advances = ("potential", "readout", "inverse")

    def __init__(
        self,
        wiring: Wiring,
        *,
        learning: str = "lms",
        rate: float = 5e-4,
        alpha: float = 1.0,
        noise: tuple[float, float] = (0.0, 0.0),
    ):
        super().__init__()
        if learning not in ("lms", "rls"):
            raise UsageError(f"a readout that learns by {learning!r}; take 'lms' or 'rls'")
        for name, number in (("rate", rate), ("alpha", alpha)):
            if not is_number(number) or number <= 0:
                raise UsageError(f"{name} {number!r} of a readout; take a number above 0")
        self.learning, self.rate, self.alpha, self.noise = learning, rate, alpha, noise
        self.strength, weights = wiring.strength, wiring.weights
        units, outputs = len(wiring.leak), len(weights.feedback)
        if weights.recurrent.is_sparse:
            weights = weights._replace(recurrent=weights.recurrent.coalesce())
            self.register_buffer("places", weights.recurrent.indices())
        kept = weights.recurrent.values() if weights.recurrent.is_sparse else weights.recurrent
        self.recurrent: Tensor
        self.inputs: Tensor
        self.feedback: Tensor
        self.leak: Tensor
        self.potential: Tensor
        self.readout: Tensor
        self.register_buffer("recurrent", kept)
        self.register_buffer("inputs", weights.inputs)
        self.register_buffer("feedback", weights.feedback)
        self.register_buffer("leak", wiring.leak.to(kept))
        self.register_buffer("potential", kept.new_zeros(units))
        self.register_buffer("readout", kept.new_zeros(wiring.readable, outputs))
        if learning == "rls":
            eye = torch.eye(wiring.readable, dtype=kept.dtype, device=kept.device)
            self.register_buffer("inverse", eye / alpha)

    @property
    def weights(self) -> Weights:
        """All that is fixed, W_r as it was given: dense or sparse."""
        recurrent, units = self.recurrent, len(self.leak)
        if recurrent.dim() == 1:
            places = self.get_buffer("places")
            recurrent = torch.sparse_coo_tensor(
                places, recurrent, (units, units), check_invariants=False, is_coalesced=True
            )
        return Weights(recurrent, self.inputs, self.feedback)

    def rest(self) -> None:
        """Back to a potential of zero; what was learned stays."""
        self.potential.zero_()

    @torch.no_grad()
    def output(self) -> Target:
        """What the readout says now, without noise."""
        return self.potential[-len(self.readout) :].tanh() @ self.readout

    @torch.no_grad()
    def hold(self, stimulus: Stimulus, steps: int = 20, target: Target | None = None) -> Float[Tensor, "steps p"]:
        """Hold one stimulus for some time steps, learning at each of them if there is a target; the outputs.

        Raises DivergenceError, before anything that is not finite is kept, unless it is compiled.
        """
        received, outputs, weights = stimulus @ self.inputs, [], self.weights
        for _ in range(steps):
            noise = (self._noise(0, self.potential), self._noise(1, self.readout[0]))
            moment = advance_held(self.potential, received, weights, self.readout, self.strength, self.leak, noise)
            self._check(moment, learns=target is not None)
            if target is not None:
                self._learn(moment, target)
            self.potential.copy_(moment.potential)
            outputs.append(moment.output)
        return torch.stack(outputs)

    @torch.no_grad()
    def drive(
        self, stimuli: Float[Tensor, "*runs t i"], steps: int = 20, at: Sequence[int] = (-1,)
    ) -> Float[Tensor, "*runs t f"]:
        """The rates that the readout reads, at the steps `at` of each stimulus, side by side, from rest.

        All runs go at once, without noise, and nothing of the reservoir changes.
        Raises DivergenceError.
        """
        weights, first = self.weights, len(self.leak) - len(self.readout)
        fed, wanted = bool(self.feedback.any() and self.readout.any()), [step % steps for step in at]
        received = stimuli @ self.inputs
        u, rates = torch.zeros_like(received[..., 0, :]), []
        for t in range(stimuli.shape[-2]):
            seen = {}
            for step in range(steps):
                r = torch.tanh(u)
                if step in wanted:
                    seen[step] = r[..., first:]
                push = (r @ weights.recurrent).mul_(self.strength).add_(received[..., t, :])
                if fed:
                    push += r[..., first:] @ self.readout @ weights.feedback
                u.lerp_(push, self.leak)
            rates.append(torch.cat([seen[step] for step in wanted], -1))
        found = torch.stack(rates, -2)
        if not bool(found.isfinite().all()):
            raise _diverged("rates", DRIVE)
        return found

    @torch.no_grad()
    def fit(self, rates: Float[Tensor, "m r"], targets: Float[Tensor, "m p"], penalty: float) -> None:
        """Set the readout by ridge regression.  Raises DivergenceError where there is no finite solution."""
        (found,) = ridge(rates.double(), targets.double(), [penalty])
        if not bool(found.isfinite().all()):
            raise _diverged("readout", "take a larger penalty")
        self.readout.copy_(found)

    def _learn(self, moment: Moment, target: Target) -> None:
        rates, error = moment.rates[-len(self.readout) :], moment.output - target
        if self.learning == "rls":
            recursive_least_squares_(self.readout, self.get_buffer("inverse"), rates, error)
        else:
            least_mean_squares_(self.readout, rates, error, self.rate)

    def _noise(self, place: int, like: Tensor) -> Tensor | float:
        width = self.noise[place]
        return torch.empty_like(like).uniform_(-width, width) if width else 0.0

    def _check(self, moment: Moment, *, learns: bool) -> None:
        """Raise DivergenceError for what is not finite, and for outputs so large that the next step would not be.

        Compiled code goes on with them: its weights are then told at the epoch's end, the potential at the next step
        that is not compiled.
        """
        if torch.compiler.is_compiling():
            return
        largest = torch.finfo(moment.output.dtype).max ** 0.5
        small = bool((moment.output.abs() < largest).all())
        if small and bool(moment.potential.isfinite().all()):
            return
        if small or not bool(moment.rates.isfinite().all()):
            raise _diverged("rates", DRIVE)
        if not learns:
            raise _diverged("readout", "it is frozen: fit it again, or let it learn at a lower rate before")
        if self.learning == "lms":
            limit = 2 / max(moment.rates.square().sum().item(), 1e-12)
            raise _diverged("readout", f"least mean squares wants a rate below 2 / |r|², here {limit:.2g}; take that")
        raise _diverged("readout", "take a larger alpha, a smaller strength, or no feedback")

    def extra_repr(self) -> str:
        """Sizes and how the readout learns."""
        units, readable = len(self.leak), len(self.readout)
        return f"{len(self.inputs)} → {units} ({readable} read) → {self.readout.shape[1]}, learning={self.learning!r}"


def _diverged(what: str, mend: str) -> DivergenceError:
    return DivergenceError(f"the reservoir's {what} ran away to infinity or NaN: {mend}")
