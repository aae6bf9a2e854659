"""What a selection of units and head is refused for."""

from collections.abc import Iterable

from torch import nn

from infohebb.errors import MismatchError
from infohebb.learner.bounds import Selection, run_name, trainable


def check_apart(runs: Iterable[tuple[str, ...]], head: tuple[str, ...]) -> None:
    """Raise MismatchError for a unit inside another one or inside the head, and for a head inside a unit."""
    owner = {name: run_name(run) for run in runs for name in run}
    if len(owner) < sum(len(run) for run in runs):
        twice = next(name for run in runs for name in run if owner[name] != run_name(run))
        raise MismatchError(f"module {twice} belongs to two units; let each module belong to one")
    for name, unit in owner.items():
        above = [name[:at] for at in range(len(name)) if name[at] == "."]
        if outer := next((other for other in above if other in owner), None):
            raise MismatchError(f"unit {unit} lies inside unit {owner[outer]}; name one of them, not both")
        if any(other in head for other in above) or name in head:
            raise MismatchError(f"unit {unit} lies inside the head {', '.join(head)}; leave it out of units or head")
    for name in head:
        above = [name[:at] for at in range(len(name)) if name[at] == "."]
        if outer := next((other for other in above if other in owner), None):
            raise MismatchError(
                f"the head {name} lies inside unit {owner[outer]}; split that unit, name another head=, "
                "or give head=False for none"
            )


def check_ends(model: nn.Module, runs: Iterable[tuple[str, ...]]) -> None:
    """Raise MismatchError for a run in which its first or last module occurs twice: where it ends is not known then."""
    for run in runs:
        modules = [model.get_submodule(name) for name in run]
        for end in (modules[0], modules[-1]):
            if sum(module is end for module in modules) > 1:
                raise MismatchError(
                    f"unit {run_name(run)} holds the same {type(end).__name__} twice, so where it begins or ends is "
                    "not known; give each place a module of its own"
                )


def check_parameters(model: nn.Module, selection: Selection, *, everything: bool) -> None:
    """Raise MismatchError unless each trainable parameter belongs to exactly one unit or to the head."""
    owners: dict[int, str] = {}
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    parts = [(f"unit {bounds.unit.name}", bounds.parameters(model)) for bounds in selection.units]
    for owner, parameters in [*parts, ("the head", trainable(model, selection.head))]:
        for parameter in parameters:
            other = owners.setdefault(id(parameter), owner)
            if other != owner:
                raise MismatchError(
                    f"{named[id(parameter)]} is shared by {other} and {owner}; a weight learns in one place: "
                    "untie it, or freeze it with requires_grad_(False)"
                )
    missing = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in owners]
    if everything and missing and "." not in missing[0]:
        raise MismatchError(
            f"{missing[0]} is a parameter of the model itself, which no unit can hold; move it into a submodule that "
            "is a unit, or freeze it with requires_grad_(False)"
        )
    if everything and missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise MismatchError(
            f"no unit holds {', '.join(missing[:3])}{more}; add their modules to units or head, or freeze them with "
            "requires_grad_(False)"
        )
