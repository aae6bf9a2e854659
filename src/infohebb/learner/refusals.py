"""What a learner refuses by name before anything is computed."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn import Parameter
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from infohebb.errors import EmptyBatchError, LabelError, MismatchError, is_number, unknown_name
from infohebb.learner.borders import is_autocast_on
from infohebb.learner.bounds import trainable
from infohebb.learner.plan import Plan, stacked_in
from infohebb.networks import Settling
from infohebb.networks.plain import LeakyIntegrator
from infohebb.rules.base import check_batch
from infohebb.rules.contract import LearningRule

BESIDE_SETTINGS = {"params", "role", "param_names"}  # in an optimizer's groups; the rest is of schedulers
BESIDE_SETTINGS |= {"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr"}


def check_rule_type(rule: object) -> None:
    """Raise MismatchError for what is no instance of a rule that a learner can drive."""
    if isinstance(rule, type) and issubclass(rule, nn.Module):
        raise MismatchError(f"rule={rule.__name__} is a class; give an instance, such as {rule.__name__}()")
    if not isinstance(rule, LearningRule):
        raise MismatchError(
            f"{type(rule).__name__} does not work with a Learner yet; it trains networks of ours, such as "
            "infohebb.MLP, by infohebb.train. A rule of your own derives from infohebb.LocalRule"
        )


def check_network(model: nn.Module, rule: LearningRule) -> None:
    """Raise MismatchError for a network that the rule cannot train, such as one that settles, or stacked ones."""
    name, network, own = type(rule).__name__, type(model).__name__, rule.own_network
    if own is not None and not isinstance(model, own):
        raise MismatchError(f"{name} trains a {own.__name__} network, not a {network}")
    if own is None and isinstance(model, Settling):
        raise MismatchError(
            f"{name} trains units that follow each other, and a {network} settles; take a rule of such networks, such "
            "as CorInfoMax, EquilibriumPropagation or PredictiveCoding"
        )
    if stacked_in(model) is not None and not rule.stacks:
        raise MismatchError(f"{name} trains one network at a time, not {stacked_in(model)} stacked ones")
    if "potential" not in rule.updated_buffers and any(isinstance(each, LeakyIntegrator) for each in model.modules()):
        raise MismatchError(
            f"{name} does not learn from time steps, in which the potentials of a {network} go on; take HSICMemory, or "
            "a network without leak"
        )


def check_left_out(rule: LearningRule, given: Mapping[str, Any]) -> None:
    """Raise MismatchError for arguments that a rule of own networks does not take; None is one that was not given."""
    for argument, value in given.items():
        if value is not None and rule.own_network is not None:
            name, own = type(rule).__name__, rule.own_network.__name__
            raise MismatchError(f"{name} trains a {own} as a whole; leave {argument}= out")


def check_exchange(model: nn.Module, before: LearningRule, after: LearningRule) -> None:
    """Raise MismatchError for a rule that cannot train what a learner of another rule trains."""
    check_network(model, after)
    if (before.own_network is None) != (after.own_network is None):
        raise MismatchError(
            f"one of {type(before).__name__} and {type(after).__name__} trains units, the other a network as a whole; "
            "make a new Learner"
        )


def check_optimizer(optimizer: object) -> None:
    """Raise MismatchError for what is no torch optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise MismatchError(
            f"{optimizer!r} is no torch optimizer; give one, such as torch.optim.SGD(learner.param_groups(), lr=0.1)"
        )


def check_settings_known(optimizer: Optimizer) -> None:
    """Raise UnknownNameError for a setting in a group of `param_groups` that the optimizer does not have."""
    for group in optimizer.param_groups:
        unknown = sorted(set(group) - set(optimizer.defaults) - BESIDE_SETTINGS) if "role" in group else []
        if unknown:
            raise unknown_name(f"setting of {type(optimizer).__name__}", unknown[0], optimizer.defaults)


def check_holds(optimizer: Optimizer, parameters: Iterable[Parameter]) -> None:
    """Raise MismatchError for an optimizer that steps none of the parameters."""
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if stepped.isdisjoint(map(id, parameters)):
        raise MismatchError("the optimizer holds no parameter of this learner; make it of learner.param_groups()")


def check_onset(rule: LearningRule, onset: object) -> None:
    """Raise MismatchError for what is neither True nor False, and for batches that are to be held."""
    if not isinstance(onset, bool):
        raise MismatchError(f"onset={onset!r}: give True for samples that have just come, False while they are held")
    if not onset and rule.consumes == "batch":
        raise MismatchError(f"onset=False: {type(rule).__name__} learns from batches, which are not held; leave it out")


def check_model(model: object) -> None:
    """Raise MismatchError for a model that hooks on submodules cannot reach."""
    if not isinstance(model, nn.Module):
        raise MismatchError(f"model is a {type(model).__name__}; give a torch.nn.Module")
    name = type(model).__name__
    if isinstance(model, torch._dynamo.OptimizedModule) or model._compiled_call_impl is not None:
        raise MismatchError(
            f"this {name} is compiled as a whole, and hooks on its parts would not be called; give the plain model "
            "and call learner.compile()"
        )
    for path, module in model.named_modules():
        if module._compiled_call_impl is not None:
            raise MismatchError(f"submodule {path} is compiled; give the plain module and call learner.compile()")
    if isinstance(model, (nn.DataParallel, DistributedDataParallel)):
        raise MismatchError(
            f"the model is wrapped in {name}; give the model itself, and wrap the learner: "
            "DistributedDataParallel(learner)"
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise MismatchError("a scripted model takes no hooks on its parts; give the model from before torch.jit")
    if any(isinstance(parameter, UninitializedParameter) for parameter in model.parameters()):
        raise MismatchError(f"this {name} has lazy layers without a shape; run one batch through it first")


def check_inputs(plan: Plan, inputs: Any, targets: Any) -> Tensor:
    """Return the batch's rows in the precision of the rule's arithmetic, or of its own network.

    Raises EmptyBatchError, LabelError, and MismatchError for what the model cannot take.
    """
    if torch.is_inference_mode_enabled():
        raise MismatchError("a step needs gradients inside units: leave torch.inference_mode()")
    plain = isinstance(inputs, Tensor)
    tensors = [inputs] if plain else [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
    if not tensors:
        raise MismatchError(f"inputs are a {type(inputs).__name__} without tensors; give (samples, ...) tensors")
    if "potential" in plan.rule.updated_buffers:
        _check_time_steps(plan.model)
    _check_targets(targets)
    rows = tensors[0]
    if rows.is_complex():
        raise MismatchError("inputs are complex numbers; give torch.view_as_real(x), or their absolute values")
    if len(tensors) > 1:
        _check_several(plan, len(tensors))
    if rows.dim() < 2 and rows.is_floating_point():
        raise MismatchError(f"inputs have shape {tuple(rows.shape)}; give (samples, features), or x.reshape(-1, 1)")
    if rows.dim() == 0:
        raise EmptyBatchError("inputs are a single number; give (samples, ...)")
    _check_dtype(plan, rows)
    check_batch(rows, targets, _outputs(plan, targets))
    if not rows.is_floating_point() or plan.rule.own_network is not None:
        return rows.detach()
    return rows.detach() if rows.dtype == torch.float64 else rows.detach().float()


def _check_targets(targets: Any) -> None:
    """Raise MismatchError, LabelError for what is no row of targets."""
    if not isinstance(targets, Tensor):
        raise MismatchError(f"targets are a {type(targets).__name__}; give a tensor, such as torch.as_tensor(y)")
    if targets.dim() == 0:
        raise LabelError("targets are a single number; give one label per sample, shape (m)")


def _check_time_steps(model: nn.Module) -> None:
    """Raise MismatchError for leaky integrators in eval mode, in which a call is not one time step."""
    if any(isinstance(module, LeakyIntegrator) and not module.training for module in model.modules()):
        raise MismatchError(
            f"this {type(model).__name__} is in eval mode, where a call presents samples for many time steps, from "
            "rest; call model.train() before a step"
        )


def _check_several(plan: Plan, count: int) -> None:
    """Raise MismatchError where a model of several inputs cannot be trained."""
    if plan.rule.own_network is not None:
        raise MismatchError(
            f"inputs are {count} tensors, and a {type(plan.model).__name__} takes one; give (samples, ...)"
        )
    if plan.rule.compares_inputs:
        raise MismatchError(
            f"{type(plan.rule).__name__} compares the model's inputs, of which there are {count} tensors; it takes "
            "models with one"
        )


def _outputs(plan: Plan, targets: Tensor) -> int:
    """Return the number of outputs; where it is not known, a number that any targets fit."""
    if plan.classes is not None:
        return plan.classes
    return targets.shape[-1] if targets.is_floating_point() else 2**31


def _check_dtype(plan: Plan, rows: Tensor) -> None:
    parameter = first_parameter(plan.model)
    if parameter is None or rows.dtype == parameter.dtype:
        return
    if rows.device.type != parameter.device.type:
        raise MismatchError(f"inputs are on {rows.device}, the model on {parameter.device}; move one: x.to(device)")
    if not rows.is_floating_point():
        if plan.rule.compares_inputs or not any(isinstance(m, nn.Embedding) for m in plan.model.modules()):
            raise MismatchError(f"inputs are {rows.dtype}, and the model has no embedding for them; give x.float()")
        return
    if is_autocast_on(rows.device.type):
        return
    otherwise = "" if isinstance(plan.model, Settling) else ", or run the step under torch.autocast"
    raise MismatchError(
        f"inputs are {rows.dtype}, the model's parameters {parameter.dtype}; give x.to({parameter.dtype}){otherwise}"
    )


def first_parameter(model: nn.Module) -> Tensor | None:
    """Return the first floating-point parameter of a model, without the names that `parameters()` makes on its way."""
    waiting = [model]
    while waiting:
        module = waiting.pop()
        for parameter in module._parameters.values():
            if parameter is not None and parameter.is_floating_point():
                return parameter
        waiting.extend(child for child in reversed(module._modules.values()) if child is not None)
    return None


def check_choice(name: str, choose: object) -> None:
    """Raise MismatchError for what should pick a tensor out of an output and is no function."""
    if choose is not None and not callable(choose):
        raise MismatchError(f"{name} is a {type(choose).__name__}: give a function of the output, or leave it out")


def check_scale(scale: object) -> None:
    """Raise MismatchError for a scale that is no positive number and no GradScaler."""
    if isinstance(scale, GradScaler) or (isinstance(scale, Tensor) and scale.numel() == 1):
        return
    if not is_number(scale) or not scale > 0:  # pyright: ignore[reportOperatorIssue]
        raise MismatchError(f"scale={scale!r}: give a number above 0, a tensor of one number, or a GradScaler")


def check_no_gradients(model: nn.Module, rule: nn.Module) -> None:
    """Raise MismatchError for a parameter that holds a gradient from before."""
    for prefix, module in (("", model), ("rule.", rule)):
        if any(parameter.grad is not None for parameter in trainable(module, [""])):
            named = ((name, p) for name, p in module.named_parameters() if p.requires_grad and p.grad is not None)
            raise MismatchError(
                f"{prefix}{next(named)[0]} holds a gradient from before: call learner.zero_grad() first (an optimizer "
                "clears its own parameters only), or backward(..., accumulate=True) to add to it"
            )
