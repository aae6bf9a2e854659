"""Check: one promise of a rule, held or broken on one network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One promise, held or broken on one network."""

    promise: str
    network: str
    broken: str | None = None

    def __str__(self) -> str:
        return f"{'FAILS' if self.broken else 'holds'}  {self.promise} [{self.network}]{self._reason()}"

    def _reason(self) -> str:
        return f": {self.broken}" if self.broken else ""


def check_promise(promise: Callable[[Any], None], argument: Any, network: str) -> Check:
    """Return whether a promise holds: a function that raises where it is broken."""
    words = promise.__name__.replace("_", " ")
    try:
        promise(argument)
    except AssertionError as error:
        return Check(words, network, str(error) or "assertion failed")
    except Exception as error:  # noqa: BLE001  (whatever a user's rule raises is a broken promise)
        return Check(words, network, raised(error))
    return Check(words, network)


def raised(error: Exception) -> str:
    """Return an exception as one line."""
    return " ".join(f"raises {type(error).__name__}: {error}".split())
