"""Any torch optimizer, with a rate and a decay for each kind of parameter or each parameter, and the schedule."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LambdaLR, MultiStepLR, ReduceLROnPlateau, StepLR

from infohebb.errors import MismatchError, UnknownKeyError, WrongTypeError, is_number, unknown_name
from infohebb.training.own_optimizers import OWN

PerKind = float | Mapping[str, float | Sequence[float]]
FUSED = ("sgd", "adam", "adamw", "adagrad")
SELDOM = (ConstantLR, MultiStepLR, ReduceLROnPlateau, StepLR)


def make_optimizer(
    groups: Mapping[str, list[Parameter]],
    /,
    name: str = "sgd",
    lr: PerKind | None = None,
    weight_decay: PerKind | None = None,
    **options: Any,
) -> Optimizer:
    """The optimizer of that name, torch's (sgd, adamw, ...) or one of `OWN`, over the parameters that learn.

    `groups` holds parameters by kind, as `rule.groups(network)`. `lr` and `weight_decay` are one number, one per kind,
    or the optimizer's own where left out; a kind may have a list, of a number for each of its parameters, which are
    then groups of their own. Each group has its name under "kind": local, or local.1, local.2. Other options go to the
    optimizer. Raises UnknownNameError, UnknownKeyError, WrongTypeError, and MismatchError for one that cannot step by
    gradients that are there.
    """
    make = optimizer_class(name)
    check_step(make)
    check_options(make, options)
    asked = {"lr": lr, "weight_decay": weight_decay}
    numbers = {option: per_kind(option, value, groups) for option, value in asked.items() if value is not None}
    tables = [
        table
        for kind, parameters in groups.items()
        for table in _tables(kind, parameters, {option: values[kind] for option, values in numbers.items()})
    ]
    if name.lower() in FUSED and not {"foreach", "differentiable"} & options.keys():
        options.setdefault("fused", True)
    try:
        return make(tables, **options)
    except (ValueError, TypeError, RuntimeError) as error:
        raise WrongTypeError(f"optimizer: {_title(make)} says: {error}") from error


def _tables(
    kind: str, parameters: Sequence[Parameter], numbers: Mapping[str, float | list[float]]
) -> list[dict[str, Any]]:
    """The param group of a kind; where a number is a list, one for each parameter."""
    if not any(isinstance(value, list) for value in numbers.values()):
        return [{"params": [*parameters], "kind": kind, **numbers}]
    return [
        {
            "params": [parameter],
            "kind": f"{kind}.{place + 1}",
            **{option: value[place] if isinstance(value, list) else value for option, value in numbers.items()},
        }
        for place, parameter in enumerate(parameters)
    ]


def check_step(kind: type[Optimizer]) -> None:
    """Raise MismatchError for an optimizer whose step computes the loss itself, or takes no dense gradients."""
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise MismatchError(f"{_title(kind)} computes the loss in its step; take another, such as adam or sgd")
    if issubclass(kind, torch.optim.SparseAdam):
        raise MismatchError(f"{_title(kind)} takes sparse gradients only, and rules leave dense ones; take adam or sgd")


def check_options(kind: type[Optimizer], options: Iterable[str]) -> None:
    """Raise UnknownKeyError for an option that the optimizer does not have."""
    known = set(inspect.signature(kind).parameters) - {"params"}
    for option in options:
        if option not in known:
            raise UnknownKeyError(f"optimizer.{option}: {_title(kind)} has no such option")


def _title(kind: type[Optimizer]) -> str:
    """What messages call an optimizer."""
    return kind.__name__ if kind in OWN.values() else f"torch's {kind.__name__}"


def optimizer_class(name: str) -> type[Optimizer]:
    """The optimizer of that name, torch's or one of `OWN`, whatever its case.  Raises UnknownNameError."""
    found = {key.lower(): value for key, value in vars(torch.optim).items() if isinstance(value, type)}
    classes = {key: value for key, value in found.items() if issubclass(value, Optimizer) and value is not Optimizer}
    classes |= OWN
    if str(name).lower() not in classes:
        raise unknown_name("optimizer", str(name), classes)
    return classes[name.lower()]


def per_kind(option: str, value: PerKind, kinds: Mapping[str, Sequence[Any]]) -> dict[str, float | list[float]]:
    """One number for each kind, or a list of one for each parameter.  Raises UnknownKeyError, WrongTypeError."""
    if not isinstance(value, Mapping):
        return {kind: check_number(f"optimizer.{option}.{kind}", value) for kind in kinds}
    numbers = dict(value)
    if set(numbers) - set(kinds):
        extra, here = sorted(set(numbers) - set(kinds))[0], ", ".join(kinds)
        raise UnknownKeyError(f"optimizer.{option}.{extra}: this rule has parameters of kind {here} only")
    if set(kinds) - set(numbers):
        missing = sorted(set(kinds) - set(numbers))[0]
        raise WrongTypeError(f"optimizer.{option} gives no number for the {missing!r} parameters of this rule")
    return {kind: _numbers(f"optimizer.{option}.{kind}", numbers[kind], len(kinds[kind])) for kind in kinds}


def _numbers(place: str, given: Any, parameters: int) -> float | list[float]:
    if isinstance(given, (list, tuple)):
        if len(given) != parameters:
            has = "1 parameter" if parameters == 1 else f"{parameters} parameters"
            raise WrongTypeError(f"{place}: {len(given)} numbers for {has}; give one number, or one for each parameter")
        return [check_number(f"{place}[{position}]", number) for position, number in enumerate(given)]
    return check_number(place, given)


def check_number(place: str, number: Any) -> float:
    """Return a rate or a decay.  Raises WrongTypeError for what is none."""
    if not is_number(number) or number < 0:
        raise WrongTypeError(f"{place} is {number!r}; it must be a number of at least 0")
    return float(number)


@dataclass(frozen=True)
class Schedule:
    """What rates are multiplied by: `factor` at milestones and every so many steps (0: never), and powers of epochs."""

    milestones: Sequence[int] = ()
    factor: float = 0.25
    powers: Sequence[Sequence[float | int]] = ()
    factor_every: int = 0

    def set_rates(self, optimizer: Optimizer, epoch: int, steps: int) -> dict[int, float]:
        """Set each group's rate for `epoch` (the first is 1) after so many steps; return it by the group's position."""
        falls = steps // self.factor_every if self.factor_every else 0
        times = power_in_force(self.powers, epoch) * self.factor**falls
        return scale_rates(optimizer, epoch, self.milestones, self.factor, times)


def power_in_force(powers: Sequence[Sequence[float | int]], epoch: int) -> float:
    """d^(epoch - 1), d being that of the last of `powers` (first epoch, d) to have begun; else 1.  [CIM 8.3]"""
    begun = [base for first, base in powers if epoch >= first]
    return begun[-1] ** (epoch - 1) if begun else 1.0


class EpochFactor:
    """What rates are multiplied by after so many epochs: `factor` per milestone passed, and d^epochs by `powers`."""

    def __init__(self, milestones: Sequence[int], factor: float, powers: Sequence[Sequence[float | int]]):
        self.milestones, self.factor = [int(each) for each in milestones], float(factor)
        self.powers = [[int(first), float(base)] for first, base in powers]

    def __call__(self, epochs: int) -> float:
        """Return the factor of the epoch that follows so many."""
        passed = sum(epochs + 1 > milestone for milestone in self.milestones)
        return self.factor**passed * power_in_force(self.powers, epochs + 1)


class StepFactor:
    """What rates are multiplied by after so many steps: `factor` for every `steps` of them."""

    def __init__(self, steps: int, factor: float):
        self.steps, self.factor = int(steps), float(factor)

    def __call__(self, steps: int) -> float:
        """Return the factor of the step that follows so many."""
        return self.factor ** (steps // self.steps)


def changes_seldom(scheduler: Any) -> bool:
    """Whether a scheduler leaves rates alone in most epochs, so that few steps of a compiled learner are made anew."""
    if type(scheduler) is LambdaLR:
        return all(isinstance(factor, EpochFactor) and not factor.powers for factor in scheduler.lr_lambdas)
    return scheduler is None or isinstance(scheduler, SELDOM)


def scale_rates(
    optimizer: Optimizer, epoch: int, milestones: Sequence[int], factor: float, times: float = 1.0
) -> dict[int, float]:
    """Set each group's rate for `epoch`: its initial one times `factor` per milestone passed, and times `times`.

    A milestone of 50 means that epoch 50 is the last at the old rate. Returns the rate of each group by position.
    """
    scale = factor ** sum(epoch > milestone for milestone in milestones) * times
    for table in optimizer.param_groups:
        table["lr"] = table.setdefault("initial_lr", table["lr"]) * scale
    return {position: table["lr"] for position, table in enumerate(optimizer.param_groups)}
