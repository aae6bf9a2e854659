"""The contract suite: what every learning rule must keep, as one function. No test framework needed.

from infohebb.testing import check_rule
for check in check_rule(MyRule):
    print(check)
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from infohebb.errors import GroupingError, MismatchError
from infohebb.networks import Settling
from infohebb.rules import LearningRule
from infohebb.rules import contract as rule_contract
from infohebb.testing import downstream, locality, manners, settled
from infohebb.testing.cases import Case, build_case, example_networks, leaky_networks
from infohebb.testing.checks import Check, check_promise, raised
from infohebb.testing.contract import certify, check_with_learner
from infohebb.testing.manners import learns_blobs
from infohebb.testing.paths import import_rule

__all__ = [
    "PROMISES",
    "SETTLING",
    "Case",
    "Check",
    "build_case",
    "certify",
    "check_rule",
    "example_networks",
    "import_rule",
]

OF_SIGNALS = (locality.update_follows_from_signals, locality.update_is_local)
PROMISES = (*manners.PROMISES, *locality.PROMISES, *downstream.PROMISES)
SETTLING = (*manners.PROMISES, *OF_SIGNALS, *settled.PROMISES)
WITH_DROPOUT = (manners.same_seed_same_gradient, manners.fills_gradients, manners.keeps_no_graph)


def check_rule(rule: Callable[[], Any], *, strict: bool = True, networks: Sequence[str] | None = None) -> list[Check]:
    """Return a check for each promise of the contract on each network of the suite.

    `rule` is a class, or anything that makes an instance without arguments. A rule that a Learner drives (derived from
    infohebb.LocalRule) is checked on plain networks, or on those of its `own_network`, which the checks name
    "learner: ..."; `networks` picks some of them, None takes all. A rule derived from infohebb.LearningRule is checked
    on networks of blocks or settling networks; a rule that is both, on both. A network that the rule refuses in `setup`
    or `attach` is reported as such; refusing all of them is a failure. A LeakyMLP is among the networks if the rule
    `advances` a "potential". On settling networks signals of all phases are held to the update and to locality;
    promises on what lies above a layer are for layered ones.
    Raises AssertionError that names each broken promise, unless `strict` is False.
    """
    checks = list(_checks(rule, networks))
    broken = [str(check) for check in checks if check.broken]
    if broken and strict:
        raise AssertionError("\n".join(broken))
    return checks


def _checks(make: Callable[[], Any], networks: Sequence[str] | None) -> Iterator[Check]:
    try:
        example = make()
    except Exception as error:  # noqa: BLE001  (whatever a user's rule raises is a broken promise)
        yield Check("builds without arguments", "-", str(error) if isinstance(error, TypeError) else raised(error))
        return
    if not isinstance(example, (LearningRule, rule_contract.LearningRule)):
        reason = f"{type(example).__name__} is not derived from infohebb.LocalRule or infohebb.LearningRule"
        yield Check("is a learning rule", "-", reason)
    if isinstance(example, LearningRule):
        yield from _checks_on_layers(make, example)
    if isinstance(example, rule_contract.LearningRule):
        yield from check_with_learner(make, networks)


def _checks_on_layers(make: Callable[[], Any], example: LearningRule) -> Iterator[Check]:
    accepted = 0
    for name, network in {**example_networks(example.network_type), **leaky_networks(example)}.items():
        try:
            build_case(make, network)
        except (MismatchError, GroupingError) as error:
            yield Check(f"refused: {error}", name)
            continue
        except Exception as error:  # noqa: BLE001  (as above)
            yield Check("attaches to the network", name, raised(error))
            continue
        accepted += 1
        promises = PROMISES if name != "dropout" else WITH_DROPOUT
        for promise in SETTLING if issubclass(example.network_type, Settling) else promises:
            yield check_promise(promise, partial(build_case, make, network), name)
    yield Check("trains some network", "-", None if accepted else "attach refuses every example")
    if accepted:
        yield check_promise(learns_blobs, make, "blobs")
