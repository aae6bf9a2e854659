"""The contract suite: what every learning rule must keep, as one function. No test framework needed.

from infohebb.testing import check_rule
for check in check_rule(MyRule):
    print(check)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from infohebb.errors import GroupingError, MismatchError
from infohebb.networks import Settling
from infohebb.testing import downstream, locality, manners, settled
from infohebb.testing.cases import Case, Make, build_case, example_networks, leaky_networks
from infohebb.testing.manners import learns_blobs
from infohebb.testing.paths import import_rule

__all__ = ["PROMISES", "SETTLING", "Case", "Check", "build_case", "check_rule", "example_networks", "import_rule"]

OF_SIGNALS = (locality.update_follows_from_signals, locality.update_is_local)
PROMISES = (*manners.PROMISES, *locality.PROMISES, *downstream.PROMISES)
SETTLING = (*manners.PROMISES, *OF_SIGNALS, *settled.PROMISES)
WITH_DROPOUT = (manners.same_seed_same_gradient, manners.fills_gradients, manners.keeps_no_graph)


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


def check_rule(rule: Make, *, strict: bool = True) -> list[Check]:
    """Hold a rule (a class, or anything that makes one without arguments) to the contract.

    Returns what was checked; with `strict` raises AssertionError naming each broken promise. A network that the rule
    refuses in `attach` is reported as such; refusing them all is a failure. A LeakyMLP is among the networks if the
    rule `advances` a "potential". On settling networks signals of all phases are held to the update and to
    locality; promises on what lies above a layer are for layered ones.
    """
    checks = list(_checks(rule))
    broken = [str(check) for check in checks if check.broken]
    if broken and strict:
        raise AssertionError("\n".join(broken))
    return checks


def _checks(make: Make) -> Iterator[Check]:
    try:
        example = make()
    except Exception as error:  # noqa: BLE001  (whatever a user's rule raises is a broken promise)
        yield Check("builds without arguments", "-", str(error) if isinstance(error, TypeError) else _raised(error))
        return
    accepted = 0
    for name, network in {**example_networks(example.network_type), **leaky_networks(example)}.items():
        try:
            build_case(make, network)
        except (MismatchError, GroupingError) as error:
            yield Check(f"refused: {error}", name)
            continue
        except Exception as error:  # noqa: BLE001  (as above)
            yield Check("attaches to the network", name, _raised(error))
            continue
        accepted += 1
        promises = PROMISES if name != "dropout" else WITH_DROPOUT
        for promise in SETTLING if issubclass(example.network_type, Settling) else promises:
            yield _check(promise, partial(build_case, make, network), name)
    yield Check("trains some network", "-", None if accepted else "attach refuses every example")
    if accepted:
        yield _check(learns_blobs, make, "blobs")


def _check(promise: Callable[[Any], None], argument: Any, network: str) -> Check:
    words = promise.__name__.replace("_", " ")
    try:
        promise(argument)
    except AssertionError as error:
        return Check(words, network, str(error) or "assertion failed")
    except Exception as error:  # noqa: BLE001  (as above)
        return Check(words, network, _raised(error))
    return Check(words, network)


def _raised(error: Exception) -> str:
    """An exception as one line."""
    return " ".join(f"raises {type(error).__name__}: {error}".split())
