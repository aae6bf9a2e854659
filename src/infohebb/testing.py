"""The contract suite: what every learning rule must keep, as one function. No test framework needed.

from infohebb.testing import check_rule
for check in check_rule(MyRule):
    print(check)
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from infohebb.data import blobs
from infohebb.errors import GroupingError, MismatchError, UnknownNameError, UsageError
from infohebb.networks import MLP, Layered
from infohebb.rules import Diagnostics, LearningRule
from infohebb.rules.base import POSTSYNAPTIC, PRESYNAPTIC, Signals
from infohebb.training.evaluation import score
from infohebb.training.seeding import seeded

SAMPLES, FEATURES, CLASSES = 6, 24, 3
Make = Callable[[], LearningRule]


@dataclass(frozen=True)
class Check:
    """One promise, held or broken on one network."""

    promise: str
    network: str
    broken: str | None = None

    def __str__(self) -> str:
        return f"{'FAILS' if self.broken else 'holds'}  {self.promise} [{self.network}]{self._reason()}"

    def _reason(self) -> str:
        return f": {self.broken}" if self.broken else ""


@dataclass(frozen=True)
class Case:
    """A fresh network with its rule attached, and a batch; the same every time it is built."""

    network: Any
    rule: LearningRule
    inputs: Tensor
    targets: Tensor

    def learn(self, *, record: bool = False, order: Tensor | None = None, seed: int = 1) -> Diagnostics:
        """Learn from the batch, with empty gradients before."""
        order = torch.arange(len(self.inputs)) if order is None else order
        for parameter in self.parameters().values():
            parameter.grad = None
        with seeded(seed):
            return self.rule.learn(self.network, self.inputs[order], self.targets[order], record=record)

    def parameters(self) -> dict[str, nn.Parameter]:
        """All parameters of network and rule, by name."""
        return {**dict(self.network.named_parameters()), **{f"rule {k}": p for k, p in self.rule.named_parameters()}}

    def learning(self) -> list[nn.Parameter]:
        """What learns."""
        return [parameter for group in self.rule.groups(self.network).values() for parameter in group]

    def gradients(self) -> dict[str, Tensor]:
        """Gradients that are filled, by the parameter's name."""
        return {name: p.grad.clone() for name, p in self.parameters().items() if p.grad is not None}

    def state(self) -> dict[str, Tensor]:
        """Copies of all weights and buffers."""
        both = (("network", self.network), ("rule", self.rule))
        return {f"{part} {name}": t.clone() for part, module in both for name, t in module.state_dict().items()}


def example_networks(kind: type[nn.Module]) -> dict[str, Callable[[], nn.Module]]:
    """Small networks of a kind on which its rules are tried."""
    if not issubclass(Layered, kind):
        raise MismatchError(f"the contract suite has no example of a {kind.__name__} network")
    make = partial(MLP, FEATURES, CLASSES, (24, 20, 16))
    norm = {"groups": 4, "power": 0.2, "delta": 1.0}
    return {
        "plain": make,
        "divisive norm": partial(make, divisive_norm=norm),
        "batch norm, biases": partial(make, norm="batch", bias=True, nonlinearity="selu"),
        "layer norm": partial(make, norm="layer", nonlinearity="tanh"),
        "dropout": partial(make, divisive_norm=norm, dropout=0.3),
    }


def build_case(make_rule: Make, make_network: Callable[[], nn.Module]) -> Case:
    """Network, rule and batch in float64, drawn from one seed."""
    with seeded(0):
        network, rule = make_network().double(), make_rule()
        rule.attach(network)
        inputs = torch.randn(SAMPLES, FEATURES, dtype=torch.float64)
        return Case(network, rule.double(), inputs, torch.arange(SAMPLES) % CLASSES)


def check_rule(rule: Make, *, strict: bool = True) -> list[Check]:
    """Hold a rule (a class, or anything that makes one without arguments) to the contract.

    Returns what was checked; with `strict` raises AssertionError naming each broken promise. A network that the rule
    refuses in `attach` is reported as such; refusing them all is a failure.
    """
    checks = list(_checks(rule))
    broken = [str(check) for check in checks if check.broken]
    if broken and strict:
        raise AssertionError("\n".join(broken))
    return checks


def import_rule(path: str) -> type[LearningRule]:
    """The class that "module:Class" names, modules of the working folder included.

    Raises UsageError, UnknownNameError.
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise UsageError(f"{path!r} is not of the form module:Class")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise UnknownNameError(f"cannot import {module!r}: {error}; run from the folder that holds it") from error
    except Exception as error:
        raise UsageError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, LearningRule)):
        raise UsageError(f"{path} is no class derived from infohebb.LearningRule")
    return found


def _checks(make: Make) -> Iterator[Check]:
    try:
        example = make()
    except TypeError as error:
        yield Check("builds without arguments", "-", str(error))
        return
    accepted = 0
    for name, network in example_networks(example.network_type).items():
        try:
            build_case(make, network)
        except (MismatchError, GroupingError) as error:
            yield Check(f"refused: {error}", name)
            continue
        except Exception as error:  # noqa: BLE001  (whatever a user's rule raises is a broken promise)
            yield Check("attaches to the network", name, _raised(error))
            continue
        accepted += 1
        for promise in PROMISES if name != "dropout" else (same_seed_same_gradient, fills_gradients, keeps_no_graph):
            yield _check(promise, partial(build_case, make, network), name)
    yield Check("trains some network", "-", None if accepted else "attach refuses every example")
    if accepted:
        yield _check(learns_blobs, make, "blobs")


def _check(promise: Callable[[Any], None], argument: Any, network: str) -> Check:
    words = promise.__name__.replace("_", " ")
    try:
        promise(argument)
    except AssertionError as error:
        return Check(words, network, str(error) or "assertion failed")
    except Exception as error:  # noqa: BLE001  (as above)
        return Check(words, network, _raised(error))
    return Check(words, network)


def _raised(error: Exception) -> str:
    """An exception as one line."""
    return " ".join(f"raises {type(error).__name__}: {error}".split())


def fills_gradients(build: Callable[[], Case]) -> None:
    """`learn` fills `.grad` of all that learns, or says it waits, and moves nothing but buffers it names."""
    case = build()
    before, seen = case.state(), case.learn()
    for parameter in [] if seen.waiting else case.learning():
        assert parameter.grad is not None, f"no gradient for a parameter {tuple(parameter.shape)}"
        assert bool(parameter.grad.isfinite().all()), "a gradient is not finite"
    for name, value in case.state().items():
        moved = not torch.equal(value, before[name])
        assert not moved or name.split(".")[-1].split(" ")[-1] in case.rule.advances, f"learn changes {name}"


def keeps_no_graph(build: Callable[[], Case]) -> None:
    """Nothing that `learn` returns or fills carries a graph."""
    case = build()
    seen = case.learn(record=True)
    returned = {"loss": seen.loss, "correct": seen.correct, **case.gradients()}
    for layer, signals in (seen.objectives | seen.signals).items():
        returned |= {f"{layer} {name}": value for name, value in signals.items()}
    for name, value in returned.items():
        assert value is None or not value.requires_grad, f"{name} carries a graph"


def prediction_changes_nothing(build: Callable[[], Case]) -> None:
    """`network(x)` leaves all state alone, takes any batch size, and does not care for train() or eval()."""
    case = build()
    before = case.state()
    training, evaluating = case.network.train()(case.inputs), case.network.eval()(case.inputs)
    assert torch.equal(training, evaluating), "train() and eval() predict differently"
    one = torch.cat([case.network(case.inputs[i : i + 1]) for i in range(SAMPLES)])
    torch.testing.assert_close(one, training, msg="samples predict differently alone and together")
    for name, value in case.state().items():
        assert torch.equal(value, before[name]), f"predicting changes {name}"


def same_seed_same_gradient(build: Callable[[], Case]) -> None:
    """Two runs from one seed give the same bits."""
    first, second = build(), build()
    first.learn(seed=3)
    second.learn(seed=3)
    for name, gradient in first.gradients().items():
        assert torch.equal(gradient, second.gradients()[name]), f"the gradient of {name} differs between two runs"


def state_round_trips(build: Callable[[], Case]) -> None:
    """State saved after a step and loaded into a fresh pair goes on to the same gradient."""
    used, fresh = build(), build()
    used.learn()
    fresh.network.load_state_dict(used.network.state_dict())
    fresh.rule.load_state_dict(used.rule.state_dict())
    used.learn(seed=2)
    fresh.learn(seed=2)
    for name, gradient in used.gradients().items():
        assert torch.equal(gradient, fresh.gradients()[name]), f"the gradient of {name} is lost with the state"


def batch_order_does_not_matter(build: Callable[[], Case]) -> None:
    """A permuted batch gives the same gradients, unless the rule declares `order_matters`."""
    straight, mixed = build(), build()
    if straight.rule.order_matters:
        return
    straight.learn()
    mixed.learn(order=torch.tensor([3, 0, 5, 1, 4, 2]))
    for name, gradient in straight.gradients().items():
        close = _close(gradient, mixed.gradients()[name], _largest(straight))
        assert close, f"the gradient of {name} depends on the order of samples"


def update_follows_from_signals(build: Callable[[], Case]) -> None:
    """`rule.update` of what was recorded is the gradient, for every parameter that learns."""
    case = build()
    seen = case.learn(record=True)
    explained = {}
    for layer, signals in seen.signals.items():
        explained |= {f"{layer}.{name}": gradient for name, gradient in case.rule.update(signals).items()}
    for name, gradient in case.gradients().items():
        assert name in explained, f"no signals explain the gradient of {name}"
        assert _close(explained[name], gradient, _largest(case)), (
            f"the recorded signals do not give the gradient of {name}"
        )


def update_is_local(build: Callable[[], Case]) -> None:
    """Entry (i, j) of an update depends on presynaptic j, postsynaptic i, and declared, small broadcasts alone."""
    case = build()
    for layer, signals in case.learn(record=True).signals.items():
        norm = getattr(case.network.get_submodule(layer), "divisive_norm", None)
        for name, signal in signals.items():
            if name in PRESYNAPTIC or name in POSTSYNAPTIC or name == "bias_pre":
                continue
            assert name in case.rule.broadcasts, f"{layer}: signal {name!r} has no declared role"
            width = case.network.get_submodule(layer).weight.shape[0]
            factors = norm.groups if norm is not None else width // 2
            most = SAMPLES * (factors if name == "third_factor" else SAMPLES)
            assert signal.numel() <= most, f"{layer}: {name} broadcasts {signal.numel()} numbers, more than {most}"
        weight = case.rule.update(signals)["weight"]
        presynaptic = case.rule.update(_nudge(signals, PRESYNAPTIC, 2))["weight"]
        assert _only_changes(weight, presynaptic, column=2), f"{layer}: presynaptic 2 acts on other columns"
        postsynaptic = case.rule.update(_nudge(signals, POSTSYNAPTIC, 1))["weight"]
        assert _only_changes(weight, postsynaptic, row=1), f"{layer}: postsynaptic 1 acts on other rows"


def _nudge(signals: Signals, roles: frozenset[str], position: int) -> Signals:
    """Signals with those of the given roles changed at one neuron."""
    changed = dict(signals)
    for name in roles & signals.keys():
        changed[name] = signals[name].clone()
        change = changed[name][..., position]
        change += torch.linspace(0.3, 0.7, change.numel(), dtype=change.dtype).square().view_as(change)
    return changed


def _only_changes(before: Tensor, after: Tensor, row: int | None = None, column: int | None = None) -> bool:
    """Whether a row (or column) changed, and nothing else did."""
    moved = (before - after).abs() > 1e-12 * before.abs().max()
    expected = torch.zeros_like(moved)
    expected[row if row is not None else slice(None), column if column is not None else slice(None)] = True
    return bool((moved & expected).any()) and not bool((moved & ~expected).any())


def weights_are_not_transported(build: Callable[[], Case]) -> None:
    """A downstream weight that changes no activity may matter only where `weight_transport` is declared, and does."""
    needed = _downstream_matters(build, silent=True)
    declared = build().rule.weight_transport
    assert declared or not needed, f"the update of {needed} depends on a weight downstream: weight transport"
    assert needed or not declared, "weight_transport is declared, but no update needs it"


def errors_are_not_global(build: Callable[[], Case]) -> None:
    """A change downstream may matter only where `global_error` is declared, and does."""
    needed = _downstream_matters(build, silent=False)
    declared = build().rule.global_error
    assert declared or not needed, f"the update of {needed} depends on what happens downstream"
    assert needed or not declared, "global_error is declared, but no update needs it"


def _downstream_matters(build: Callable[[], Case], *, silent: bool) -> str | None:
    """The first parameter whose update changes with a weight above it; a silent change leaves all activities."""
    names = [*(name for name, _ in build().network.named_blocks()), "readout"]
    for position, name in enumerate(names[1:], 1):
        case, changed = build(), build()
        pre = case.learn(record=True).signals.get(name, {}).get("pre")
        if pre is None:
            continue
        weight = changed.network.get_submodule(name).weight
        with torch.no_grad():
            weight += _silent_change(weight, pre) if silent else torch.randn_like(weight)
        changed.learn()
        scale = _largest(case)
        for parameter, gradient in case.gradients().items():
            below = parameter.startswith(tuple(f"{layer}." for layer in names[:position]))
            if below and not _close(gradient, changed.gradients()[parameter], scale):
                return parameter
    return None


def _silent_change(weight: Tensor, pre: Tensor) -> Tensor:
    """A random change of the weight that this batch's inputs cannot see."""
    assert pre.shape[1] > len(pre), "the layer is too narrow for a silent change"
    onto_inputs = torch.linalg.pinv(pre) @ pre
    return torch.randn_like(weight) @ (torch.eye(len(onto_inputs), dtype=weight.dtype) - onto_inputs)


def learns_blobs(make: Make) -> None:
    """Two Gaussian blobs are told apart, with Adam, after 40 epochs."""
    data = blobs()
    with seeded(0):
        norm = {"groups": 4}
        network, rule = MLP(data.input_shape, data.outputs, (32, 32), divisive_norm=norm), make()
        rule.attach(network)
        learning = [p for group in rule.groups(network).values() for p in group]
        optimizer = torch.optim.Adam(learning, lr=0.01)
        for _ in range(40):
            for part in torch.randperm(len(data.train.targets)).split(50):
                optimizer.zero_grad(set_to_none=True)
                rule.learn(network, data.train.inputs[part], data.train.targets[part])
                rule.finish(learning)
                optimizer.step()
    assert data.test is not None
    accuracy = score(network, [data.test])[1]
    assert accuracy >= 90, f"only {accuracy:.1f} % right on two Gaussian blobs"


def _close(a: Tensor, b: Tensor, scale: float) -> bool:
    """Equal but for rounding, measured against the largest gradient of the network: some gradients are zero."""
    return bool((a - b).abs().max() <= 1e-9 * max(float(b.abs().max()), 1e-3 * scale))


def _largest(case: Case) -> float:
    return max(float(gradient.abs().max()) for gradient in case.gradients().values())


PROMISES = (
    fills_gradients,
    keeps_no_graph,
    prediction_changes_nothing,
    same_seed_same_gradient,
    state_round_trips,
    batch_order_does_not_matter,
    update_follows_from_signals,
    update_is_local,
    weights_are_not_transported,
    errors_are_not_global,
)
