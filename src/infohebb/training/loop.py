"""Training: the same loop for every rule, network and optimizer."""

import contextlib
import inspect
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from infohebb.data.streams import ORDERS
from infohebb.errors import DivergenceError, MismatchError, WrongTypeError, is_number, is_whole
from infohebb.rules import contract
from infohebb.rules.base import LearningRule
from infohebb.training.checkpoint import Progress, resume, save_checkpoint
from infohebb.training.compiling import compile_step, every_shape_compiled
from infohebb.training.devices import keep_freed_memory, pick_device
from infohebb.training.diagnose import Alignment, Diagnose, extend_lines, prepare_alignment, watched
from infohebb.training.epoch import Step, Tally, empty_curves, extend_curves, learn_epoch
from infohebb.training.evaluation import home_of, score
from infohebb.training.optimizers import Schedule, check_step, make_optimizer
from infohebb.training.plain import goes_by_learner, rule_of_own_network, train_plain
from infohebb.training.progress import Note, progress_bar
from infohebb.training.renamed import warn
from infohebb.training.seeding import seeded
from infohebb.training.sources import (
    Course,
    Data,
    DataSetSource,
    LoaderSource,
    Pair,
    StreamSource,
    as_source,
    check_classes,
    hold_out_validation,
)

DEFAULT_OPTIMIZER = {"name": "sgd", "lr": 0.1, "momentum": 0.9}


@dataclass(frozen=True)
class Checkpoints:
    """Where to keep a checkpoint of each epoch, and the configuration that it belongs to."""

    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    def of(self, settings: Mapping[str, Any]) -> "Checkpoints":
        """The same with the settings of a training in the configuration: another one is not gone on with."""
        return Checkpoints(self.folder, {**self.config, "settings": settings})


def is_powers(given: Any) -> bool:
    """Whether it is a list of pairs (first epoch, number above 0), the epochs in rising order."""
    if not isinstance(given, Sequence) or not all(isinstance(pair, Sequence) and len(pair) == 2 for pair in given):
        return False
    fit = all(is_whole(first) and first >= 1 and is_number(base) and base > 0 for first, base in given)
    return fit and all(one[0] < other[0] for one, other in itertools.pairwise(given))


SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {  # what each argument of `train` may be, and in words
    "training.epochs": (lambda epochs: is_whole(epochs) and epochs >= 1, "a whole number of at least 1"),
    "training.batch": (is_whole, "a whole number of at least 1"),  # `count_batches` looks at its range
    "training.order": (lambda order: str(order) in ORDERS, "random, balanced, blocked or drifting"),
    "training.steps_per_sample": (
        lambda steps: is_whole(steps) and steps >= 1,
        "a whole number of time steps, at least 1",
    ),
    "training.order_seed": (
        lambda seed: seed is None or (is_whole(seed) and 0 <= seed < 2**63),
        "a whole number of at least 0, or None",
    ),
    "training.epoch_samples": (
        lambda count: count is None or (is_whole(count) and count >= 1),
        "a whole number of at least 1, or None for one pass",
    ),
    "training.milestones": (
        lambda epochs: isinstance(epochs, Sequence) and all(map(is_whole, epochs)),
        "a list of epochs, such as [50, 75]",
    ),
    "training.factor": (lambda factor: is_number(factor) and factor > 0, "a number above 0 to multiply rates by"),
    "training.powers": (
        is_powers,
        "pairs of a first epoch, in rising order, and a number above 0, such as [[1, 0.95], [16, 0.9]]",
    ),
    "training.factor_every": (
        lambda steps: steps is None or (is_whole(steps) and steps >= 0),
        "a whole number of training steps, or None or 0 for never",
    ),
    "training.precision": (lambda name: str(name) in ("fp32", "bf16"), "fp32 or bf16"),
    "training.channels_last": (lambda given: isinstance(given, bool), "true or false"),
    "training.compiled": (lambda given: isinstance(given, bool), "true or false"),
    "training.cuda_graphs": (lambda given: isinstance(given, bool), "true or false"),
    "held_out": (lambda name: str(name) in ("test", "validation"), "test or validation"),
    "device": (lambda device: isinstance(device, (str, torch.device)), "auto, cpu or cuda"),
    "seed": (
        lambda seed: seed is None or (is_whole(seed) and -(2**63) <= seed < 2**64),
        "a whole number of 64 bits, or None",
    ),
    "optimizer": (
        lambda given: given is None or isinstance(given, (Mapping, Optimizer)),
        'a dict such as {"name": "adam", "lr": 0.001}, or a torch optimizer that is made',
    ),
    "checkpoints": (
        lambda given: given is None or isinstance(given, Checkpoints),
        "infohebb.training.Checkpoints(folder), or None",
    ),
    "diagnose": (
        lambda given: given is None or isinstance(given, Diagnose),
        "infohebb.training.Diagnose(Backprop()), or None",
    ),
}


def train(  # noqa: PLR0913  (the public face: each setting by its name)
    network: nn.Module,
    rule: LearningRule | contract.LearningRule,
    data: Data,
    *,
    units: Any = None,
    head: Any = None,
    epochs: int = 10,
    batch: int = 256,
    order: Literal["random", "balanced", "blocked", "drifting"] = "random",
    steps_per_sample: int = 1,
    order_seed: int | None = None,
    epoch_samples: int | None = None,
    optimizer: Mapping[str, Any] | Optimizer | None = None,
    scheduler: Any = None,
    milestones: Sequence[int] = (),
    factor: float = 0.25,
    powers: Sequence[Sequence[float | int]] = (),
    factor_every: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    channels_last: bool = False,
    compiled: bool = False,
    cuda_graphs: bool = False,
    device: str = "auto",
    seed: int | None = 0,
    held_out: Literal["test", "validation"] = "test",
    checkpoints: Checkpoints | None = None,
    diagnose: Diagnose | None = None,
    progress: bool = True,
    hold: int | None = None,
) -> dict[str, Any]:
    """Train `network` by `rule` on `data`, in place, and return its curves, epoch by epoch.

    The one-line form of a Learner and `fit`. `data`: (x, y) or (x, y, x_test, y_test) of arrays or tensors, x (n, ...)
    and y (n) labels or (n, d) numbers; a DataSet; or any re-iterable loader of (inputs, targets) tensors. `units` and
    `head` are those of Learner, `order`, `order_seed`, `epoch_samples` and `steps_per_sample` those of `fit`. A rule
    that learns from a stream is given one sample at a time with `batch=1`, or windows of `batch` samples.
    `optimizer`: name and options, with rates by role as in `Learner.param_groups`, such as {"name": "adam", "lr":
    {"units": 1e-3, "head": 1e-2}}, or a torch optimizer over what learns; `scheduler` a torch scheduler that steps per
    epoch. Else rates are multiplied by `factor` after each epoch in `milestones`, or after every `factor_every`
    training steps, counted over epochs; and by `powers`, such as [[1, 0.95], [16, 0.9]]: in epoch e by 0.95^(e - 1),
    from epoch 16 on by 0.9^(e - 1).
    `precision` "bf16" is torch.autocast, but for networks that settle, whose large products it rounds. `channels_last`
    has convolutional maps lie in memory pixel by pixel, which is faster and changes rounding only. `compiled` is
    `Learner.compile`: each step is one graph, after a minute or so, on the CPU with the step of an SGD, Adam or AdamW
    unless rates change often, by `powers` or within epochs; it too changes rounding only. On a GPU `cuda_graphs` has
    it replayed.
    `seed` draws all randomness inside and leaves the caller's alone (a loader that shuffles by a generator of its own
    is not part of it); None draws from the caller's. Seeded trainings in several threads take turns. With
    `held_out="validation"` a tenth of the training set is scored and the test set never read. With `checkpoints`
    training continues from the last whole one to the same bits. `diagnose=Diagnose(Backprop(), every=2)` is
    `callbacks.Alignment`. Of networks that `stack_networks` has stacked, what differs between them is a list of numbers
    in the curves, of which `split_curves` gives those of one.
    Curves are those of `fit`, with the test samples' as `test_loss`, `test_accuracy` or `test_error`, or
    `validation_...`. Networks of version 1's blocks are trained as they were.
    Raises UsageError for what cannot be right, NonFiniteLossError, DivergenceError with the epoch and the layer of a
    network that runs away or collapses, CheckpointError, NoSpaceError.
    """
    given = locals()
    if hold is not None:
        if steps_per_sample != 1:
            raise WrongTypeError("training gives hold and steps_per_sample; leave out hold")
        warn("hold", "steps_per_sample")
        given["steps_per_sample"] = hold
    check_settings(given)
    if goes_by_learner(network, rule):
        return train_plain(given)
    return train_blocks(rule_of_own_network(given), **{name: value for name, value in given.items() if name != "rule"})


def train_blocks(  # noqa: PLR0913  (as `train`)
    rule: LearningRule,
    *,
    network: Any,
    data: Data,
    epochs: int,
    batch: int,
    order: str,
    steps_per_sample: int,
    order_seed: int | None,
    epoch_samples: int | None,
    optimizer: Mapping[str, Any] | Optimizer | None,
    milestones: Sequence[int],
    factor: float,
    powers: Sequence[Sequence[float | int]],
    factor_every: int | None,
    precision: str,
    channels_last: bool,
    compiled: bool,
    cuda_graphs: bool,
    device: str,
    seed: int | None,
    held_out: str,
    checkpoints: Checkpoints | None,
    diagnose: Diagnose | None,
    progress: bool,
    **others: Any,
) -> dict[str, Any]:
    """Train a network of blocks, as version 1 does."""
    del others
    batch, hold = int(batch), int(steps_per_sample)  # torch splits by no number of numpy
    order_seed, epoch_samples = (number if number is None else int(number) for number in (order_seed, epoch_samples))
    _, dtype = home_of(network)
    data = hold_out_validation(data) if held_out == "validation" else data
    where = pick_device(device)
    if cuda_graphs and not (compiled and where.type == "cuda"):
        raise MismatchError(f"cuda_graphs replays compiled steps on a GPU: give compiled = true, and cuda, not {where}")
    if compiled and not rule.compiles:
        raise MismatchError(
            f"compiled = true: {type(rule).__name__} looks at its own states as it settles; leave it out"
        )
    keep_freed_memory()
    network.to(where)
    streams = check_presentation(rule, batch, hold)
    course = Course(order, order_seed, epoch_samples, hold if streams else 0)
    source = as_source(check_classes(data), batch, where, dtype, course)
    if hasattr(network, "precision"):
        network.precision = precision  # pyright: ignore[reportArgumentType]
    with seeded(seed, where) if seed is not None else contextlib.nullcontext():
        rule.attach(network)
        rule.to(where, dtype)
        for module in (network, rule) if channels_last else ():
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        stepper = prepare_optimizer(rule, network, optimizer)
        words = {"order": order, "hold": hold, "order_seed": order_seed, "epoch_samples": epoch_samples}
        words |= {"batch": batch, "milestones": [*map(int, milestones)], "factor": float(factor)}
        words |= {
            "powers": [[int(first), float(base)] for first, base in powers],
            "factor_every": int(factor_every or 0),
            "precision": precision,
            "channels_last": channels_last,
            "compiled": compiled,
            "cuda_graphs": cuda_graphs,
            "seed": seed if seed is None else int(seed),
        }
        words |= {"rule": _public(rule), "optimizer": _words(stepper)}
        kept = checkpoints and checkpoints.of({**words, "data": source.checksum()})
        alignment = diagnose and prepare_alignment(diagnose, network, rule, source.sample())
        whole = not (isinstance(optimizer, Optimizer) or powers or factor_every)  # its code is made anew for each rate
        step = compile_step(rule, stepper, whole=whole, cuda_graphs=cuda_graphs) if compiled else None
        if order_seed is None and not course.is_plain:
            order_seed = int(torch.randint(2**63 - 1, ()))
        schedule = Schedule(milestones, factor, powers, int(factor_every or 0))
        asked = watched(rule, source)
        run = _Run(network, rule, stepper, source, epochs, schedule, held_out, kept, alignment, step, order_seed, asked)
        with every_shape_compiled(network) if compiled else contextlib.nullcontext():
            return run.to_the_end(show=progress)


def check_presentation(rule: LearningRule, batch: int, hold: int) -> bool:
    """Whether the rule learns from a stream.  Raises MismatchError for what cannot be presented to it."""
    name = type(rule).__name__
    if rule.consumes == "batch":
        if hold != 1:
            raise MismatchError(
                f"steps_per_sample = {hold}: {name} learns from batches, which are not held; leave it at 1"
            )
        return False
    if rule.consumes != "window" and batch != 1:
        raise MismatchError(f"{name} learns from one sample at a time: give batch = 1, not {batch}")
    return True


def check_settings(given: Mapping[str, Any]) -> None:
    """Raise WrongTypeError that names the argument of a training that makes no sense, and what it may be."""
    for place, (fits, wanted) in SETTINGS.items():
        value = given[place.removeprefix("training.")]
        if not fits(value):
            raise WrongTypeError(f"{place} = {value!r}: give {wanted}")


def prepare_optimizer(
    rule: LearningRule, network: nn.Module, optimizer: Mapping[str, Any] | Optimizer | None
) -> Optimizer:
    """A torch optimizer as it is, or one made over what the rule's groups say learns.

    Raises MismatchError, and the errors of `make_optimizer`.
    """
    groups = rule.groups(network)
    if not any(groups.values()):
        raise MismatchError(f"{type(rule).__name__} finds nothing to train here: all is frozen; use requires_grad_()")
    if isinstance(optimizer, Optimizer):
        check_step(type(optimizer))
        learning = {id(parameter) for group in groups.values() for parameter in group}
        if any(id(parameter) not in learning for table in optimizer.param_groups for parameter in table["params"]):
            raise MismatchError("the optimizer holds parameters that this rule does not train on this network")
        held = {id(parameter) for table in optimizer.param_groups for parameter in table["params"]}
        if any(id(parameter) in learning - held for parameter in rule.parameters()):
            raise MismatchError(
                f"{type(rule).__name__} has parameters of its own that the optimizer lacks: call rule.attach(network), "
                "then make the optimizer over rule.groups(network)"
            )
        return optimizer
    return make_optimizer(groups, **(DEFAULT_OPTIMIZER if optimizer is None else optimizer))


def _public(rule: LearningRule) -> dict[str, str]:
    """A rule's class and settings, as far as words tell one from another."""
    arguments, plain = inspect.signature(type(rule)).parameters, (int, float, str, type(None))
    own = {key: value for key, value in vars(rule).items() if key not in vars(nn.Module()) and not key.startswith("_")}
    settings = {key: repr(value) for key, value in own.items() if key in arguments or isinstance(value, plain)}
    return {"name": type(rule).__name__, **settings}


def _words(optimizer: Optimizer) -> dict[str, Any]:
    """What tells one optimizer from another in a checkpoint's configuration, before any step or schedule."""
    tables = [{key: value for key, value in table.items() if key != "params"} for table in optimizer.param_groups]
    return {"name": type(optimizer).__name__, "groups": json.loads(json.dumps(tables, default=str))}


@dataclass(frozen=True)
class _Run:
    """Everything one run needs, so that the epochs below can be read as a story."""

    network: nn.Module
    rule: LearningRule
    optimizer: Optimizer
    source: DataSetSource | StreamSource | LoaderSource
    epochs: int
    schedule: Schedule
    held_out: str
    checkpoints: Checkpoints | None
    alignment: Alignment | None
    step: Step | None
    order_seed: int | None
    watched: Pair | None

    def to_the_end(self, *, show: bool) -> dict[str, Any]:
        """All epochs that are still to be done."""
        done = self._resume() or Progress(0, empty_curves(), self.order_seed)
        if done.epoch == 0:
            self._diagnose(0, done.curves)
        title, per_epoch, steps = type(self.rule).__name__, len(self.source), done.steps
        with progress_bar(title, per_epoch * self.epochs, per_epoch * done.epoch, show=show) as advance:
            for epoch in range(done.epoch + 1, self.epochs + 1):
                note = Note(f"epoch {epoch}/{self.epochs}", show=show)
                with self._naming(epoch):
                    steps = self._epoch(epoch, done, steps, lambda tally, note=note: advance(note.after_batch(tally)))
        return done.curves

    def _epoch(self, epoch: int, done: Progress, before: int, show: Callable[[Tally], None]) -> int:
        """Learn for an epoch, `before` steps having been taken; return how many have been now."""
        began, curves = time.perf_counter(), done.curves
        rates = self.schedule.set_rates(self.optimizer, epoch, before)
        after_batch = self._falling(epoch, before, show) if self.schedule.factor_every else show
        batches = self.source.training(epoch, done.order_seed)
        tally = learn_epoch(self.network, self.rule, self.optimizer, batches, after_batch, self.step)
        steps = before + tally.steps
        pairs = self.source.held_out()
        scored = None
        if pairs is not None:
            name, value = score(self.network, pairs)
            scored = (f"{self.held_out}_{name}", value)
        extend_curves(curves, tally, self._by_kind(rates), scored, began)
        self._diagnose(epoch, curves)
        if self.checkpoints is not None:
            folder, config = self.checkpoints.folder, dict(self.checkpoints.config)
            progress = Progress(epoch, curves, done.order_seed, steps)
            save_checkpoint(folder, progress, self.network, self.rule, self.optimizer, config)
        return steps

    @contextlib.contextmanager
    def _naming(self, epoch: int) -> Iterator[None]:
        """Say in which epoch a network's dynamics ran away."""
        try:
            yield
        except DivergenceError as error:
            raise DivergenceError(f"epoch {epoch}: {error}") from error

    def _falling(self, epoch: int, before: int, show: Callable[[Tally], None]) -> Callable[[Tally], None]:
        """What is done after each step of a training whose rates fall within epochs."""

        def after_batch(tally: Tally) -> None:
            show(tally)
            if (before + tally.steps) % self.schedule.factor_every == 0:
                self.schedule.set_rates(self.optimizer, epoch, before + tally.steps)

        return after_batch

    def _diagnose(self, epoch: int, curves: dict[str, Any]) -> None:
        if self.alignment is not None:
            self.alignment.after(epoch, curves)
        if self.watched is not None:
            measured = self.rule.watch(self.network, *self.watched)
            if measured:
                extend_lines(curves, "watched", epoch, measured)

    def _by_kind(self, rates: dict[int, float]) -> dict[str, float]:
        tables = self.optimizer.param_groups
        return {tables[position].get("kind", f"group{position}"): rate for position, rate in rates.items()}

    def _resume(self) -> Progress | None:
        if self.checkpoints is None:
            return None
        folder, config = self.checkpoints.folder, dict(self.checkpoints.config)
        return resume(folder, self.network, self.rule, self.optimizer, config)
