"""Promises on what lies above a layer: weights not known below, errors not heard there, and no waiting for either."""

import contextlib
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from infohebb.rules.base import Signals
from infohebb.testing.cases import Build, close, largest


def weights_are_not_transported(build: Build) -> None:
    """A weight of another layer, changed so that no activity changes, may matter only where `weight_transport` is
    declared, and does. Layers of the rule itself, such as local classifiers, count as others."""
    needed = _downstream_matters(build, silent=True)
    declared = build().rule.weight_transport
    assert declared or not needed, f"the update of {needed} depends on a weight downstream: weight transport"
    assert needed or not declared, "weight_transport is declared, but no update needs it"


def errors_are_not_global(build: Build) -> None:
    """A change downstream may matter only where `global_error` is declared, and does."""
    needed = _downstream_matters(build, silent=False)
    declared = build().rule.global_error
    assert declared or not needed, f"the update of {needed} depends on what happens downstream"
    assert needed or not declared, "global_error is declared, but no update needs it"


def learning_does_not_wait(build: Build) -> None:
    """A layer has learned before the layer above it is reached, unless `update_locking` is declared, and then it is so.

    Seen where the layer above fails: what lies below has its gradients, or has none.
    """
    waiting = _waits_for_the_layer_above(build)
    declared = build().rule.update_locking
    assert declared or not waiting, f"{waiting} has not learned when the layer above it is reached: update locking"
    assert waiting or not declared, "update_locking is declared, but every layer learns before the next one is reached"


class _ReachedError(Exception):
    """The layer above is reached."""


def _waits_for_the_layer_above(build: Build) -> str | None:
    """The first layer that a network alone has without its gradients when the next layer is reached."""
    layers = list(build().received())
    for below, above in pairwise(layers):
        case = build()
        case.learn()  # what a rule waits for is past
        module = case.layer(above)
        reached = "forward" if above == "readout" else "respond"
        setattr(module, reached, _fail)
        for parameter in case.parameters().values():
            parameter.grad = None
        with contextlib.suppress(_ReachedError):
            case.learn(seed=2)
        learns = {id(parameter) for parameter in case.learning()}
        own = [parameter for parameter in case.layer(below).parameters() if id(parameter) in learns]
        if any(parameter.grad is None for parameter in own):
            return below
    return None


def _fail(*_: object, **__: object) -> Tensor:
    raise _ReachedError


def _downstream_matters(build: Build, *, silent: bool) -> str | None:
    """The first parameter whose update changes with a weight above it, in this batch or in the one before.

    A silent change leaves all activities as they are.
    """
    case = build()
    signals = case.learn_twice().signals
    gradients = case.gradients()
    received = build().received()
    changes = [*_above(received), *(_beside(signals, received) if silent else ())]
    for layer, pre, below in changes:
        changed = build()
        with torch.no_grad():
            for parameter in changed.layer(layer).parameters() if not silent else ():
                parameter += torch.randn_like(parameter)
            if silent:
                module = changed.layer(layer)
                weight = module.get_parameter("weight").flatten(1)  # a view
                weight += _silent_change(weight, seen_by(module, pre))
        changed.learn_twice()
        after = changed.gradients()
        for name in gradients:
            if name.startswith(below) and not close(gradients[name], after[name], largest(gradients)):
                return name
    return None


def _above(received: Signals) -> Iterator[tuple[str, Tensor, tuple[str, ...]]]:
    """Each layer of the network, what it receives, and how the names of parameters below it start."""
    names = list(received)
    for position, name in enumerate(names[1:], 1):
        yield name, received[name], tuple(f"{layer}." for layer in names[:position])


def _beside(signals: dict[str, Signals], received: Signals) -> Iterator[tuple[str, Tensor, tuple[str, ...]]]:
    """The same for layers of the rule, where a silent change exists: all layers of the network may know them."""
    for layer, given in signals.items():
        if layer.startswith("rule.") and "pre" in given and given["pre"].shape[1] > len(given["pre"]):
            yield layer, given["pre"], tuple(f"{other}." for other in received)


def seen_by(layer: nn.Module, pre: Tensor) -> Tensor:
    """What each weight of a row sees: of a map, a row for each sample and position."""
    geometry = getattr(layer, "geometry", None)
    if geometry is None:
        return pre
    patches = functional.unfold(pre, geometry.kernel, padding=geometry.padding, stride=geometry.stride)
    return patches.transpose(1, 2).flatten(0, 1)


def _silent_change(weight: Tensor, pre: Tensor) -> Tensor:
    """A random change of the weight that this batch's inputs cannot see."""
    assert pre.shape[1] > len(pre), "the layer is too narrow for a silent change"
    onto_inputs = torch.linalg.pinv(pre) @ pre
    return torch.randn_like(weight) @ (torch.eye(len(onto_inputs), dtype=weight.dtype) - onto_inputs)


PROMISES = (weights_are_not_transported, errors_are_not_global, learning_does_not_wait)
