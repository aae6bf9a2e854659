"""How much of the third factor a reservoir knows.

`predictability`   readout frozen, windows that it has never seen: R² of the third factor
`tracking`         the published experiment: the readout learns within each window, and is then frozen
`search`           many settings on validation windows, written to a file

R² is 1 - Σ (output - target)² / Σ (target - mean)², per output unit, mean over units.
"""

import inspect
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from infohebb.data import load
from infohebb.data.synthetic import LINE
from infohebb.errors import UsageError, WrongTypeError, is_number, is_whole
from infohebb.experiments.studies.checks import (
    HELD_OUT,
    check_choice,
    check_modulator,
    check_numbers,
    check_positive,
    check_whole,
    check_windows,
)
from infohebb.files import write_whole
from infohebb.functional.normalisation import layer_norm
from infohebb.functional.readout import one_hot
from infohebb.functional.reservoir import explained
from infohebb.networks.comparing import Channels, Gains, comparing_wiring
from infohebb.networks.reservoir import Reservoir
from infohebb.networks.third_factor import (
    Fitted,
    Objective,
    Samples,
    fit_readout,
    random_samples,
    responses,
    third_factors,
)
from infohebb.networks.wiring import Sizes, Wiring, random_wiring

CHANNELS = Channels(2, 2, 4)  # of the task `linear`, and a layer of four
SHOWN = 100  # windows whose third factor is kept for a picture
HOLD = 20  # time steps of 1 ms for which each of them is there

Result = tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Setting:
    """What a readout is to predict, from which reservoir, learned from what.

    The reservoir sees x, y and z of the current sample, each held for 20 steps of 1 ms. "random" wiring has `units` of
    which all are read; "comparing" has `units` that are read, and those that remember and compare besides, with a line
    of `stages` (None: four for each sample of the window). The readout reads the rates at the steps `at` of each
    sample, by weights of their own. It learns from `learned` samples of the task, of which the last fifth chooses the
    ridge; or from as many of random data, of the task's shape only. The task's activities are normal "noise", or those
    of a random "layer" that sees its features. Raises UsageError.
    """

    window: int = 2
    wiring: str = "random"
    units: int = 800
    strength: float = 0.5
    density: float = 0.1
    published: bool = False
    radius: float | None = None
    tau: float | Sequence[float] = 5e-3
    input_scale: float = 0.3
    stages: int | None = None
    gains: Sequence[float] = tuple(Gains())
    at: Sequence[int] = (-1,)
    modulator: str = "exact"
    gamma: float = 10.0
    sigmas: Sequence[float] = (0.5, 0.25, 1.0)
    activities: str = "noise"
    learned_on: str = "task"
    learned: int = 2300
    tested: int = 700

    def __post_init__(self) -> None:
        check_choice("wiring", self.wiring, ("random", "comparing"))
        check_choice("activities", self.activities, ("noise", "layer"))
        check_choice("learned_on", self.learned_on, ("task", "random"))
        check_modulator(self.modulator)
        check_whole(1, units=self.units)
        check_windows(self.window, HELD_OUT, learned=self.learned)
        check_windows(self.window, 2, tested=self.tested)
        check_numbers(3, "sigmas", self.sigmas, positive=True)
        check_numbers(len(Gains()), "gains", self.gains)
        if not is_number(self.gamma):
            raise WrongTypeError(f"gamma = {self.gamma!r}; take a finite number")
        if not self.at or not all(is_whole(step) and -HOLD <= step < HOLD for step in self.at):
            raise WrongTypeError(f"at = {self.at!r}; take steps of a sample, whole numbers from -{HOLD} to {HOLD - 1}")

    @property
    def objective(self) -> Objective:
        """The objective whose derivative is to be predicted."""
        sigma_x, sigma_y, sigma_z = self.sigmas
        return Objective(self.gamma, (sigma_x, sigma_y, sigma_z), self.modulator)

    def wire(self, chance: torch.Generator) -> Wiring:
        """The fixed part of the reservoir.  Raises UsageError."""
        if self.wiring == "comparing":
            gains = Gains(*self.gains)
            return comparing_wiring(CHANNELS, self.window, self.units, stages=self.stages, gains=gains, chance=chance)
        return random_wiring(
            Sizes(sum(CHANNELS), self.units, CHANNELS.activities),
            strength=self.strength,
            density=self.density,
            published=self.published,
            radius=self.radius,
            tau=self.tau,
            input_scale=self.input_scale,
            feedback=False,
            chance=chance,
        )


def linear_task(count: int, chance: torch.Generator | None = None) -> Samples:
    """Points of the square from -1 to 1, labelled by the side of the paper's line; activities are normal noise."""
    x = 2 * torch.rand(count, 2, generator=chance) - 1
    labels = (x @ torch.tensor(LINE) > 0).long()
    return Samples(x, one_hot(labels, 2), torch.randn(count, CHANNELS.activities, generator=chance))


def in_a_layer(samples: Samples, chance: torch.Generator | None = None) -> Samples:
    """The same samples with activities of a random layer: rectified, then normalised over its units."""
    weight = torch.randn(samples.x.shape[1], CHANNELS.activities, generator=chance)
    bias = torch.randn(CHANNELS.activities, generator=chance)
    return samples._replace(z=layer_norm((samples.x @ weight + bias).relu(), 1e-6).normalised)


def third_factor_arrays(exact: Tensor, predicted: Tensor, first: int = 0) -> dict[str, np.ndarray]:
    """What a report draws of a third factor (windows × units), and when each window was there, the `first` one too."""
    return {
        "third_factor_exact": exact.float().numpy(),
        "third_factor_predicted": predicted.float().numpy(),
        "third_factor_time": (np.arange(len(exact), dtype=np.float32) + first) * float(HOLD),
    }


def _with_settings(study: Callable[..., Result]) -> Callable[..., Result]:
    """The study, with the fields of `Setting` in its signature: what a recipe may say is looked up there."""
    known = (inspect.signature(each).parameters.values() for each in (study, Setting))
    named = [p.replace(kind=p.KEYWORD_ONLY) for parameters in known for p in parameters if p.kind != p.VAR_KEYWORD]
    vars(study)["__signature__"] = inspect.Signature(named)
    return study


@_with_settings
def predictability(*, seed: int = 0, validate: bool = False, **settings: Any) -> Result:
    """R² of the third factor that a reservoir's frozen readout says of windows it has not seen.

    `r2_test` of unseen samples, `r2_validation` of those held out. With `validate` no test sample is drawn. Settings
    are those of `Setting`. Raises UsageError.
    """
    setting = _setting(settings)
    task, learned = _streams(setting, seed, 0 if validate else setting.tested)
    wiring = setting.wire(torch.Generator().manual_seed(seed + 1000))
    reservoir, at, first = Reservoir(wiring), tuple(setting.at), setting.window - 1
    rates = responses(reservoir, torch.cat(learned, 1), at=at)
    targets = third_factors(learned, setting.window, setting.objective)
    count = setting.learned
    fitted = fit_readout(rates[first:count], targets[: count - first])
    final = {
        "r2_validation": fitted.validation.mean().item(),
        "units": float(len(wiring.leak)),
        "read": float(rates.shape[1]),
        "penalty": fitted.penalty,
    }
    if validate:
        return final, {"r2_validation": fitted.validation.tolist()}, {}
    if setting.learned_on == "random":
        rates = responses(reservoir, torch.cat(task, 1), at=at)
        targets = third_factors(task, setting.window, setting.objective)
    return _tested(fitted, rates[count + first :].double(), targets[count:].double(), final)


def _tested(fitted: Fitted, rates: Tensor, targets: Tensor, final: dict[str, float]) -> Result:
    outputs = rates @ fitted.readout
    r2 = explained(outputs, targets)
    final = {"r2_test": r2.mean().item(), **final}
    curves = {"r2_test": r2.tolist(), "r2_validation": fitted.validation.tolist()}
    return final, curves, third_factor_arrays(targets[:SHOWN], outputs[:SHOWN])


def _setting(settings: Mapping[str, Any]) -> Setting:
    unknown = sorted(set(settings) - set(Setting.__dataclass_fields__))
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)}: no setting of this study; take {', '.join(Setting.__dataclass_fields__)}"
        )
    return Setting(**settings)


def _streams(setting: Setting, seed: int, tested: int) -> tuple[Samples, Samples]:
    """The task, learned part first, and the stream to learn from: the same, or random data."""
    chance = torch.Generator().manual_seed(seed)
    task = linear_task(setting.learned, chance)
    if tested:
        unseen = linear_task(tested, torch.Generator().manual_seed(seed + 500))
        task = Samples(*(torch.cat(parts) for parts in zip(task, unseen, strict=True)))
    if setting.activities == "layer":
        task = in_a_layer(task, torch.Generator().manual_seed(seed + 3000))
    if setting.learned_on == "task":
        return task, task
    return task, Samples(*random_samples(CHANNELS, setting.learned, torch.Generator().manual_seed(seed + 2000)))


def tracking(  # noqa: PLR0913  (each setting by its name)
    *,
    seed: int = 0,
    validate: bool = False,
    data_dir: Path | None = None,
    data: str = "mnist",
    learning: str = "lms",
    published: bool = True,
    units: int = 2000,
    rate: float = 5e-4,
    epochs: int = 10,
    samples: int = 100,
    window: int = 10,
    modulator: str = "head",
) -> Result:
    """The published experiment: a readout that learns each window's third factor while held, and is then frozen.

    The first `samples` test images, or with `validate` training images, with fixed uniform activities in R^10, shuffled
    each epoch, windows of stride 1, 20 steps each. Per epoch R² `after` the steps of a window, and `before`: at their
    end, too, had the readout not learned in them. Then, frozen for good, `frozen_unseen` on the next samples and
    `frozen_seen` on the same ones in another order. Raises UsageError.
    """
    check_whole(1, units=units, epochs=epochs)
    check_positive(rate=rate)
    check_windows(window, 2, samples=samples)
    check_modulator(modulator)
    check_choice("learning", learning, ("lms", "rls"))
    chance = torch.Generator().manual_seed(seed)
    split = _images(data, data_dir, validate=validate)
    seen, unseen = (_part(split, samples, place, chance) for place in (0, 1))
    objective = Objective(2.0, (0.5, 0.5, 0.5), modulator)
    sizes = Sizes(sum(part.shape[1] for part in seen), units, seen.z.shape[1])
    reservoir = Reservoir(random_wiring(sizes, published=published, chance=chance), learning=learning, rate=rate)
    curves: dict[str, list[float]] = {"epoch": [], "after": [], "before": []}
    shown: dict[str, np.ndarray] = {}
    for epoch in range(1, epochs + 1):
        targets, before, after = _epoch(reservoir, _shuffled(seen, chance), window, objective, learn=True)
        curves["epoch"].append(epoch)
        for name, outputs in (("after", after), ("before", before)):
            curves[name].append(explained(outputs, targets).mean().item())
        shown = third_factor_arrays(targets, after)
    final = {}
    for name, part in (("frozen_unseen", unseen), ("frozen_seen", seen)):
        targets, _, outputs = _epoch(reservoir, _shuffled(part, chance), window, objective, learn=False)
        final[name] = explained(outputs, targets).mean().item()
    final |= {name: curves[name][-1] for name in ("after", "before")}
    final["mean_square_rates"] = reservoir.potential.tanh().square().sum().item()
    return final, curves, shown


def _epoch(
    reservoir: Reservoir, samples: Samples, window: int, objective: Objective, *, learn: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Third factors of all windows, and what the readout says after their steps, frozen meanwhile and learning."""
    targets, frozen, learned = third_factors(samples, window, objective), [], []
    for stimulus, target in zip(torch.cat(samples, 1)[window - 1 :], targets, strict=True):
        start = reservoir.potential.clone()
        reservoir.hold(stimulus)
        frozen.append(reservoir.output())
        if learn:
            reservoir.potential.copy_(start)
            reservoir.hold(stimulus, target=target)
        learned.append(reservoir.output())
    return targets, torch.stack(frozen), torch.stack(learned)


class _Images(NamedTuple):
    """Normalised images in rows, their labels, and of how many classes they are."""

    name: str
    x: Tensor
    labels: Tensor
    classes: int


def _images(name: str, data_dir: Path | None, *, validate: bool) -> _Images:
    """The test images, or with `validate` the training images."""
    data = load(name, data_dir, test=not validate)
    split = data.train if validate else data.test
    if split is None or data.classes is None:
        raise UsageError(f"data set {name!r} has no test images with labels; take mnist, or digits")
    return _Images(name, data.normalise(split.inputs).flatten(1).float(), split.targets, data.classes)


def _part(images: _Images, count: int, place: int, chance: torch.Generator) -> Samples:
    """`count` images, the first ones or those after them, with activities in R^10."""
    if len(images.labels) < (place + 1) * count:
        raise UsageError(f"data set {images.name!r} has no {(place + 1) * count} such images; take fewer samples")
    part = slice(place * count, (place + 1) * count)
    y = one_hot(images.labels[part], images.classes)
    return Samples(images.x[part], y, torch.rand(count, 10, generator=chance))


def _shuffled(samples: Samples, chance: torch.Generator) -> Samples:
    order = torch.randperm(len(samples.x), generator=chance)
    return Samples(*(part[order] for part in samples))


def search(path: Path | str, grid: Mapping[str, Sequence[Any]], *, seed: int = 0, **fixed: Any) -> list[dict[str, Any]]:
    """`predictability` on validation windows for every combination of a grid, best `validation_r2` first, written once.

    Raises RecordConflictError when the file is there already.
    """
    rows = sorted(_searched(grid, seed, fixed), key=lambda row: -row["validation_r2"])
    text = json.dumps({"seed": seed, "fixed": asdict(_setting(fixed)), "grid": dict(grid), "rows": rows}, indent=1)
    write_whole(Path(path), lambda part: part.write_text(text + "\n"), once=True)
    return rows


def _searched(grid: Mapping[str, Sequence[Any]], seed: int, fixed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        final = predictability(seed=seed, validate=True, **{**fixed, **chosen})[0]
        found = {"validation_r2": final.pop("r2_validation"), **final}
        yield {**chosen, **{name: float(f"{value:.5g}") for name, value in found.items()}}
