"""What a study's settings must be, each refused by a line that names it, and what to take instead."""

from collections.abc import Sequence
from typing import Any

from infohebb.errors import MismatchError, UsageError, WrongTypeError, is_number, is_whole, unknown_name
from infohebb.functional.working_memory import MODULATORS

HELD_OUT = 10  # windows of which a fifth, two, can have a variance


def check_whole(least: int, **settings: int) -> None:
    """Raise WrongTypeError for what does not count, or less than `least`."""
    for name, value in settings.items():
        if not is_whole(value) or value < least:
            raise WrongTypeError(f"{name} = {value!r}; take a whole number of at least {least}")


def check_positive(**settings: float) -> None:
    """Raise WrongTypeError for what is no finite number above 0."""
    for name, value in settings.items():
        if not is_number(value) or value <= 0:
            raise WrongTypeError(f"{name} = {value!r}; take a finite number above 0")


def check_numbers(count: int, name: str, values: Any, *, positive: bool = False) -> None:
    """Raise WrongTypeError unless there are so many finite numbers."""
    what = "finite numbers above 0" if positive else "finite numbers"
    fits = isinstance(values, (list, tuple)) and len(values) == count and all(map(is_number, values))
    if not fits or (positive and min(values) <= 0):
        raise WrongTypeError(f"{name} = {values!r}; take {count} {what}")


def check_choice(name: str, value: str, known: Sequence[str]) -> None:
    """Raise UsageError for what is not one of them."""
    if value not in known:
        raise UsageError(f"{name} {value!r}; take {' or '.join(map(repr, known))}")


def check_modulator(modulator: str) -> None:
    """Raise UnknownNameError unless there is one of that name."""
    if modulator not in MODULATORS:
        raise unknown_name("modulator", str(modulator), MODULATORS)


def check_windows(window: int, least: int, **samples: int) -> None:
    """Raise WrongTypeError for windows of less than two samples, MismatchError for samples of too few windows."""
    check_whole(2, window=window)
    check_whole(1, **samples)
    for name, count in samples.items():
        if count < window + least - 1:
            raise MismatchError(
                f"{name} = {count} has less than {least} windows of {window} samples; take {window + least - 1} or more"
            )
