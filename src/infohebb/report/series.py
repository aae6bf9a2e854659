"""Curves of several records as arrays of seeds × epochs; what a record lacks is NaN."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infohebb.experiments.record import Record
from infohebb.report.summary import in_order

MOST_DROPS = 8  # a rate that falls more often is a schedule, not a few events worth a mark


@dataclass(frozen=True)
class Series:
    """One quantity over the epochs: the runs, their mean and their range."""

    epochs: np.ndarray
    runs: np.ndarray  # seeds × epochs

    @property
    def known(self) -> np.ndarray:
        """The epochs at which some run has a value."""
        return np.asarray(np.isfinite(self.runs).any(axis=0))

    @property
    def mean(self) -> np.ndarray:
        """Over the runs that have a value."""
        return np.nanmean(self.runs[:, self.known], axis=0)

    @property
    def low(self) -> np.ndarray:
        """Smallest of the runs."""
        return np.nanmin(self.runs[:, self.known], axis=0)

    @property
    def high(self) -> np.ndarray:
        """Largest of the runs."""
        return np.nanmax(self.runs[:, self.known], axis=0)

    @property
    def sd(self) -> np.ndarray:
        """Sample standard deviation over the runs that have a value, 0 where that is one."""
        squares = np.nansum((self.runs[:, self.known] - self.mean) ** 2, axis=0)
        count = np.isfinite(self.runs[:, self.known]).sum(axis=0)
        return np.sqrt(squares / np.maximum(count - 1, 1))

    @property
    def at(self) -> np.ndarray:
        """The epochs of `mean`, `low` and `high`."""
        return self.epochs[self.known]


def series(records: Sequence[Record], *keys: str, at: Sequence[str] = ("epoch",)) -> Series | None:
    """The curve at `keys` of every record, its epochs those `at` other keys, or nothing where none has it."""
    curves = [(_at(run.curves, *at), _at(run.curves, *keys)) for run in records]
    curves = [(epochs, values) for epochs, values in curves if epochs.size and epochs.shape == values.shape]
    if not any(np.isfinite(values).any() for _, values in curves):
        return None
    axis = np.unique(np.concatenate([epochs for epochs, _ in curves]))
    runs = np.full((len(curves), axis.size), np.nan)
    for line, (epochs, values) in zip(runs, curves, strict=True):
        line[np.searchsorted(axis, epochs)] = values
    return Series(axis, runs)


def samples_to_a_point(rows: Iterable[Sequence[Record]]) -> set[float]:
    """How many samples each row sees from the last point but one of its curves to the last; old records do not say."""
    seen = [_at(runs[0].curves, "samples") for runs in rows]
    return {float(np.diff(samples, prepend=0.0)[-1]) for samples in seen if samples.size}


def layer_names(records: Sequence[Record]) -> list[str]:
    """Of every layer whose objective some record holds, from the input up."""
    found = (run.curves.get("objective") for run in records)
    return list(in_order(*(layers for layers in found if isinstance(layers, dict))))


def rate_drops(records: Sequence[Record]) -> list[float]:
    """The epochs at which a learning rate falls, where those are few."""
    drops: set[float] = set()
    for kind in records[0].curves.get("learning_rate") or {}:
        found = series(records[:1], "learning_rate", kind)
        if found is not None:
            drops.update(found.at[1:][np.diff(found.mean) < 0].tolist())
    return sorted(drops) if len(drops) <= MOST_DROPS else []


def _at(curves: Any, *keys: str) -> np.ndarray:
    for key in keys:
        curves = curves.get(key) if isinstance(curves, dict) else None
    values = curves if isinstance(curves, list) and not any(isinstance(v, (dict, list, str)) for v in curves) else []
    numbers = np.array(values, dtype=float)  # null becomes NaN
    return np.where(np.isfinite(numbers), numbers, np.nan)
