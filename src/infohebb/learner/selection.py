"""From names, patterns, types or modules to the units and the head of a network."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn import Parameter

from infohebb.errors import MismatchError, unknown_name
from infohebb.learner.suggestion import of_sequential, suggest_units
from infohebb.networks import DivisiveNorm as BlockDivisiveNorm
from infohebb.networks.plain import DivisiveNorm
from infohebb.networks.unit import MarksUnits, Unit, UnitMark

Units = Sequence[str | type[nn.Module] | nn.Module] | str | type[nn.Module] | nn.Module | None
Head = str | Sequence[str] | bool | None
NORMS = (DivisiveNorm, BlockDivisiveNorm)
SLICE = re.compile(r"(?:(.+)\.)?(\d*):(\d*)")


@dataclass(frozen=True)
class Bounds:
    """Where a unit lies: names of its modules in order, and of the module whose output the next unit receives."""

    unit: Unit
    modules: tuple[str, ...]
    output: str

    @property
    def first(self) -> str:
        """Name of the module that receives the unit's input."""
        return self.modules[0]

    @property
    def last(self) -> str:
        """Name of the module whose output is the unit's activity."""
        return self.modules[-1]

    def parameters(self, model: nn.Module) -> list[Parameter]:
        """Return the unit's parameters that are not frozen, each once."""
        return trainable(model, self.modules)


@dataclass(frozen=True)
class Selection:
    """The units of a network, and the names of the modules of its head (none: ())."""

    units: tuple[Bounds, ...]
    head: tuple[str, ...]


def trainable(model: nn.Module, names: Iterable[str]) -> list[Parameter]:
    """Return the parameters of those modules that are not frozen, each once.

    In a quarter of the time of `Module.parameters()`: a step asks for each unit's.
    """
    found: dict[int, Parameter] = {}
    waiting = [model.get_submodule(name) for name in reversed(tuple(names))]
    while waiting:
        module = waiting.pop()
        for parameter in module._parameters.values():
            if parameter is not None and parameter.requires_grad:
                found[id(parameter)] = parameter
        if module._modules:
            waiting.extend(child for child in reversed(module._modules.values()) if child is not None)
    return list(found.values())


def select(model: nn.Module, units: Units, head: Head, *, needs_units: bool = True) -> Selection:
    """Return the units and the head that a user asked for, or those that the network itself tells.

    Raises MismatchError, UnknownNameError.
    """
    names = head_names(model, head)
    if units is None:
        runs, marks = _own_units(model, names, needs_units=needs_units)
    else:
        runs, marks = _named_runs(model, units, names), ()
    if head is None and not names and runs:
        names = _last_linear(model)
    check_apart(runs, names)
    check_ends(model, runs)
    found = [_bounds(model, place, run, mark) for place, (run, mark) in enumerate(_paired(runs, marks))]
    selection = Selection(tuple(found), names)
    check_parameters(model, selection, everything=units is not None or needs_units)
    return selection


def _paired(runs: list[tuple[str, ...]], marks: Sequence[UnitMark]) -> Iterator[tuple[tuple[str, ...], Any]]:
    return zip(runs, marks or [None] * len(runs), strict=True)


def _bounds(model: nn.Module, place: int, run: tuple[str, ...], mark: UnitMark | None) -> Bounds:
    if mark is not None:
        norm = None if mark.norm is None else model.get_submodule(mark.norm)
        unit = Unit(mark.name, place, mark.activity_shape, mark.output_shape, norm)
        return Bounds(unit, (mark.activity,), mark.output)
    return Bounds(Unit(run_name(run), place, divisive_norm=_norm_after(model, run[-1])), run, run[-1])


def run_name(run: tuple[str, ...]) -> str:
    """Return the name of a unit: that of its module or, of a run of children, "parent.first:end"."""
    if len(run) == 1:
        return run[0]
    parent, _, first = run[0].rpartition(".")
    last = run[-1].rpartition(".")[2]
    inside = f"{first}:{int(last) + 1}" if first.isdigit() and last.isdigit() else f"{first}…{last}"
    return f"{parent}.{inside}" if parent else inside


def _norm_after(model: nn.Module, name: str) -> nn.Module | None:
    """Return the divisive norm that follows a module in its nn.Sequential, or in those around it."""
    parent, _, child = name.rpartition(".")
    container = model.get_submodule(parent)
    if not isinstance(container, nn.Sequential):
        return None
    place = list(container._modules).index(child)
    following = [module for module in list(container)[place + 1 :] if not isinstance(module, nn.Flatten)]
    if following:
        return following[0] if isinstance(following[0], NORMS) else None
    return _norm_after(model, parent) if parent else None


def head_names(model: nn.Module, head: Head) -> tuple[str, ...]:
    """Return the names of the head's modules; of None those that the network or its order tells."""
    if head is False:
        return ()
    if head is None or head is True:
        return (model.marked_head(),) if isinstance(model, MarksUnits) else _last_linear(model)
    names = (head,) if isinstance(head, str) else tuple(head)
    known = dict(model.named_modules())
    for name in names:
        if not isinstance(name, str):
            raise MismatchError(f"head={head!r}: give a name, a list of names, None for the last Linear, or False")
        if name not in known or not name:
            raise unknown_name("head", name, [key for key in known if key])
    return names


def _last_linear(model: nn.Module) -> tuple[str, ...]:
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise MismatchError(
            f"{type(model).__name__} has no nn.Linear to take for its head; name it by head=, or give head=False"
        )
    return (linear[-1],)


def _own_units(
    model: nn.Module, head: tuple[str, ...], *, needs_units: bool
) -> tuple[list[tuple[str, ...]], tuple[UnitMark, ...]]:
    if isinstance(model, MarksUnits):
        marks = tuple(model.marked_units())
        return [(mark.activity,) for mark in marks], marks
    if isinstance(model, nn.Sequential):
        return of_sequential(model, head), ()
    if not needs_units:
        return [], ()
    suggested = repr(suggest_units(model))
    suggested = suggested if len(suggested) <= 140 else f"{suggested[:140].rpartition(',')[0]}, …]"
    raise MismatchError(
        f"give the units of this {type(model).__name__}, for example units={suggested} (from "
        "infohebb.suggest_units(model))"
    )


def _named_runs(model: nn.Module, units: Units, head: tuple[str, ...]) -> list[tuple[str, ...]]:
    asked = [units] if isinstance(units, (str, type, nn.Module)) else list(units or ())
    if not asked:
        raise MismatchError("units=[] names no unit; give at least one, or take LastLayer() to train the head alone")
    runs: dict[tuple[str, ...], None] = {}
    for item in asked:
        for run in _runs_of(model, item, head):
            runs[run] = None
    return list(runs)


def _runs_of(model: nn.Module, item: Any, head: tuple[str, ...]) -> list[tuple[str, ...]]:
    modules = {name: module for name, module in model.named_modules() if name}
    if isinstance(item, str):
        match = SLICE.fullmatch(item)
        found = _slices(model, modules, *match.groups()) if match else _matching(modules, item, head)
        if not found:
            raise unknown_name("unit", item, [name for name, module in modules.items() if _has_parameters(module)])
        return found
    if isinstance(item, type) and issubclass(item, nn.Module):
        found = [(name,) for name, module in modules.items() if isinstance(module, item) and name not in head]
        if not found:
            raise MismatchError(f"units: {type(model).__name__} has no {item.__name__}")
        return found
    if isinstance(item, nn.Module):
        return [_run_of_module(model, modules, item)]
    raise MismatchError(f"units: {item!r} is no name, pattern, module type or module")


def _matching(modules: dict[str, nn.Module], pattern: str, head: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the modules of that name or, with `*` and `**` in it, those that have parameters and are not the head."""
    if "*" not in pattern:
        if pattern in modules and not _has_parameters(modules[pattern]):
            raise MismatchError(f"unit {pattern!r} has no parameters to train; leave it out")
        return [(pattern,)] if pattern in modules else []
    expression = as_expression(pattern)
    return [
        (name,)
        for name, module in modules.items()
        if expression.fullmatch(name) and _has_parameters(module) and name not in head
    ]


def as_expression(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern: `*` stands for one name component, `**` for any number."""
    *outer, last = [re.escape(part).replace(r"\*", "[^.]*") for part in pattern.replace("**", "\0").split(".")]
    inner = "".join(r"(?:[^.]+\.)*" if word == re.escape("\0") else rf"{word}\." for word in outer)
    return re.compile(inner + (".+" if last == re.escape("\0") else last))


def _slices(
    model: nn.Module, modules: dict[str, nn.Module], parent: str | None, start: str, end: str
) -> list[tuple[str, ...]]:
    """Return the runs of children that "parent.start:end" names, in each nn.Sequential that parent matches."""
    parents = [""] if parent is None else [n for n in modules if as_expression(parent).fullmatch(n)]
    found = []
    for name in parents:
        container = model.get_submodule(name)
        if not isinstance(container, nn.Sequential):
            raise MismatchError(f"unit '{name}.{start}:{end}': only an nn.Sequential has runs of children")
        keys = list(container._modules)
        chosen = keys[int(start or 0) : int(end) if end else None]
        if chosen:
            found.append(tuple(f"{name}.{key}" if name else key for key in chosen))
    return found


def _run_of_module(model: nn.Module, modules: dict[str, nn.Module], item: nn.Module) -> tuple[str, ...]:
    by_identity = {id(module): name for name, module in modules.items()}
    if id(item) in by_identity:
        return (by_identity[id(item)],)
    if isinstance(item, nn.Sequential) and len(item):  # model[0:3] is a new Sequential of the same children
        for parent, container in [("", model), *modules.items()]:
            if isinstance(container, nn.Sequential) and (keys := _window(container, list(item))):
                return tuple(f"{parent}.{key}" if parent else key for key in keys)
    raise MismatchError(f"units: this {type(item).__name__} is no submodule of the {type(model).__name__}")


def _window(container: nn.Sequential, wanted: list[nn.Module]) -> list[str]:
    """Return the keys of consecutive children that are the modules wanted, in that order; none if there are none."""
    keys, children = list(container._modules), list(container)
    for start in range(len(children) - len(wanted) + 1):
        if all(one is other for one, other in zip(children[start:], wanted, strict=False)):
            return keys[start : start + len(wanted)]
    return []


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


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
