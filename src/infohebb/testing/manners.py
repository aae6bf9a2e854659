"""Promises on gradients, state and seeds, and that a rule learns."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from infohebb.data import blobs
from infohebb.errors import GroupingError, MismatchError
from infohebb.networks import MLP, Layered
from infohebb.rules import LearningRule, SettlingRule
from infohebb.testing.cases import SAMPLES, Build, Make, close, largest
from infohebb.training.evaluation import score
from infohebb.training.seeding import seeded

WINDOW = 8  # samples


def fills_gradients(build: Build) -> None:
    """`learn` fills `.grad` of all that learns once it no longer waits, and moves nothing but buffers it names."""
    case = build()
    before = case.state()
    case.learn()
    for parameter in case.learning():
        assert parameter.grad is not None, f"no gradient for a parameter {tuple(parameter.shape)}"
        assert bool(parameter.grad.isfinite().all()), "a gradient is not finite"
    for name, value in case.state().items():
        moved = name not in before or not torch.equal(value, before[name])
        assert not moved or name.split(".")[-1].split(" ")[-1] in case.rule.advances, f"learn changes {name}"


def keeps_no_graph(build: Build) -> None:
    """Nothing that `learn` returns or fills carries a graph."""
    case = build()
    seen = case.learn(record=True)
    returned = {"loss": seen.loss, "correct": seen.correct, **case.gradients()}
    for layer, signals in (seen.objectives | seen.signals).items():
        returned |= {f"{layer} {name}": value for name, value in signals.items()}
    for name, value in returned.items():
        assert value is None or not value.requires_grad, f"{name} carries a graph"


def prediction_changes_nothing(build: Build) -> None:
    """`network(x)` leaves all state alone, takes any batch size, and does not care for train() or eval()."""
    case = build()
    before = case.state()
    training, evaluating = case.network.train()(case.inputs), case.network.eval()(case.inputs)
    assert torch.equal(training, evaluating), "train() and eval() predict differently"
    one = torch.cat([case.network(case.inputs[i : i + 1]) for i in range(SAMPLES)])
    torch.testing.assert_close(one, training, msg="samples predict differently alone and together")
    for name, value in case.state().items():
        assert torch.equal(value, before[name]), f"predicting changes {name}"


def same_seed_same_gradient(build: Build) -> None:
    """Two runs from one seed give the same bits."""
    first, second = build(), build()
    first.learn(seed=3)
    second.learn(seed=3)
    for name, gradient in first.gradients().items():
        assert torch.equal(gradient, second.gradients()[name]), f"the gradient of {name} differs between two runs"


def does_not_reseed(build: Build) -> None:
    """Two seeds before `learn` are two states of torch's generator after it: shuffling and dropout go on from there."""
    first, second = build(), build()
    first.learn(seed=3)
    second.learn(seed=4)
    for one, other in zip(first.random_states, second.random_states, strict=True):
        assert not torch.equal(one, other), "learn resets torch's random generator; draw from one of its own"


def state_round_trips(build: Build) -> None:
    """State saved after a step and loaded into a fresh pair goes on to the same gradient."""
    used, fresh = build(), build()
    used.learn()
    fresh.network.load_state_dict(used.network.state_dict())
    fresh.rule.load_state_dict(used.rule.state_dict())
    used.learn(seed=2)
    fresh.learn(seed=2)
    for name, gradient in used.gradients().items():
        assert torch.equal(gradient, fresh.gradients()[name]), f"the gradient of {name} is lost with the state"


def batch_order_does_not_matter(build: Build) -> None:
    """A permuted batch gives the same gradients, unless the rule declares `order_matters`."""
    straight, mixed = build(), build()
    if straight.rule.order_matters:
        return
    straight.learn()
    mixed.learn(order=torch.tensor([3, 0, 5, 1, 4, 2]))
    for name, gradient in straight.gradients().items():
        same = close(gradient, mixed.gradients()[name], largest(straight.gradients()))
        assert same, f"the gradient of {name} depends on the order of samples"


def learns_blobs(make: Make) -> None:
    """Two Gaussian blobs are told apart, with Adam, after 40 epochs, or few where a sample or window is one step."""
    data = blobs()
    with seeded(0):
        network, rule = _pair(make, data.input_shape, data.outputs)
        learning = [p for group in rule.groups(network).values() for p in group]
        optimizer = torch.optim.Adam(learning, lr=0.01)
        for _ in range(40 if rule.consumes == "batch" else 4):
            for part in _parts(torch.randperm(len(data.train.targets)), rule.consumes):
                optimizer.zero_grad(set_to_none=True)
                rule.learn(network, data.train.inputs[part], data.train.targets[part])
                rule.finish(learning)
                optimizer.step()
    assert data.test is not None
    accuracy = score(network, [data.test])[1]
    assert accuracy >= 90, f"only {accuracy:.1f} % right on two Gaussian blobs"


def _parts(order: Tensor, consumes: str) -> Iterable[Tensor]:
    """What one call of `learn` is given of an order: batches, single samples, or windows that slide by one."""
    if consumes == "window":
        return order.unfold(0, WINDOW, 1)
    return order.split(1 if consumes == "sample" else 50)


def _pair(make: Make, inputs: tuple[int, ...], outputs: int) -> tuple[nn.Module, LearningRule]:
    """A network with divisive norm and its rule; without the norm where the rule refuses it. Or one that settles."""
    if not issubclass(Layered, make().network_type):
        return _settling_pair(make, inputs, outputs)
    network, rule = MLP(inputs, outputs, (32, 32), divisive_norm={"groups": 4}), make()
    try:
        rule.attach(network)
    except (MismatchError, GroupingError):
        network, rule = MLP(inputs, outputs, (32, 32)), make()
        rule.attach(network)
    return network, rule


def _settling_pair(make: Make, inputs: tuple[int, ...], outputs: int) -> tuple[nn.Module, LearningRule]:
    """A network that settles and its rule: the one that a SettlingRule makes for itself."""
    rule = make()
    draw = rule.make_network if isinstance(rule, SettlingRule) else rule.network_type
    network = draw(inputs, outputs, (32,))
    rule.attach(network)
    return network, rule


PROMISES = (
    fills_gradients,
    keeps_no_graph,
    prediction_changes_nothing,
    same_seed_same_gradient,
    does_not_reseed,
    state_round_trips,
    batch_order_does_not_matter,
)
