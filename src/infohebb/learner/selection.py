"""From names, patterns, types or modules to the units and the head of a network."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import nn

from infohebb.errors import MismatchError, unknown_name
from infohebb.learner.bounds import Bounds, Selection, run_name
from infohebb.learner.selection_checks import check_apart, check_ends, check_parameters
from infohebb.learner.suggestion import of_sequential, suggest_units
from infohebb.networks import DivisiveNorm as BlockDivisiveNorm
from infohebb.networks.plain import DivisiveNorm
from infohebb.networks.unit import MarksUnits, Unit, UnitMark

Units = Sequence[str | type[nn.Module] | nn.Module] | str | type[nn.Module] | nn.Module | None
Head = str | Sequence[str] | bool | None
NORMS = (DivisiveNorm, BlockDivisiveNorm)
SLICE = re.compile(r"(?:(.+)\.)?(\d*):(\d*)")


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
    if needs_units and not runs:
        raise MismatchError(f"this {type(model).__name__} has no unit beside its head; take LastLayer() to train that")
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
        unit = Unit(mark.name, place, mark.activity_shape, mark.output_shape, norm, mark.stacked)
        return Bounds(unit, (mark.activity,), mark.output)
    return Bounds(Unit(run_name(run), place, divisive_norm=_norm_after(model, run[-1])), run, run[-1])


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
    if isinstance(head, (nn.Module, type)) or not isinstance(head, Iterable):
        raise MismatchError(
            f"head is a {type(head).__name__}: give the name of a submodule, a list of names, None for the last "
            "Linear, or False"
        )
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
    names = suggest_units(model)
    if not names:
        raise MismatchError(f"this {type(model).__name__} has no unit beside its head; take LastLayer() to train that")
    suggested = repr(names)
    suggested = suggested if len(suggested) <= 140 else f"[{names[0][:100]!r}, …]"
    raise MismatchError(
        f"give the units of this {type(model).__name__}, for example units={suggested} (from "
        "infohebb.suggest_units(model))"
    )


def _named_runs(model: nn.Module, units: Units, head: tuple[str, ...]) -> list[tuple[str, ...]]:
    if isinstance(units, (set, frozenset)) or not isinstance(units, (str, type, nn.Module, Iterable)):
        raise MismatchError(
            f"units is a {type(units).__name__}: give a name, a pattern, a module type or a module, or a list of them"
        )
    asked = [units] if isinstance(units, (str, type, nn.Module)) else list(units)
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
