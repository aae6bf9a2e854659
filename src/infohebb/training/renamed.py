"""Names of version 0.1 that version 0.2 still takes, with a warning that shows the new spelling: the one table."""

import sys
import warnings
from collections.abc import Mapping
from typing import Any

from infohebb.rules.contract import LearningRule

TRAINING = {"hold": "steps_per_sample", "side_by_side": "stacked"}  # of `train` and of recipes
ROLES = ("local", "readout")  # of learning rates: their new names depend on the rule


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


def renew_roles(rule: LearningRule, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of an optimizer with the new roles in `lr` and `weight_decay`; a new name that is there wins."""
    renewed = dict(options)
    for option in ("lr", "weight_decay"):
        given = options.get(option)
        if isinstance(given, Mapping):
            old = {new: given[role] for role in ROLES if role in given for new in new_roles(rule, role)}
            renewed[option] = {**old, **{role: value for role, value in given.items() if role not in ROLES}}
    return renewed


def warn_of_roles(rule: LearningRule, options: Mapping[str, Any], place: str = "optimizer") -> None:
    """Warn of old roles, with the new spelling."""
    for option in ("lr", "weight_decay"):
        given = options.get(option)
        there = [role for role in ROLES if isinstance(given, Mapping) and role in given]
        for role in there:
            if new_roles(rule, role) != (role,):
                spelled = " and ".join(f"{place}.{option}.{new}" for new in new_roles(rule, role))
                warn(f"{place}.{option}.{role}", spelled)


def renew_config(config: Mapping[str, Any], rule: LearningRule, *, tell: bool = False) -> dict[str, Any]:
    """Return a recipe's sections, or a record's, with the names of now; with `tell` old ones get a warning."""
    training, optimizer = dict(config.get("training", {})), config.get("optimizer", {})
    for old, new in TRAINING.items():
        if old in training:
            if tell:
                warn(f"training.{old}", f"training.{new}")
            value = training.pop(old)
            training.setdefault(new, value)
    if tell:
        warn_of_roles(rule, optimizer)
    renewed = {**config, "training": training} if "training" in config else dict(config)
    return {**renewed, "optimizer": renew_roles(rule, optimizer)} if "optimizer" in config else renewed


def warn(old: str, new: str) -> None:
    """Warn of an old name, at the first line outside of infohebb."""
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("infohebb"):
        level, frame = level + 1, frame.f_back
    warnings.warn(f"{old} is now {new}; the old name goes in version 0.3", FutureWarning, stacklevel=level)
