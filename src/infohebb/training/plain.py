"""train on any nn.Module: a Learner and fit, from the settings of `train`."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from infohebb.errors import MismatchError, WrongTypeError, is_number
from infohebb.learner import Learner
from infohebb.networks import Layered, Settling
from infohebb.networks.unit import MarksUnits
from infohebb.rules import base, contract
from infohebb.training.batches import ArrayBatches, Batches, Home, as_batches, is_loader
from infohebb.training.callbacks import Alignment, Callback, Checkpoint, Monitor, Progress
from infohebb.training.callbacks.base import State
from infohebb.training.devices import keep_freed_memory, pick_device
from infohebb.training.evaluation import home_of
from infohebb.training.fit_checks import check_scheduler, check_several_classes, choose_optimizer, refuse_iterator
from infohebb.training.fitting import Fitting, Settings
from infohebb.training.optimizers import (
    FUSED,
    EpochFactor,
    StepFactor,
    check_number,
    check_options,
    check_step,
    optimizer_class,
)
from infohebb.training.renamed import RATES, rename_options
from infohebb.training.sampling import BATCH, SamplingConfig, batch_size
from infohebb.training.seeding import seeded
from infohebb.training.sources import hold_out_validation
from infohebb.training.statistics import History
from infohebb.training.wording import cut, short

NEW = ("units", "head", "scheduler")  # settings that only a Learner has
KEPT = (  # settings that must be the same to go on from a checkpoint, beside those that a fit looks at
    *("batch", "milestones", "factor", "powers", "factor_every", "precision", "channels_last", "compiled"),
    *("cuda_graphs", "seed"),
)


def goes_by_learner(network: object, rule: object) -> bool:
    """Whether `train` makes a Learner: for all but networks of version 1's blocks."""
    by_rule = isinstance(rule, contract.LearningRule)
    if not isinstance(network, nn.Module) or not by_rule or isinstance(network, Layered):
        return False
    return not isinstance(rule, base.LearningRule) or not isinstance(network, Settling) or rule.own_network is not None


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
    network, rule, where = given["network"], given["rule"], pick_device(given["device"])
    check_computing(given, where)
    refuse_iterator(given["data"], int(given["epochs"]), "data")
    keep_freed_memory()
    network.to(where)
    _, dtype = home_of(network)
    train, held_out = split_held_out(given["data"], given["held_out"])
    home = Home(where, dtype)
    asked = [given[name] for name in ("order", "order_seed", "epoch_samples", "steps_per_sample")]
    sampling = SamplingConfig.of_rule(rule, *asked)
    size = batch_size(rule, given["batch"], sampling.steps_per_sample, loader=is_loader(train))
    batches = as_batches(train, size, home, name="data", sampling=sampling)
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
            learner.compile(cuda_graphs=given["cuda_graphs"])
            stack.enter_context(compiler_there())
        stack.enter_context(computing_in(network, given["precision"]))
        optimizer = make_optimizer_for(learner, given["optimizer"], given["scheduler"])
        scheduler = make_scheduler(given, optimizer)
        callbacks = make_callbacks(given, learner, batches)
        state = State(learner, optimizer, scheduler, int(given["epochs"]), batches, callbacks)
        settings = Settings(scheduler_per_step=bool(given["factor_every"]), scored=given["held_out"])
        return Fitting(state, settings, scored).to_the_end()


def computing_in(network: nn.Module, precision: str) -> contextlib.AbstractContextManager[object]:
    """Return a context in which a network computes in "fp32" or "bf16", as `train` has it do."""
    if isinstance(network, Settling):
        network.precision = "bf16" if precision == "bf16" else "fp32"
    elif precision == "bf16":
        return torch.autocast(home_of(network)[0].type, torch.bfloat16)
    return contextlib.nullcontext()


def check_computing(given: Mapping[str, Any], where: torch.device) -> None:
    """Raise MismatchError for ways of computing that do not go together."""
    if given["cuda_graphs"] and not (given["compiled"] and where.type == "cuda"):
        raise MismatchError(f"cuda_graphs replays compiled steps on a GPU: give compiled = true, and cuda, not {where}")


@contextlib.contextmanager
def compiler_there() -> Iterator[None]:
    """Raise MismatchError where torch finds no C++ compiler."""
    try:
        yield
    except RuntimeError as error:
        if "InvalidCxxCompiler" in str(error):
            raise MismatchError(
                "compiled = true, and torch finds no C++ compiler: install g++, name one by CXX, or leave it out"
            ) from error
        raise


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
    network: nn.Module = given["network"]
    of_any = given["rule"].own_network is None and not isinstance(network, MarksUnits)
    example = batches.sample(2)[0] if isinstance(batches, ArrayBatches) and of_any else None
    return Learner(network, given["rule"], given["units"], given["head"], example=example)


def make_optimizer_for(learner: Learner, asked: Any, scheduler: Any) -> Optimizer:
    """Return a torch optimizer as it is, or one by name: {"name": "adam", "lr": {"units": 1e-3, "head": 1e-2}}.

    Raises UnknownNameError, UnknownKeyError, WrongTypeError, MismatchError.
    """
    if isinstance(asked, Optimizer) or (asked is None and scheduler is not None):
        return choose_optimizer(learner, asked, scheduler)
    if asked is None:
        return named_optimizer(learner, "sgd", lr=0.1, momentum=0.9)
    return named_optimizer(learner, **rename_options(learner.rule, asked, tell=True))


def named_optimizer(learner: Learner, name: str = "sgd", **options: Any) -> Optimizer:
    """Return the optimizer of that name; `lr` and `weight_decay` are one number, or one by role or parameter name.

    A role may have a list of numbers, one per unit. Raises UnknownNameError, UnknownKeyError, WrongTypeError.
    """
    kind = optimizer_class(name)
    check_step(kind)
    check_options(kind, options)
    given = {option: options.pop(option, None) for option in RATES}
    by_role = {option: value for option, value in given.items() if isinstance(value, Mapping)}
    for option, value in given.items():
        if option not in by_role and value is not None:
            options[option] = check_number(f"optimizer.{option}", value)
    groups = learner.param_groups(**_settings_by_role(by_role))
    for option in by_role:
        without = [group["role"].split(".")[0] for group in groups if option not in group]
        if without:
            raise WrongTypeError(f"optimizer.{option} gives no number for the {without[0]!r} parameters of this rule")
    if name.lower() in FUSED and not {"foreach", "differentiable"} & options.keys():
        options.setdefault("fused", True)
    try:
        return kind(groups, **options)
    except (ValueError, TypeError, RuntimeError) as error:
        raise WrongTypeError(f"optimizer: {kind.__name__} says: {error}") from error


def _settings_by_role(by_role: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    """Return the settings of each role from the numbers of each option."""
    settings: dict[str, Any] = {}
    for option, numbers in by_role.items():
        for role, value in numbers.items():
            place = f"optimizer.{option}.{role}"
            _check_numbers(place, role, value)
            settings[role] = _joined(place, settings.get(role), option, value)
    return settings


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
    """Return the scheduler given, or one for milestones, powers or factor_every.  Raises MismatchError for several."""
    by_epoch = [name for name in ("milestones", "powers") if list(given[name])]
    by_step = ["factor_every"] if given["factor_every"] else []
    asked = [*by_epoch, *by_step, *([] if given["scheduler"] is None else ["scheduler"])]
    if len(asked) > 1 and asked != by_epoch:
        raise MismatchError(
            f"{', '.join(asked[:-1])} and {asked[-1]} each set learning rates; give one of them (milestones and powers "
            "go together)"
        )
    check_scheduler(given["scheduler"], "epoch", optimizer)
    if by_step:
        return LambdaLR(optimizer, StepFactor(given["factor_every"], given["factor"]))
    if by_epoch:
        return LambdaLR(optimizer, EpochFactor(given["milestones"], given["factor"], given["powers"]))
    return given["scheduler"]


def make_callbacks(given: Mapping[str, Any], learner: Learner, batches: Batches) -> list[Callback]:
    """Return the callbacks that settings of `train` ask for."""
    callbacks: list[Callback] = []
    if given["diagnose"] is not None:
        callbacks.append(Alignment(given["diagnose"].reference, every=int(given["diagnose"].every)))
    monitored = type(learner.rule).monitor is not contract.LearningRule.monitor
    if monitored and isinstance(batches, ArrayBatches):  # a loader has no samples to set apart
        callbacks.append(Monitor())
    if given["checkpoints"] is not None:
        settings = {name: given[name] for name in KEPT}
        kept = given["checkpoints"].of({**settings, "data": batches.checksum()})
        callbacks.append(Checkpoint(kept.folder, config=kept.config))
    return [*callbacks, Progress()] if given["progress"] else callbacks
