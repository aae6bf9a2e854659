"""Names of version 0.1 that version 0.2 still takes, with a warning that shows the new spelling: the one table."""

import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from infohebb.errors import WrongTypeError
from infohebb.rules.contract import LearningRule

TRAINING = {"hold": "steps_per_sample", "side_by_side": "stacked"}  # of `train` and of recipes
ROLES = ("local", "readout")  # of learning rates: their new names depend on the rule
RATES = ("lr", "weight_decay")  # options of an optimizer that may have a number for each role


def new_roles(rule: LearningRule, role: str) -> tuple[str, ...]:
    """Return the roles whose parameters learned at the rate of an old role; the role itself if it is no old one.

    "local" was the units and what the rule owns, and of predictive coding all weights and biases. "readout" was the
    head; of rules that send the head's error through the network it was all parameters.
    """
    if role not in ROLES:
        return (role,)
    if rule.own_network is not None:
        return ("forward", "bias") if role == "local" else (role,)
    if role == "local":
        return ("units", "rule") if rule.owns_parameters else ("units",)
    return ("units", "head") if rule.locality.global_error else ("head",)


def rename_roles(rule: LearningRule, place: str, values: Mapping[Any, Any], *, tell: bool = False) -> dict[Any, Any]:
    """Return the values of the setting `place` by the roles of now; with `tell` old ones get a warning.

    Raises WrongTypeError where an old role and its new one are both there.
    """
    old = {role: new_roles(rule, role) for role in ROLES if role in values and new_roles(rule, role) != (role,)}
    renamed = {role: value for role, value in values.items() if role not in old}
    for role, new in old.items():
        for each in new:
            if each in renamed:
                raise WrongTypeError(f"{place} gives {role!r} and {each!r}; leave out {role!r}")
            renamed[each] = values[role]
        if tell:
            warn(f"{place}.{role}", " and ".join(f"{place}.{each}" for each in new))
    return renamed


def rename_options(rule: LearningRule, options: Mapping[str, Any], *, tell: bool = False) -> dict[str, Any]:
    """Return options of an optimizer, `lr` and `weight_decay` by the roles of now, as `rename_roles`."""
    by_role = {option: options[option] for option in RATES if isinstance(options.get(option), Mapping)}
    renamed = {
        option: rename_roles(rule, f"optimizer.{option}", values, tell=tell) for option, values in by_role.items()
    }
    return {**options, **renamed}


def rename_config(config: Mapping[str, Any], rule: LearningRule, *, tell: bool = False) -> dict[str, Any]:
    """Return a recipe's sections, or a record's, with the names of now; with `tell` old ones get a warning.

    Raises WrongTypeError where an old name and its new one are both there.
    """
    training, optimizer = dict(config.get("training", {})), config.get("optimizer", {})
    for old, new in TRAINING.items():
        if old in training:
            if new in training:
                raise WrongTypeError(f"training gives {old} and {new}; leave out {old}")
            if tell:
                warn(f"training.{old}", f"training.{new}")
            training[new] = training.pop(old)
    renamed = {"training": training, "optimizer": rename_options(rule, optimizer, tell=tell)}
    return {**config, **{section: values for section, values in renamed.items() if section in config}}


def rename_settings(settings: Iterable[str], rule: LearningRule) -> list[str]:
    """Return settings such as "optimizer.lr.readout=0.1" by the names of now, with a warning for old ones."""
    renamed = []
    for setting in settings:
        path, _, value = setting.partition("=")
        section, *keys = (key.strip() for key in path.split("."))
        old, new = ".".join([section, *keys]), []
        if section == "training" and len(keys) == 1 and keys[0] in TRAINING:
            new = [f"training.{TRAINING[keys[0]]}"]
        elif section == "optimizer" and len(keys) == 2 and keys[0] in RATES and keys[1] in ROLES:
            new = [f"optimizer.{keys[0]}.{role}" for role in new_roles(rule, keys[1])]
        if new in ([], [old]):
            renamed.append(setting)
        else:
            warn(old, " and ".join(new))
            renamed += [f"{name}={value}" for name in new]
    return renamed


def one_spelling(rule: LearningRule, rates: Any) -> Any:
    """Return rates by role in the one way in which records are compared.

    Roles that the rule does not have are left out, and one number for all that it has is that number.
    """
    if not isinstance(rates, Mapping) or rule.own_network is not None:
        return rates
    has = {"units": rule.trains_units, "head": True, "rule": rule.owns_parameters}
    kept = {role: number for role, number in rates.items() if has.get(role, True)}
    numbers = list(kept.values())
    if kept.keys() == {role for role in has if has[role]} and all(number == numbers[0] for number in numbers):
        return rates if isinstance(numbers[0], Sequence) else numbers[0]
    return kept


def rename_tensors(tensors: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by the `names` that a network has now.

    Those of version 0.1 were blocks.0.weight, blocks.0.batch_norm.bias, blocks.0.potential, readout.weight, …
    """
    now = set(names)
    return {_rename_tensor(name, now): tensor for name, tensor in tensors.items()}


def _rename_tensor(name: str, now: set[str]) -> str:
    block = re.fullmatch(r"blocks\.(\d+)\.(batch_norm\.)?(\w+)", name)
    candidates = [f"readout.{place}.{name.removeprefix('readout.')}" for place in (0, 1)]
    if block is not None:
        place, norm, last = block.groups()
        parts = ["norm"] if norm else ["linear", "conv", "leak"]
        candidates = [f"layers.{place}.activity.{part}.{last}" for part in parts]
    return next((each for each in (name, *candidates) if each in now), name)


def warn(old: str, new: str) -> None:
    """Warn of an old name, at the first line outside of infohebb."""
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("infohebb"):
        level, frame = level + 1, frame.f_back
    warnings.warn(f"{old} is now {new}; the old name goes in version 0.3", FutureWarning, stacklevel=level)
