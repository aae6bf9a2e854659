"""Promises on other units: weights not known, errors not heard, and no waiting for what lies above."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from infohebb.rules.contract import product_of_factors
from infohebb.testing.contract.cases import Build, Case, Part, close, first_difference, submodule
from infohebb.testing.contract.probing import Probe, draw_parameters, probe_units, with_third_factor_of
from infohebb.testing.contract.tracing import SMALL, received_in
from infohebb.training.seeding import seeded


def weights_are_not_transported(build: Build) -> None:
    """A weight elsewhere, changed so that no activity changes, may matter only where `weight_transport` is declared.

    And there it does. The rule's own parameters, such as those of local classifiers, count as elsewhere: with the third
    factor held fixed, errors do not depend on them.
    """
    needed = _unit_that_knows_weights(build)
    declared = build().rule.locality.weight_transport
    assert declared or not needed, f"the update of {needed} depends on a weight elsewhere: weight transport"
    assert needed or not declared, "weight_transport is declared, but no update needs it"


def errors_are_not_global(build: Build) -> None:
    """A change downstream may matter only where `global_error` is declared, and there it does."""
    needed = _unit_that_hears_downstream(build)
    declared = build().rule.locality.global_error
    assert declared or not needed, f"the update of {needed} depends on what happens downstream: global error"
    assert needed or not declared, "global_error is declared, but no update needs it"


def learning_does_not_wait(build: Build) -> None:
    """A unit has learned before the next is reached, unless `update_locking` is declared, and then it is so.

    Seen where the next unit fails: what lies below has its gradients, or has none.
    """
    waiting = _unit_that_waits(build)
    declared = build().rule.locality.update_locking
    assert declared or not waiting, f"{waiting} has not learned when the unit above it is reached: update locking"
    assert waiting or not declared, "update_locking is declared, but every unit learns before the next one is reached"


def _unit_that_knows_weights(build: Build) -> str | None:
    """Return a parameter, or a unit, whose update changes with weights elsewhere that no activity shows."""
    case, received = build(), layer_inputs(build())
    case.step_twice()
    gradients = case.gradients()
    for part in case.parts():
        changed = build()
        if _change_silently(changed, part, received):
            changed.step_twice()
            elsewhere = frozenset(gradients) - part.parameters - _of_rule(gradients)
            if different := first_difference(gradients, changed.gradients(), elsewhere):
                return different
    return _unit_that_knows_the_rules_weights(build)


def _of_rule(gradients: dict[str, Tensor]) -> set[str]:
    return {name for name in gradients if name.startswith("rule.")}


def _unit_that_knows_the_rules_weights(build: Build) -> str | None:
    found: list[str] = []

    def look(probe: Probe) -> None:
        before, after = probe.error(), probe.error(change=draw_parameters)
        if before is not None and after is not None:
            scale = float(before.error.abs().max())
            if not close(with_third_factor_of(before, after), product_of_factors(before), scale):
                found.append(probe.unit.name)

    case = build()
    if any(True for _ in case.rule.parameters()):
        probe_units(case, look)
    return found[0] if found else None


def layer_inputs(case: Case) -> dict[str, Tensor]:
    """Return what each Linear and convolution of the network receives in two steps, by its name."""
    with received_in(case) as received:
        case.step_twice()
    return received


def _change_silently(case: Case, part: Part, received: dict[str, Tensor]) -> bool:
    """Change weights of a part in directions that its inputs do not show; return whether there are such."""
    names = [name for name in received if f"model.{name}.weight" in part.parameters]
    changed = False
    with seeded(5), torch.no_grad():
        for name in names:
            module = submodule(case, name)
            seen = seen_by(module, received[name])
            if seen is None or int(torch.linalg.matrix_rank(seen, rtol=SMALL)) == seen.shape[1]:
                continue
            weight = module.get_parameter("weight").flatten(1)  # a view
            onto_inputs = torch.linalg.pinv(seen, rtol=SMALL) @ seen
            weight += torch.randn_like(weight) @ (torch.eye(len(onto_inputs), dtype=weight.dtype) - onto_inputs)
            changed = True
    return changed


def seen_by(module: nn.Module, x: Tensor) -> Tensor | None:
    """Return what each row of a layer's weight sees, a row for each sample and position; None for other layers."""
    if isinstance(module, nn.Linear):
        return x.flatten(0, -2)
    if not isinstance(module, nn.Conv2d) or module.groups > 1 or isinstance(module.padding, str):
        return None
    patches = functional.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)
    return patches.transpose(1, 2).flatten(0, 1)


def _unit_that_hears_downstream(build: Build) -> str | None:
    """Return a parameter below a part whose update changes when the part's parameters do, now or a batch before."""
    case = build()
    case.step_twice()
    gradients = case.gradients()
    for part, below in _with_what_lies_below(case):
        changed = build()
        with seeded(6), torch.no_grad():
            for name, parameter in changed.learner.named_parameters():
                if name in part.parameters:
                    parameter += torch.randn_like(parameter)
        changed.step_twice()
        if different := first_difference(gradients, changed.gradients(), below):
            return different
    return None


def _with_what_lies_below(case: Case) -> Iterator[tuple[Part, frozenset[str]]]:
    below: frozenset[str] = frozenset()
    for part in case.parts():
        if below:
            yield part, below
        below |= part.parameters


class ReachedError(Exception):
    """The unit above is reached."""


def _fail(*_: object) -> None:
    raise ReachedError


def _unit_that_waits(build: Build) -> str | None:
    """Return the first parameter that has no gradient yet when the unit above its own is reached."""
    for part, below in _with_what_lies_below(build()):
        case = build()
        case.step()  # what a rule waits for is past
        handle = submodule(case, part.modules[0]).register_forward_pre_hook(_fail)
        with contextlib.suppress(ReachedError):
            case.step(seed=2)
        handle.remove()
        missing = sorted((below & case.trained()) - case.gradients().keys())
        if missing:
            return missing[0]
    return None


PROMISES = (weights_are_not_transported, errors_are_not_global, learning_does_not_wait)
