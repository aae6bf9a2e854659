"""Where units and head lie in a model, and which parameters they hold."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn
from torch.nn import Parameter

from infohebb.networks.unit import Unit


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

    A walk without the names that `Module.parameters()` makes on its way: every step asks for each unit's.
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


def run_name(run: tuple[str, ...]) -> str:
    """Return the name of a unit: that of its module or, of a run of children, "parent.first:end"."""
    if len(run) == 1:
        return run[0]
    parent, _, first = run[0].rpartition(".")
    last = run[-1].rpartition(".")[2]
    inside = f"{first}:{int(last) + 1}" if first.isdigit() and last.isdigit() else f"{first}…{last}"
    return f"{parent}.{inside}" if parent else inside
