"""Which units a network could have: those of an nn.Sequential, and a suggestion for any other module."""

from torch import nn

from infohebb.learner.layers import is_weight_layer
from infohebb.networks import DivisiveNorm as BlockDivisiveNorm
from infohebb.networks.plain import DivisiveNorm, Dropout

CLOSES = (DivisiveNorm, BlockDivisiveNorm, Dropout, nn.modules.dropout._DropoutNd)
CONTAINERS = (nn.Sequential, nn.ModuleList)


def of_sequential(model: nn.Sequential, head: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the units of an nn.Sequential, as runs of its children's names.

    Each weight layer, or child that holds one, begins a unit, with what follows it up to the next weight layer, a
    divisive norm or dropout. A child with parameters outside of those is a unit of its own; the head is none.
    """
    runs: list[list[str]] = []
    open_unit = False
    for name, child in model._modules.items():  # an activation that several places share is listed at each
        if child is None:
            continue
        if any(each == name or each.startswith(f"{name}.") for each in head) or isinstance(child, CLOSES):
            open_unit = False
        elif any(is_weight_layer(module) for module in child.modules()) or (
            not open_unit and next(child.parameters(), None) is not None
        ):
            runs.append([name])
            open_unit = True
        elif open_unit:
            runs[-1].append(name)
    return [tuple(_without_reshaping(model, run)) for run in runs]


def _without_reshaping(model: nn.Sequential, run: list[str]) -> list[str]:
    """A unit's activity keeps its shape: a flatten at the end belongs to what follows."""
    while len(run) > 1 and isinstance(model.get_submodule(run[-1]), (nn.Flatten, nn.Unflatten)):
        run = run[:-1]
    return run


def suggest_units(model: nn.Module) -> list[str]:
    """Return names and patterns that cut a network into units, all but its last Linear: a value for `units`.

    A child that is a list or sequence of modules gives one unit per entry, "layers.*"; any other child that has
    parameters is one unit. Look at the result: what belongs together only you can tell.
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    head = linear[-1] if linear else ""
    if isinstance(model, nn.Sequential):
        return [_slice(model, run) for run in of_sequential(model, (head,))]
    found = _inside(model, "", head)
    return found or [name for name, child in model.named_children() if next(child.parameters(), None) is not None]


def _slice(model: nn.Sequential, run: tuple[str, ...]) -> str:
    keys = list(model._modules)
    first = keys.index(run[0])
    return run[0] if len(run) == 1 else f"{first}:{first + len(run)}"


def _inside(module: nn.Module, prefix: str, head: str) -> list[str]:
    found: list[str] = []
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if path == head or next(child.parameters(), None) is None:
            continue
        with_parameters = [key for key, each in child.named_children() if next(each.parameters(), None) is not None]
        if head.startswith(f"{path}."):
            found += _inside(child, f"{path}.", head)
        elif isinstance(child, CONTAINERS) and len(with_parameters) > 1 and not _one_layer(child):
            found.append(f"{path}.*")
        else:
            found.append(path)
    return found


def _one_layer(child: nn.Module) -> bool:
    """Whether a sequence is one weight layer with norms and activations, which learn together."""
    weights = [module for module in child.modules() if is_weight_layer(module)]
    return isinstance(child, nn.Sequential) and len(weights) <= 1
