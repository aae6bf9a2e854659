"""Any torch optimizer, with a rate and a decay for each kind of parameter, and the step schedule."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from infohebb.errors import MismatchError, UnknownKeyError, WrongTypeError, is_number, unknown_name

PerKind = float | Mapping[str, float]
FUSED = ("sgd", "adam", "adamw", "adagrad")


def make_optimizer(
    groups: Mapping[str, list[Parameter]],
    /,
    name: str = "sgd",
    lr: PerKind | None = None,
    weight_decay: PerKind | None = None,
    **options: Any,
) -> Optimizer:
    """The torch optimizer of that name (sgd, adamw, ...) over the parameters that learn.

    `groups` holds parameters by kind, as `rule.groups(network)`; `lr` and `weight_decay` are one number, one per kind,
    or torch's own where left out; other options go to torch. Raises UnknownNameError, UnknownKeyError, WrongTypeError,
    and MismatchError for one that cannot step by gradients that are there.
    """
    kind = optimizer_class(name)
    check_step(kind)
    check_options(kind, options)
    asked = {"lr": lr, "weight_decay": weight_decay}
    numbers = {option: per_kind(option, value, groups) for option, value in asked.items() if value is not None}
    tables = [
        {"params": parameters, **{option: values[key] for option, values in numbers.items()}}
        for key, parameters in groups.items()
    ]
    if name.lower() in FUSED and not {"foreach", "differentiable"} & options.keys():
        options.setdefault("fused", True)
    try:
        return kind(tables, **options)
    except (ValueError, TypeError, RuntimeError) as error:
        raise WrongTypeError(f"optimizer: torch's {kind.__name__} says: {error}") from error


def check_step(kind: type[Optimizer]) -> None:
    """Raise MismatchError for an optimizer whose step wants to compute the loss itself."""
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise MismatchError(f"torch's {kind.__name__} computes the loss in its step; take another, such as adam or sgd")


def check_options(kind: type[Optimizer], options: Iterable[str]) -> None:
    """Raise UnknownKeyError for an option that torch's optimizer does not have."""
    known = set(inspect.signature(kind).parameters) - {"params"}
    for option in options:
        if option not in known:
            raise UnknownKeyError(f"optimizer.{option}: torch's {kind.__name__} has no such option")


def optimizer_class(name: str) -> type[Optimizer]:
    """torch's optimizer of that name, whatever its case.  Raises UnknownNameError."""
    found = {key.lower(): value for key, value in vars(torch.optim).items() if isinstance(value, type)}
    classes = {key: value for key, value in found.items() if issubclass(value, Optimizer) and value is not Optimizer}
    if str(name).lower() not in classes:
        raise unknown_name("optimizer", str(name), classes)
    return classes[name.lower()]


def per_kind(option: str, value: PerKind, kinds: Mapping[str, Any]) -> dict[str, float]:
    """One number for each kind.  Raises UnknownKeyError, WrongTypeError."""
    numbers = dict.fromkeys(kinds, value) if not isinstance(value, Mapping) else dict(value)
    if set(numbers) - set(kinds):
        extra, here = sorted(set(numbers) - set(kinds))[0], ", ".join(kinds)
        raise UnknownKeyError(f"optimizer.{option}.{extra}: this rule has parameters of kind {here} only")
    if set(kinds) - set(numbers):
        missing = sorted(set(kinds) - set(numbers))[0]
        raise WrongTypeError(f"optimizer.{option} gives no number for the {missing!r} parameters of this rule")
    for kind, number in numbers.items():
        if not is_number(number) or number < 0:
            raise WrongTypeError(f"optimizer.{option}.{kind} is {number!r}; it must be a number of at least 0")
    return {kind: float(number) for kind, number in numbers.items()}


def scale_rates(optimizer: Optimizer, epoch: int, milestones: Sequence[int], factor: float) -> dict[int, float]:
    """Set each group's rate for `epoch` (the first is 1): its initial one times `factor` per milestone passed.

    A milestone of 50 means that epoch 50 is the last at the old rate. Returns the rate of each group by position.
    """
    scale = factor ** sum(epoch > milestone for milestone in milestones)
    for table in optimizer.param_groups:
        table["lr"] = table.setdefault("initial_lr", table["lr"]) * scale
    return {position: table["lr"] for position, table in enumerate(optimizer.param_groups)}
