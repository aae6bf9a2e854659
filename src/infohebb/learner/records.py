"""What each weight layer had at hand in one step: its input, the error at its output, and the rule's two factors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from infohebb.errors import MismatchError
from infohebb.learner.plan import Plan, stacked_in
from infohebb.learner.refusals import check_inputs
from infohebb.learner.senders import Recording
from infohebb.learner.walk import Pass
from infohebb.rules.contract import LocalError


class LayerRecord(NamedTuple):
    """One weight layer in one step.

    `input`: what it received, (m × ...). `output`: its preactivation; None where the rule states input and error
    itself, row by row, of samples that are there or are kept. `error`: dL/d(output), of the same shape; None where the
    rule sent none. `unit`: the name of its unit, None in the head. `local`: the LocalError of that unit, with
    `third_factor`, `post` and `error`, which is that at the preactivation where the rule states it row by row; None for
    rules whose error comes from above. `bias`: whether the bias learns from the error. Of a layer that was called
    several times, the calls follow each other along the first axis.
    """

    input: Tensor
    output: Tensor | None
    error: Tensor | None
    unit: str | None
    local: LocalError | None
    bias: bool = True

    @property
    def third_factor(self) -> Tensor | None:
        """The signal that the unit's neurons share: (m × groups), (m × m) or (m × classes)."""
        return None if self.local is None else self.local.third_factor

    @property
    def post(self) -> Tensor | None:
        """Each neuron's own factor."""
        return None if self.local is None else self.local.post


RECORDED = (nn.Linear, nn.modules.conv._ConvNd)


def record_step(plan: Plan, inputs: Any, targets: Tensor, *, onset: bool = True) -> dict[str, LayerRecord]:
    """Run one step of a plan that nobody else uses, and return a record for each Linear and convolution in it.

    Raises MismatchError for stacked networks.
    """
    if stacked_in(plan.model) is not None:
        raise MismatchError("a record is of one network; give a Learner of unstack(model, place)")
    sender, received = Recording(), {}
    rows, owners = check_inputs(plan, inputs, targets), _owners(plan)

    def restart(*_: object) -> None:
        """Forget a run that came before: a rule may run the model once more to check it."""
        for calls in (*received.values(), *sender.outputs.values()):
            calls.clear()

    handles = [plan.model.register_forward_pre_hook(restart)]
    try:
        for name, module in plan.model.named_modules():
            if isinstance(module, RECORDED) and name in owners:
                received[name] = []
                handles.append(module.register_forward_hook(_keeping(name, received, sender)))
        plan.rule.backward(Pass(plan, inputs, len(targets), sender, onset=onset), rows, targets)
    finally:
        for handle in handles:
            handle.remove()
    records = {name: _record(name, owners[name], received, sender) for name in received if received[name]}
    given = {
        name: LayerRecord(each.pre, None, each.error, owners.get(name), each.local, each.bias)
        for name, each in sender.given.items()
    }
    return {**records, **given}


def _owners(plan: Plan) -> dict[str, str | None]:
    """Return the unit of each module that lies in one, and None for those of the head."""
    owners: dict[str, str | None] = {}
    parts = [(bounds.unit.name, bounds.modules) for bounds in plan.selection.units]
    for owner, modules in [*parts, (None, plan.selection.head)]:
        for top in modules:
            inside = [name for name, _ in plan.model.get_submodule(top).named_modules()]
            owners |= {f"{top}.{name}" if name else top: owner for name in inside}
    if not parts:
        owners = {name: owners.get(name) for name, _ in plan.model.named_modules()}
    return owners


def _keeping(name: str, received: dict[str, list[Tensor]], sender: Recording) -> Callable[..., Tensor]:
    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        del module
        received[name].append(args[0].detach().clone())
        sender.outputs.setdefault(name, []).append(output)
        return output.clone() if output.requires_grad else output  # what follows may work in place

    return keep


def _record(name: str, unit: str | None, received: dict[str, list[Tensor]], sender: Recording) -> LayerRecord:
    errors, local = sender.errors.get(name), sender.units.get(unit or "")
    return LayerRecord(
        torch.cat(received[name]),
        torch.cat([output.detach() for output in sender.outputs[name]]),
        torch.cat(errors) if errors else None,
        unit,
        local[0] if local and len(local) == 1 else None,
    )
