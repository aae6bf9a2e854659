"""THE REGISTRY: one import line per rule. A name in a recipe or on the command line is a name imported here."""

import inspect

from infohebb.rules.backprop import Backprop
from infohebb.rules.base import Diagnostics, LearningRule
from infohebb.rules.kernelized_bottleneck import KernelizedBottleneck
from infohebb.rules.last_layer import LastLayer
from infohebb.rules.layered import LayeredRule

__all__ = ["Backprop", "Diagnostics", "KernelizedBottleneck", "LastLayer", "LayeredRule", "LearningRule"]


def registry() -> dict[str, type[LearningRule]]:
    """Every rule imported above that can be built, by its name."""
    classes = {name: value for name, value in globals().items() if isinstance(value, type)}
    return {
        name: rule for name, rule in classes.items() if issubclass(rule, LearningRule) and not inspect.isabstract(rule)
    }
