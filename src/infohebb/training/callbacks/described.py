"""What tells one fit from another in a checkpoint, and where they differ."""

import json
import re
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from infohebb.rules.contract import LearningRule
from infohebb.training.callbacks.base import State

PLAIN = (int, float, str, bool, type(None))


class Known(NamedTuple):
    """Of an optimizer that a fit has used: the first description, its settings at the end, and the checkpoint there."""

    first: dict[str, Any]
    left: Any
    live: Path | None

    def first_with(self, now: dict[str, Any]) -> dict[str, Any]:
        """Return a description of now, with optimizer and scheduler as they were before the first fit."""
        return {**now, "optimizer": self.first["optimizer"], "scheduler": self.first["scheduler"]}


KNOWN: weakref.WeakKeyDictionary[Optimizer, Known] = weakref.WeakKeyDictionary()


def describe(state: State, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return names and settings of model, rule, optimizer, scheduler and the order of samples, as JSON has them."""
    scheduler, learner = state.scheduler, state.learner
    described = {
        "model": {"name": type(learner.model).__name__, "tensors": _shapes(learner.model)},
        "units": [unit.name for unit in learner.units],
        "head": list(learner.head),
        "rule": {"name": type(learner.rule).__name__, **_rule_settings(learner.rule)},
        "optimizer": {"name": type(state.optimizer).__name__, "groups": settings_of(state.optimizer)},
        "scheduler": scheduler and {"name": type(scheduler).__name__, **scheduler.state_dict()},
        "sampling": state.train.described(),
        "config": dict(config),
    }
    return json.loads(json.dumps(described, default=_as_json))


def settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return each group's settings and the number of its parameters."""
    groups = [
        {**{key: value for key, value in group.items() if key != "params"}, "parameters": len(group["params"])}
        for group in optimizer.param_groups
    ]
    return json.loads(json.dumps(groups, default=_as_json))


def difference(saved: Any, now: Any, path: str) -> str | None:
    """Return where two descriptions differ first, in words; None if they do not."""
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        keys = [*saved, *(key for key in now if key not in saved)]
        found = (difference(saved.get(key), now.get(key), f"{path}.{key}") for key in keys)
        return next((one for one in found if one), None)
    if isinstance(saved, list) and isinstance(now, list) and len(saved) == len(now):
        found = (difference(*pair, f"{path}.{place}") for place, pair in enumerate(zip(saved, now, strict=True)))
        return next((one for one in found if one), None)
    same = saved == now or (saved != saved and now != now)  # NaN
    return None if same else f"{path} was {_short(saved)} and is {_short(now)}"


def _short(value: Any) -> str:
    words = str(value)
    return words if len(words) <= 40 else f"{words[:37]}..."


def _shapes(module: nn.Module) -> dict[str, str]:
    tensors = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    return {name: f"{str(each.dtype).removeprefix('torch.')}{list(each.shape)}" for name, each in tensors.items()}


def _rule_settings(rule: LearningRule) -> dict[str, Any]:
    """Return the constructor's arguments: plain values as they are, others by their repr without addresses."""
    return {name: _plain(value) for name, value in rule.settings().items()}


def _plain(value: Any) -> Any:
    return value if isinstance(value, PLAIN) else re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _as_json(value: Any) -> Any:
    return value.tolist() if isinstance(value, (Tensor, np.ndarray, np.generic)) else type(value).__name__
