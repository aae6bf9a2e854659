"""A layer that learns from the third factor a reservoir says, beside one that learns from the exact one."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from infohebb.errors import UsageError
from infohebb.experiments.studies.checks import HELD_OUT, check_positive, check_whole, check_windows
from infohebb.experiments.studies.reservoir import CHANNELS, Result, Setting, linear_task, third_factor_arrays
from infohebb.functional.kernels import gaussian_gram
from infohebb.functional.normalisation import Normalised, layer_norm, layer_norm_backward, layer_norm_factors
from infohebb.functional.reservoir import explained
from infohebb.functional.working_memory import window_hsic
from infohebb.networks.reservoir import Reservoir
from infohebb.networks.third_factor import Objective, ReservoirModulator, Samples, third_factors

SOURCES = ("computed", "reservoir", "none")
CHECKED = 256  # unseen samples on which the layer's objective is taken
EVERY = 100  # samples between two looks at it


class Layer(NamedTuple):
    """Rectified, then normalised over its units."""

    weight: Tensor  # (inputs, units)
    bias: Tensor

    def respond(self, x: Float[Tensor, "m i"]) -> tuple[Float[Tensor, "m d"], Normalised]:
        """The rectified drive, and the activities made of it."""
        hidden = (x @ self.weight + self.bias).relu()
        return hidden, layer_norm(hidden, 1e-6)

    def learn(self, x: Float[Tensor, "1 i"], factor: Float[Tensor, "1 d"]) -> None:
        """Minus the update of one sample, from its third factor, into `.grad`.  [WMH 9.3]"""
        hidden, activity = self.respond(x)
        factors = layer_norm_factors(factor, *activity)
        error = layer_norm_backward(factor, activity.normalised, factors) * (hidden > 0)
        self.weight.grad, self.bias.grad = x.T @ error, error.sum(0)


def layer_objective(layer: Layer, samples: Samples, objective: Objective) -> float:
    """HSIC(X, Z) - gamma HSIC(Y, Z) of the layer on all these samples at once."""
    rows = samples.x, samples.y, layer.respond(samples.x)[1].normalised
    K_x, K_y, K_z = (gaussian_gram(V, s, "per_sqrt_dim") for V, s in zip(rows, objective.sigmas, strict=True))
    return (window_hsic(K_x, K_z) - objective.gamma * window_hsic(K_y, K_z)).item()


@torch.no_grad()
def descent(  # noqa: PLR0913  (each setting by its name)
    *,
    seed: int = 0,
    window: int = 4,
    units: int = 160,
    source: str = "reservoir",
    samples: int = 1500,
    pretraining: int = 3000,
    rate: float = 3e-3,
    wiring: str = "comparing",
    strength: float = 0.9,
    tau: float = 5e-3,
    input_scale: float = 0.1,
) -> Result:
    """How far a layer's objective falls that learns from the factor its reservoir says, or from the exact one.

    A layer of four on the task `linear`, one sample at a time, by AdamW; `final` begins with its objective `after`.
    The remembered activities are those of when the samples were there. The third factor is "computed" from the window,
    or said by a "reservoir" whose readout was fitted to `pretraining` random samples, and is then frozen; or there is
    "none". The reservoir's `wiring` is "comparing", or "random", of `strength`, `tau` and `input_scale`. Of a reservoir
    also `r2` and `cosine` of what it said against the exact factor. Raises UsageError.
    """
    if source not in SOURCES:
        raise UsageError(f"source {source!r} of the third factor; take one of {', '.join(SOURCES)}")
    check_whole(2, samples=samples)
    check_positive(rate=rate)
    check_windows(window, HELD_OUT, pretraining=pretraining)
    fixed = Setting(window, wiring, units, strength=strength, tau=tau, input_scale=input_scale)
    chance, objective = torch.Generator().manual_seed(seed), Objective()
    task, unseen = linear_task(samples + window - 1, chance), linear_task(CHECKED, chance)
    weight = torch.randn(CHANNELS.features, CHANNELS.activities, generator=chance) / CHANNELS.features**0.5
    layer = Layer(weight.requires_grad_(), torch.zeros(CHANNELS.activities, requires_grad=True))
    optimizer = torch.optim.AdamW(layer, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
    modulator = ReservoirModulator(Reservoir(fixed.wire(chance)), CHANNELS, window)
    final = {"after": 0.0, "before": layer_objective(layer, unseen, objective)}
    if source == "reservoir":
        final["pretrained_r2"] = modulator.pretrain(pretraining, chance=chance).mean().item()
    curves: dict[str, Any] = {"samples": [], "objective": []}
    activities, exact, said = [], [], []
    for t in range(len(task.x)):
        x, y = task.x[t : t + 1], task.y[t : t + 1]
        activities.append(layer.respond(x)[1].normalised)
        guess = modulator.estimate(x, y, activities[-1]) if source == "reservoir" else None
        if t < window - 1:
            continue
        past = slice(t + 1 - window, t + 1)
        factor = third_factors(Samples(task.x[past], task.y[past], torch.cat(activities[past])), window, objective)
        exact.append(factor)
        said.append(factor if guess is None else guess)
        if source != "none":
            layer.learn(x, said[-1])
            optimizer.step()
        if len(exact) % EVERY == 0:
            curves["samples"].append(len(exact))
            curves["objective"].append(layer_objective(layer, unseen, objective))
    final["after"] = layer_objective(layer, unseen, objective)
    outputs, targets = torch.cat(said), torch.cat(exact)
    if source == "reservoir":
        final["r2"] = explained(outputs, targets).mean().item()
        final["cosine"] = torch.cosine_similarity(outputs, targets).mean().item()
    first = max(0, len(exact) - EVERY)
    return final, curves, third_factor_arrays(targets[first:], outputs[first:], first)
