"""Names of version 1 that are accepted for one version more, with a warning that shows those of now."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from infohebb.errors import MismatchError
from infohebb.rules.contract import LearningRule

Renamed = Mapping[str, tuple[str, ...]]
OLD_TO_NEW: Mapping[str, Renamed] = {  # roles of parameters, by the kind of rule
    "local": {"local": ("units", "rule"), "readout": ("head",)},
    "head alone": {"readout": ("head",)},
    "error from above": {"readout": ("units", "head")},
    "settling": {"local": ("forward", "bias")},
}


def rename_roles(
    place: str, values: Mapping[str, Any], rule: LearningRule, roles: Collection[str], *, stacklevel: int = 2
) -> dict[str, Any]:
    """Return values by role, with the roles of version 1 replaced by those of now and a FutureWarning that shows them.

    Args:
        place: name of the setting, for messages.
        values: learning rates or other settings by role, pattern or parameter, as in `Learner.param_groups`.
        rule: the rule, which decides what the roles of version 1 were.
        roles: the roles that have parameters. An old role becomes those of its new ones that are among them.
        stacklevel: the caller that the warning names, as in `warnings.warn`: 2 is the caller of this function.

    Raises:
        MismatchError: for a role that is given by its old and by its new name.
    """
    table, found = _table_of(rule, roles), {}
    for name, value in values.items():
        for role in table.get(name, (name,)):
            if name in table and role in values:
                raise MismatchError(f"{place}: {name!r} is now {role!r}, and both are given; leave {name!r} out")
            found[role] = value
    old = [name for name in values if name in table]
    if old:
        listed = " and ".join(map(repr, old))
        warnings.warn(f"{place}: version 0.3 will not accept {listed}; give {found}", FutureWarning, stacklevel)
    return found


def _table_of(rule: LearningRule, roles: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return what each role that the rule had in version 1 is now, as far as there are parameters in it."""
    if rule.own_network is not None:
        return {old: new for old, new in OLD_TO_NEW["settling"].items() if set(new) <= set(roles)}
    above = "error from above" if rule.locality.global_error else "local"
    table = OLD_TO_NEW[above if rule.trains_units else "head alone"]
    return {old: tuple(role for role in new if role in roles) or new[:1] for old, new in table.items()}
