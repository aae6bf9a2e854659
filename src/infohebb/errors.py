"""What bad input gets: one line that names the thing, the place and the mend, and an exit status."""

import difflib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real


class InfohebbError(Exception):
    """Base of all errors raised on purpose; the command line prints its message and exits with `exit_status`."""

    exit_status = 1


class UsageError(InfohebbError, ValueError):
    """The request cannot be right: nothing was started."""

    exit_status = 2


class RunError(InfohebbError, RuntimeError):
    """The request was right and the run failed; earlier results are untouched."""


class UnknownNameError(UsageError):
    """A rule, network, data set, recipe, row or module that does not exist."""


class RecipeError(UsageError):
    """A recipe that cannot be read."""


class UnknownKeyError(RecipeError):
    """A recipe key that nothing reads."""


class WrongTypeError(RecipeError):
    """A recipe value of the wrong type or out of its range."""


class GroupingError(UsageError):
    """Groups that do not divide the layer, that leave one neuron each, or a single group."""


class MismatchError(UsageError):
    """A rule, network and data that do not fit together."""


class LabelError(UsageError):
    """Labels out of range or of a type that cannot name a class."""


class EmptyBatchError(UsageError):
    """No samples."""


class NonFiniteDataError(UsageError):
    """NaN or infinity in the data."""


class RecordConflictError(UsageError):
    """A record of the same row and seed made under another configuration."""


class BusyError(RecordConflictError):
    """Another process is making this very record."""


class CheckpointError(UsageError):
    """A checkpoint of another recipe, or of another version of this one."""


class MissingDataError(RunError):
    """A data file that is not there and cannot be downloaded."""


class CorruptFileError(RunError):
    """A file whose content is not what its name promises."""


class NoSpaceError(RunError):
    """The disk is full; nothing was overwritten."""


class DivergenceError(RunError):
    """A network's own dynamics, or a readout that learns as it runs, ran away to infinity."""


class NonFiniteLossError(RunError):
    """Training produced a loss, an objective or a gradient that is not finite."""


LONGEST_LIST = 220  # characters of the names that a message lists


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not among `known`, with the nearest one if there is one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    listed = ", ".join(names)
    listed = listed if len(listed) <= LONGEST_LIST else f"{listed[:LONGEST_LIST].rpartition(',')[0]}, …"
    hint = f"did you mean {near[0]!r}?" if near else f"known: {listed}"
    return UnknownNameError(f"unknown {kind} {name!r}; {hint}")


@contextmanager
def naming(place: object, kind: type[UsageError] = UsageError) -> Iterator[None]:
    """Name the place in what is refused inside, by errors of that kind."""
    try:
        yield
    except kind as error:
        raise type(error)(f"{place}: {error}") from error


def is_number(value: object) -> bool:
    """Whether a setting is one finite number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: object) -> bool:
    """Whether a setting is of a type that counts: 4 is, 4.0 and True are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)
