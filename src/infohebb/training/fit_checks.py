"""What `fit` refuses before it starts, and what it checks while it runs."""

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from infohebb.data.streams import ORDERS
from infohebb.errors import (
    DivergenceError,
    InfohebbError,
    LabelError,
    MismatchError,
    NonFiniteLossError,
    WrongTypeError,
    is_number,
    is_whole,
    naming,
    unknown_name,
)
from infohebb.learner import Learner
from infohebb.learner.refusals import check_settings_known
from infohebb.training.batches import ArrayBatches, Batches, is_loader
from infohebb.training.callbacks.base import AtEpochEnd, Callback, State
from infohebb.training.optimizers import check_step
from infohebb.training.statistics import Statistics
from infohebb.training.wording import said, short

RATES = {"units": 1e-3, "head": 1e-2}  # of the default optimizer


def check_arguments(given: Mapping[str, Any]) -> None:
    """Raise WrongTypeError or MismatchError that names the argument of `fit` that cannot be right."""
    if not isinstance(given["learner"], Learner):
        kind = type(given["learner"]).__name__
        raise MismatchError(f"learner is a {kind}; give infohebb.Learner(model, rule)")
    for name in ("epochs", "steps_per_sample", "batch", "epoch_samples", "check_every"):
        value = given[name]
        fits = is_whole(value) and int(value) >= 1  # pyright: ignore[reportArgumentType]
        if not fits and (value is not None or name in ("epochs", "steps_per_sample")):
            raise WrongTypeError(f"{name}={value!r}: give a whole number of at least 1")
    if str(given["order"]) not in ORDERS:
        raise unknown_name("order", str(given["order"]), ORDERS)
    seed = given["order_seed"]
    if seed is not None and not (is_whole(seed) and 0 <= seed < 2**63):
        raise WrongTypeError(f"order_seed={seed!r}: give a whole number of at least 0, or None")
    clip_norm = given["clip_norm"]
    if clip_norm is not None and not (is_number(clip_norm) and clip_norm > 0):
        raise WrongTypeError(f"clip_norm={clip_norm!r}: give a number above 0, or None")
    if given["scheduler_per"] not in ("epoch", "step"):
        raise WrongTypeError(f"scheduler_per={given['scheduler_per']!r}: give 'epoch' or 'step'")
    if given["unpack"] is not None and not callable(given["unpack"]):
        raise WrongTypeError(f"unpack={given['unpack']!r}: give a function of a batch that returns (inputs, targets)")


def as_callbacks(given: Any) -> list[Callback]:
    """Return callbacks, plain functions as ones at the end of an epoch.  Raises WrongTypeError."""
    listed = list(given) if isinstance(given, Iterable) else [given]
    for one in listed:
        if isinstance(one, type):
            raise WrongTypeError(f"callbacks: {one.__name__} is a class; give an instance, such as {one.__name__}()")
        if not isinstance(one, Callback) and not callable(one):
            raise WrongTypeError(f"callbacks: {one!r} is no Callback and no function of a State; give one of them")
    return [one if isinstance(one, Callback) else AtEpochEnd(one) for one in listed]


def parameters_to_train(learner: Learner) -> dict[str, Parameter]:
    """Return the parameters that the rule trains, by their name in the learner.  Raises MismatchError if none."""
    chosen = {id(parameter) for group in learner.param_groups() for parameter in group["params"]}
    return {name: parameter for name, parameter in learner.named_parameters() if id(parameter) in chosen}


def check_loader_size(train: Any, validation: Any, batch: int | None) -> None:
    """Raise MismatchError for another size of batches than a DataLoader's, where there are no arrays that it is for."""
    given = [data for data in (train, validation) if data is not None]
    size = getattr(train, "batch_size", None)
    if batch is not None and size not in (None, batch) and all(map(is_loader, given)):
        raise MismatchError(f"batch={batch}, and the loader has batches of {size}; leave batch out")


def choose_optimizer(learner: Learner, optimizer: Any, scheduler: Any) -> Optimizer:
    """Return the optimizer given, else that of the scheduler, else AdamW with the rates of `RATES`, no weight decay.

    Roles of a rule's own have AdamW's rate, 1e-3. Raises WrongTypeError, and MismatchError for an optimizer that does
    not fit the learner.
    """
    check_scheduler_type(scheduler)
    if optimizer is None and scheduler is not None:
        optimizer = scheduler.optimizer
    if optimizer is None:
        rates = RATES if learner.rule.roles(learner.model) is None else {}
        return AdamW(learner.param_groups(**rates), weight_decay=0.0)
    if not isinstance(optimizer, Optimizer):
        raise WrongTypeError(
            f"optimizer={optimizer!r}: give a torch optimizer, such as torch.optim.Adam(learner.param_groups())"
        )
    check_step(type(optimizer))
    check_settings_known(optimizer)
    check_held(learner, optimizer)
    return optimizer


def check_held(learner: Learner, optimizer: Optimizer) -> None:
    """Raise MismatchError unless an optimizer steps parameters of this learner, and all that its rule owns.

    Warns of parameters that the rule trains and the optimizer lacks.
    """
    own, training = {id(parameter) for parameter in learner.parameters()}, parameters_to_train(learner)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    make = "make it anew with learner.param_groups()"
    if held - own:
        raise MismatchError(f"the optimizer holds {len(held - own)} parameters that the learner does not have; {make}")
    lacking = [name for name, parameter in training.items() if id(parameter) not in held]
    if len(lacking) == len(training):
        raise MismatchError(f"the optimizer holds none of the parameters that the rule trains; {make}")
    of_rule = [name for name in lacking if name.startswith("rule.")]
    if of_rule:
        raise MismatchError(f"the optimizer lacks {listed(of_rule)}, which the rule owns and trains; {make}")
    if lacking:
        warnings.warn(f"the optimizer lacks {listed(lacking)}, so that they do not change; {make}", stacklevel=4)


def check_scheduler_type(scheduler: Any) -> None:
    """Raise WrongTypeError for what is neither None nor a scheduler."""
    if scheduler is not None and not isinstance(scheduler, LRScheduler):
        raise WrongTypeError(
            f"scheduler={short(scheduler)}: give a scheduler of torch.optim.lr_scheduler that is made over an "
            "optimizer, such as StepLR(optimizer, 10), or None"
        )


def check_scheduler(scheduler: Any, per: str, optimizer: Optimizer) -> None:
    """Raise WrongTypeError or MismatchError for a scheduler of another optimizer, or one that cannot go per step."""
    if scheduler is None:
        return
    check_scheduler_type(scheduler)
    if scheduler.optimizer is not optimizer:
        raise MismatchError("the scheduler belongs to another optimizer; make it over the one given to fit")
    if per == "step" and isinstance(scheduler, ReduceLROnPlateau):
        raise MismatchError("ReduceLROnPlateau needs a loss per epoch; give scheduler_per='epoch'")


def step_scheduler(scheduler: Any, *losses: float) -> None:
    """Step a scheduler.  Raises MismatchError for one that is made for fewer steps, as OneCycleLR is."""
    try:
        scheduler.step(*losses)
    except ValueError as error:
        if "Tried to step" not in str(error):
            raise
        raise MismatchError(
            f"scheduler: {type(scheduler).__name__} was made for {scheduler.total_steps} steps, and the fit takes "
            "more; give it total_steps=epochs, or epochs times batches per epoch with scheduler_per='step'"
        ) from error


@contextlib.contextmanager
def naming_epoch(state: State) -> Iterator[None]:
    """Name the epoch in which a network's dynamics diverge."""
    try:
        yield
    except DivergenceError as error:
        raise DivergenceError(f"epoch {state.epoch}: {error}") from error


@contextlib.contextmanager
def naming_model(name: str, model: nn.Module) -> Iterator[None]:
    """Name the data whose samples a model or its loss refuses, and turn torch's errors into a MismatchError."""
    try:
        with naming(name):
            yield
    except (InfohebbError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, IndexError) as error:
        raise MismatchError(
            f"{name}: the {type(model).__name__} cannot take a batch of it: {said(error)}; give inputs and targets "
            "shaped as those of the training data"
        ) from error


def check_several_classes(batches: Batches) -> None:
    """Raise LabelError for labels of one class, from which nothing can be learned."""
    if isinstance(batches, ArrayBatches) and batches.unpack is None:
        targets = batches.split.targets
        if not targets.is_floating_point() and bool((targets == targets[0]).all()):
            raise LabelError("all labels are of one class, so there is nothing to tell apart; give two classes or more")


def refuse_iterator(data: Any, epochs: int, name: str) -> None:
    """Raise MismatchError for what can be read once only, if there are several epochs."""
    if epochs > 1 and hasattr(data, "__next__"):
        raise MismatchError(f"{name} is an iterator, which can be read once only; give a list or a DataLoader")


def put_in_train_mode(learner: Learner) -> None:
    """Leave each module's mode alone; a model in eval mode as a whole is put in train mode, with a warning."""
    if learner.model.training:
        return
    warnings.warn(
        f"the {type(learner.model).__name__} was in eval mode; fit puts it and all of its modules in train mode. "
        "Call model.train() first, then .eval() on the modules that are to stay so",
        stacklevel=3,
    )
    learner.train()


class MissingGradients:
    """Parameters that the rule trains and that no step of the epoch has given a gradient."""

    def __init__(self, learner: Learner):
        self.training = parameters_to_train(learner)
        self.without = dict(self.training)
        self.looked = False  # at the gradients of any step: a compiled one leaves none

    def begin_epoch(self) -> None:
        """Start anew."""
        self.without = dict(self.training)

    def see(self) -> None:
        """Look at the gradients of a step that learned something; warn after the first."""
        if self.without:
            still = {name: each for name, each in self.without.items() if each.grad is None and each.requires_grad}
            self.without = still
            if still and not self.looked:
                warnings.warn(
                    f"{listed(still)} got no gradient in the first step; if none comes in this epoch, fit stops at its "
                    "end",
                    stacklevel=4,
                )
        self.looked = True

    def check(self) -> None:
        """Raise MismatchError at the end of an epoch for parameters that never had a gradient."""
        if self.without and self.looked:
            raise MismatchError(
                f"{listed(self.without)} got no gradient in an epoch, though the rule trains it; does the model use "
                "it? Freeze it with requires_grad_(False) if it is not meant to learn"
            )


def check_finite(statistics: Statistics, learner: Learner, when: str) -> None:
    """Raise NonFiniteLossError that names the unit whose objective, or the loss or weight, that is not finite."""
    found = statistics.not_finite()
    if found is not None:
        unit, network = found
        of = "" if network is None else f" of network {network}"
        what = f"the label loss{of}" if unit is None else f"the objective of unit {unit}{of}"
        whole = "the head's rate" if learner.head else "the learning rate"
        rate = whole if unit is None else "the units' rate"
        raise NonFiniteLossError(f"{when}: {what} is not finite; lower {rate}, or give fit clip_norm=1.0")
    named = list(learner.named_parameters())
    sums = [parameter.detach().float().sum() for _, parameter in named]
    if not sums or math.isfinite(float(torch.stack([each.to(sums[0].device) for each in sums]).sum())):
        return
    for name, parameter in named:
        if not bool(parameter.isfinite().all()):
            raise NonFiniteLossError(
                f"{when}: {name} is not finite; lower the learning rate of its group, or give fit clip_norm=1.0"
            )


def listed(names: Iterable[str]) -> str:
    """Return up to three names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
