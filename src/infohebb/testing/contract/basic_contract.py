"""Promises on gradients, state, seeds and hooks, and that a rule learns."""

import contextlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from infohebb.data import blobs
from infohebb.errors import GroupingError, MismatchError
from infohebb.learner import Learner
from infohebb.networks.plain import MLP
from infohebb.testing.contract.cases import SAMPLES, Build, Make, bound, close, first_difference, largest, submodule
from infohebb.training.seeding import seeded

STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})  # of batch norms
WINDOW = 8  # samples


def fills_gradients(build: Build) -> None:
    """A step fills `.grad` of all that the parameter groups hold, and of nothing else, with finite numbers."""
    case = build()
    case.step()
    gradients, trained = case.gradients(), case.trained()
    for name in sorted(trained):
        assert name in gradients, f"{name} has no gradient"
        assert bool(gradients[name].isfinite().all()), f"the gradient of {name} is not finite"
    more = sorted(gradients.keys() - trained)
    assert not more, f"{more[0]} has a gradient, but is in no parameter group"


def changes_no_state(build: Build) -> None:
    """A step changes no weight, and no buffer but those of batch norms and those that the rule names.

    Named by the rule are buffers of its own, under any module of it, and the last part of a buffer's name in the model.
    """
    case = build()
    before = {name: value.clone() for name, value in case.learner.state_dict().items()}
    case.step()
    for name, value in case.learner.state_dict().items():
        moved = name not in before or not torch.equal(value, before[name])
        parts = name.split(".") if name.startswith("rule.") else name.split(".")[-1:]
        declared = any(part in case.rule.updated_buffers for part in parts)
        assert not moved or declared or parts[-1] in STATISTICS, f"a step changes {name}"


def keeps_no_graph(build: Build) -> None:
    """Nothing that a step returns or fills carries a graph."""
    case = build()
    step = case.step()
    terms = {f"{unit}: {name}": value for unit, found in step.terms.items() for name, value in found.items()}
    for name, value in {"loss": step.loss, "logits": step.logits, **terms, **case.gradients()}.items():
        assert not isinstance(value, Tensor) or not value.requires_grad, f"{name} carries a graph"


def same_seed_same_gradient(build: Build) -> None:
    """Two steps from one seed give the same bits."""
    first, second = build(), build()
    first.step(seed=3)
    second.step(seed=3)
    for name, gradient in first.gradients().items():
        assert torch.equal(gradient, second.gradients()[name]), f"the gradient of {name} differs between two runs"


def does_not_reseed(build: Build) -> None:
    """Two seeds before a step are two states of torch's generator after it."""
    first, second = build(), build()
    first.step(seed=3)
    second.step(seed=4)
    for one, other in zip(first.random_states, second.random_states, strict=True):
        assert not torch.equal(one, other), "a step resets torch's random generator; draw from one of the rule's own"


def state_round_trips(build: Build) -> None:
    """The learner's state, saved after a step and loaded into a fresh one, goes on to the same gradients."""
    used, fresh = build(), build()
    used.step()
    fresh.calls = used.calls
    fresh.learner.load_state_dict(used.learner.state_dict())
    used.step(seed=2)
    fresh.step(seed=2)
    for name, gradient in used.gradients().items():
        assert torch.equal(gradient, fresh.gradients()[name]), f"the gradient of {name} is lost with the state"


def batch_order_does_not_matter(build: Build) -> None:
    """A permuted batch gives the same gradients; a rule that consumes samples or windows is exempt."""
    straight, mixed = build(), build()
    if straight.rule.consumes != "batch":
        return
    straight.step()
    mixed.step(order=torch.tensor([3, 0, 5, 1, 4, 2]))
    different = first_difference(straight.gradients(), mixed.gradients())
    assert different is None, f"the gradient of {different} depends on the order of samples"


def loss_gives_the_same_gradients(build: Build) -> None:
    """`learner(x, y).backward()` leaves the gradients and buffers of `learner.backward(x, y)`."""
    direct, through_loss = build(), build()
    direct.step()
    through_loss.step()  # what a rule waits for is past
    direct.step(seed=2)
    through_loss.clear()
    inputs, targets = through_loss.batch()
    with seeded(2000):
        through_loss.learner(inputs, targets).backward()
    want, got = direct.gradients(), through_loss.gradients()
    assert want.keys() == got.keys(), f"learner(x, y).backward() fills other gradients: {min(want.keys() ^ got.keys())}"
    for name, gradient in want.items():
        same = close(got[name], gradient, largest(want), 1e-12)
        assert same, f"learner(x, y).backward() gives another gradient of {name} than backward(x, y)"
    after = through_loss.learner.state_dict()
    for name, value in direct.learner.state_dict().items():
        assert torch.equal(value, after[name]), f"learner(x, y) leaves {name} other than backward(x, y)"


def leaves_the_model_alone(build: Build) -> None:
    """After a step, and after one that fails in the last module, there are the hooks and modes of before."""
    case = build()
    before = _hooks_and_modes(case.learner.model)
    case.step()
    assert _hooks_and_modes(case.learner.model) == before, "a step leaves hooks or modes behind"
    if not case.parts():  # a network without units, whose modules need not be called
        return
    last = submodule(case, case.parts()[-1].modules[0])
    handle = last.register_forward_pre_hook(_fail)
    with contextlib.suppress(ReachedError):
        case.step()
    handle.remove()
    assert _hooks_and_modes(case.learner.model) == before, "a step that fails leaves hooks or modes behind"


class ReachedError(Exception):
    """A module is reached."""


def _fail(*_: object) -> None:
    raise ReachedError


def _hooks_and_modes(model: nn.Module) -> list[tuple[object, ...]]:
    def of(module: nn.Module) -> tuple[object, ...]:
        kinds = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        return (module.training, *(tuple(hooks) for hooks in kinds))

    return [(torch.is_grad_enabled(),), *map(of, model.modules())]


def learns_blobs(make: Make) -> None:
    """Two Gaussian blobs are told apart, with Adam, after 40 epochs, or few where a sample or window is one step.

    The head alone can do that, so the units of a rule that trains them must have moved too, or its own network.
    """
    data = blobs()
    inputs, targets = data.train.inputs, data.train.targets
    with seeded(0):
        learner = bound(_learner_of_blobs(make, inputs, data.outputs))
        optimizer = learner.bind(torch.optim.Adam(learner.param_groups(), lr=0.01))
        trained = [
            p for group in optimizer.param_groups if group["role"] not in ("head", "rule") for p in group["params"]
        ]
        before = [parameter.detach().clone() for parameter in trained]
        for _ in range(40 if learner.rule.consumes == "batch" else 4):
            for part in _parts(torch.randperm(len(targets)), learner.rule.consumes):
                optimizer.zero_grad()
                learner.backward(inputs[part], targets[part])
                optimizer.step()
    assert data.test is not None
    with torch.no_grad():
        right = learner.model.eval()(data.test.inputs).argmax(1) == data.test.targets
    accuracy = 100 * float(right.double().mean())
    assert accuracy >= 90, f"only {accuracy:.1f} % right on two Gaussian blobs"
    still = [len(one) for one, other in zip(trained, before, strict=True) if torch.equal(one, other)]
    assert len(still) < max(len(trained), 1) or not trained, "no weight but the head's has moved in training"


def _learner_of_blobs(make: Make, inputs: Tensor, outputs: int) -> Learner:
    """Return a learner of a network with divisive norm; without it where the rule refuses it.

    Of a rule of own networks, one that it makes itself by `make_network`, or else one of their type.
    """
    shape, rule = tuple(inputs.shape[1:]), make()
    if rule.own_network is not None:
        return Learner(getattr(rule, "make_network", rule.own_network)(shape, outputs, (32,)), rule)
    try:
        return Learner(MLP(shape, outputs, (32, 32), divisive_norm={"groups": 4}), make(), example=inputs[:SAMPLES])
    except (MismatchError, GroupingError):
        return Learner(MLP(shape, outputs, (32, 32)), make(), example=inputs[:SAMPLES])


def _parts(order: Tensor, consumes: str) -> Iterable[Tensor]:
    """Return what one step is given of an order: batches, single samples, or windows that slide by one."""
    if consumes in ("batch", "sample"):
        return order.split(50 if consumes == "batch" else 1)
    return order.unfold(0, WINDOW, 1)


PROMISES = (
    fills_gradients,
    changes_no_state,
    keeps_no_graph,
    same_seed_same_gradient,
    does_not_reseed,
    state_round_trips,
    batch_order_does_not_matter,
    loss_gives_the_same_gradients,
    leaves_the_model_alone,
)
