"""train on any nn.Module: a Learner and fit, from the settings of `train`."""

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from infohebb.errors import MismatchError, UnknownKeyError, UnknownNameError, WrongTypeError, is_number
from infohebb.learner import Learner
from infohebb.rules import base, contract
from infohebb.training.batches import ArrayBatches, Batches, Home, as_batches, is_loader
from infohebb.training.callbacks import Alignment, Callback, Checkpoint, Monitor, Progress
from infohebb.training.callbacks.base import State
from infohebb.training.compiling import SAME_DRAWS, every_shape_compiled
from infohebb.training.devices import pick_device
from infohebb.training.evaluation import home_of, is_plain
from infohebb.training.fit_checks import check_scheduler, check_several_classes, choose_optimizer
from infohebb.training.fitting import Fitting, Settings
from infohebb.training.optimizers import FUSED, check_options, check_step, optimizer_class
from infohebb.training.sampling import BATCH, SamplingConfig, batch_size
from infohebb.training.seeding import seeded
from infohebb.training.sources import hold_out_validation
from infohebb.training.statistics import History
from infohebb.training.wording import cut, short

REFUSED = {  # settings of `train` that networks of version 1 alone have: their default, and what to do instead
    "powers": ((), "infohebb.fit with scheduler=torch.optim.lr_scheduler.ExponentialLR"),
    "factor_every": (None, "infohebb.fit with a StepLR as scheduler and scheduler_per='step'"),
    "cuda_graphs": (False, "compiled=True alone"),
}
NEW = ("units", "head", "scheduler")  # settings that only a Learner has


def goes_by_learner(network: object, rule: object) -> bool:
    """Whether `train` makes a Learner: the network is a plain module, and the rule works on any."""
    if not isinstance(network, nn.Module) or not isinstance(rule, contract.LearningRule) or not is_plain(network):
        return False
    return not (isinstance(rule, base.LearningRule) and isinstance(network, rule.network_type))


def rule_of_own_network(given: Mapping[str, Any]) -> base.LearningRule:
    """Return the rule of a training without a Learner.  Raises MismatchError for what only a Learner can take."""
    network, rule = type(given["network"]).__name__, given["rule"]
    for name in NEW:
        if given[name] is not None:
            raise MismatchError(
                f"{name}={short(given[name], 60)} is for plain modules, not for a {network} by {type(rule).__name__}; "
                "leave it out"
            )
    if isinstance(rule, base.LearningRule):
        return rule
    if isinstance(rule, contract.LearningRule):
        raise MismatchError(
            f"{type(rule).__name__} trains plain modules, not a {network}; take one of infohebb.networks.plain"
        )
    raise MismatchError(f"rule is {rule!r}; give a rule that is made, such as KernelizedBottleneck()")


def train_plain(given: Mapping[str, Any]) -> History:
    """Train `given["network"]` by the settings of `train`, in place, and return its history.

    Raises MismatchError for a setting that it does not have, and the errors of Learner and `fit`.
    """
    network, where = given["network"], pick_device(given["device"])
    refuse_old_settings(given)
    network.to(where)
    _, dtype = home_of(network)
    train, held_out = split_held_out(given["data"], given["held_out"])
    rule, home = given["rule"], Home(where, dtype)
    asked = [given[name] for name in ("order", "order_seed", "epoch_samples", "hold")]
    sampling = SamplingConfig.of_rule(rule, *asked)
    size = batch_size(rule, given["batch"], sampling.steps_per_sample, loader=is_loader(train), name="hold")
    batches = as_batches(train, size, home, sampling=sampling)
    check_several_classes(batches)
    size = BATCH if sampling.is_stream else size
    scored = None if held_out is None else as_batches(held_out, size, home, shuffle=False, name="the held-out data")
    seed = given["seed"]
    with contextlib.ExitStack() as stack:
        if seed is not None:
            stack.enter_context(seeded(int(seed), where))
        learner = make_learner(given, batches)
        learner.to(where)
        if given["channels_last"]:
            learner.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if given["compiled"]:
            learner.compile(dynamic=False, options=SAME_DRAWS)
            stack.enter_context(every_shape_compiled(network))
        if given["precision"] == "bf16":
            stack.enter_context(torch.autocast(where.type, torch.bfloat16))
        optimizer = make_optimizer_for(learner, given["optimizer"], given["scheduler"])
        scheduler = make_scheduler(given, optimizer)
        state = State(learner, optimizer, scheduler, int(given["epochs"]), batches, make_callbacks(given, learner))
        return Fitting(state, Settings(scored=given["held_out"]), scored).to_the_end()


def refuse_old_settings(given: Mapping[str, Any]) -> None:
    """Raise MismatchError for a setting that only networks of version 1 have."""
    network = type(given["network"]).__name__
    for name, (default, instead) in REFUSED.items():
        value = given[name]
        if value != default and (value or default):
            raise MismatchError(f"{name}={short(value, 60)} does not apply to a {network}; use {instead}")


def split_held_out(data: Any, held_out: str) -> tuple[Any, Any]:
    """Return training data and what to score on, None for nothing."""
    if held_out == "validation":
        data = hold_out_validation(data)
        return data, data
    if isinstance(data, tuple) and len(data) == 4:
        return data[:2], data[2:]
    return data, data if getattr(data, "test", None) is not None else None


def make_learner(given: Mapping[str, Any], batches: Batches) -> Learner:
    """Return the learner; rules that need shapes learn them from training samples, where those are arrays."""
    example = batches.sample(2)[0] if isinstance(batches, ArrayBatches) else None
    return Learner(given["network"], given["rule"], given["units"], given["head"], example=example)


def make_optimizer_for(learner: Learner, asked: Any, scheduler: Any) -> Optimizer:
    """Return a torch optimizer as it is, or one by name: {"name": "adam", "lr": {"units": 1e-3, "head": 1e-2}}.

    Raises UnknownNameError, UnknownKeyError, WrongTypeError, MismatchError.
    """
    if isinstance(asked, Optimizer) or (asked is None and scheduler is not None):
        return choose_optimizer(learner, asked, scheduler)
    return named_optimizer(learner, **({"name": "sgd", "lr": 0.1, "momentum": 0.9} if asked is None else asked))


def named_optimizer(learner: Learner, name: str = "sgd", **options: Any) -> Optimizer:
    """Return the optimizer of that name; `lr` and `weight_decay` are one number, or one by role or parameter name.

    A role may have a list of numbers, one per unit. Raises UnknownNameError, UnknownKeyError, WrongTypeError.
    """
    kind = optimizer_class(name)
    check_step(kind)
    check_options(kind, options)
    values: dict[str, Any] = {}
    for option in ("lr", "weight_decay"):
        given = options.get(option)
        if isinstance(given, Mapping):
            del options[option]
            for role, value in given.items():
                place = f"optimizer.{option}.{role}"
                _check_numbers(place, role, value)
                values[role] = _joined(place, values.get(role), option, value)
        elif given is not None and (not is_number(given) or given < 0):
            raise WrongTypeError(f"optimizer.{option} is {given!r}; it must be a number of at least 0")
        elif given is None:
            options.pop(option, None)
    groups = _groups(learner, values)
    if name.lower() in FUSED and not {"foreach", "differentiable"} & options.keys():
        options.setdefault("fused", True)
    try:
        return kind(groups, **options)
    except (ValueError, TypeError, RuntimeError) as error:
        raise WrongTypeError(f"optimizer: {kind.__name__} says: {error}") from error


def _groups(learner: Learner, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the learner's groups; the roles that rules of version 1 have are refused with those to use instead."""
    try:
        return learner.param_groups(**values)
    except UnknownNameError as error:
        old = next((role for role in ("local", "readout") if role in values and repr(role) in str(error)), None)
        if old is None:
            raise
        raise UnknownKeyError(f"optimizer: a plain module has no role {old!r}; use units and head") from error


def _check_numbers(place: str, role: Any, value: Any) -> None:
    """Raise WrongTypeError unless a role is a name and has a number of at least 0, or a list of those."""
    if not isinstance(role, str):
        raise WrongTypeError(f"{cut(place)}: a role is a name; use units, head, rule or a parameter's name")
    for number in value if isinstance(value, (list, tuple)) else [value]:
        if not is_number(number) or number < 0:
            raise WrongTypeError(
                f"{place} is {short(value)}; it must be a number of at least 0, or a list of one for each unit"
            )


def _joined(place: str, before: Any, option: str, value: Any) -> Any:
    """Return the settings of a role with one more option; a list has settings for each unit."""
    if isinstance(value, (list, tuple)) or isinstance(before, list):
        values = value if isinstance(value, (list, tuple)) else [value] * len(before)
        earlier = before if isinstance(before, list) else [before or {}] * len(values)
        if len(earlier) != len(values):
            raise WrongTypeError(
                f"{place} has {len(values)} numbers where another option of it has {len(earlier)}; give as many, one "
                "for each unit"
            )
        return [{**old, option: new} for old, new in zip(earlier, values, strict=True)]
    return {**(before or {}), option: value}


def make_scheduler(given: Mapping[str, Any], optimizer: Optimizer) -> Any:
    """Return the scheduler given, or one for the milestones.  Raises MismatchError for both."""
    milestones, scheduler = list(given["milestones"]), given["scheduler"]
    if milestones and scheduler is not None:
        raise MismatchError(f"milestones={milestones} and a scheduler both set learning rates; give one of them")
    check_scheduler(scheduler, "epoch", optimizer)
    return MultiStepLR(optimizer, milestones, float(given["factor"])) if milestones else scheduler


def make_callbacks(given: Mapping[str, Any], learner: Learner) -> list[Callback]:
    """Return the callbacks that settings of `train` ask for."""
    callbacks: list[Callback] = []
    if given["diagnose"] is not None:
        callbacks.append(Alignment(given["diagnose"].reference, every=int(given["diagnose"].every)))
    if type(learner.rule).monitor is not contract.LearningRule.monitor:
        callbacks.append(Monitor())
    if given["checkpoints"] is not None:
        names = ("batch", "milestones", "factor", "precision", "channels_last", "compiled", "seed")
        settings = {name: given[name] for name in names}
        callbacks.append(Checkpoint(given["checkpoints"].folder, config={**given["checkpoints"].config, **settings}))
    return [*callbacks, Progress()] if given["progress"] else callbacks
