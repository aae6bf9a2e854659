"""What a rule is tried on: small networks, one batch, and what can be seen of it there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from infohebb.networks import (
    MLP,
    ConvNet,
    Layered,
    LeakyMLP,
    Residual,
    from_sequential,
)
from infohebb.rules import Diagnostics, LearningRule
from infohebb.rules.base import Signals
from infohebb.testing.contract.networks import settling_networks
from infohebb.training.seeding import seeded

SAMPLES, CLASSES = 6, 3
IMAGE = (2, 4, 4)
LONGEST_WAIT = 64  # calls of `learn`
STREAMED = 3  # samples that a rule takes one by one after it no longer waits: what it keeps of them is there then
Make = Callable[[], LearningRule]


@dataclass(frozen=True)
class Case:
    """A fresh network with its rule attached, and a batch; the same every time it is built.

    `random_states` holds that of torch's generator after each call of `learn`.
    """

    network: Any
    rule: LearningRule
    inputs: Tensor
    targets: Tensor
    random_states: list[Tensor] = field(default_factory=list)

    def learn(self, *, record: bool = False, order: Tensor | None = None, seed: int = 1) -> Diagnostics:
        """Learn from the batch, with empty gradients before, until the rule no longer waits.

        A rule that consumes samples is given them one by one, over and over, and some more when it no longer waits;
        one that consumes windows is given the batch as one, of which the last sample is current, and while it waits
        the next window of these samples in a ring.
        Raises AssertionError for a gradient while it waits, and where it waits for ever.
        """
        order = torch.arange(len(self.inputs)) if order is None else order
        singly, turns = self.rule.consumes == "sample", self.rule.consumes == "window"
        more = STREAMED if singly else 0
        for call in range(LONGEST_WAIT):
            for parameter in self.parameters().values():
                parameter.grad = None
            now = order[call % len(order)][None] if singly else order.roll(-call * turns)
            with seeded(seed + call):
                seen = self.rule.learn(self.network, self.inputs[now], self.targets[now], record=record)
                self.random_states.append(torch.get_rng_state())
            if not seen.waiting and more == 0:
                return seen
            more -= not seen.waiting
            assert not (seen.waiting and self.gradients()), (
                f"the gradient of {next(iter(self.gradients()))} is filled while waiting"
            )
        raise AssertionError(f"still waits after {LONGEST_WAIT} calls of learn")

    def learn_twice(self) -> Diagnostics:
        """Learn from the batch, then once more with all that the rule keeps of it; records the second time."""
        self.learn()
        return self.learn(record=True, seed=2)

    def layer(self, name: str) -> nn.Module:
        """The layer of that name: in the network or, after "rule.", in the rule."""
        whose, _, inside = name.partition(".")
        return self.rule.get_submodule(inside) if whose == "rule" else self.network.get_submodule(name)

    def parameters(self) -> dict[str, nn.Parameter]:
        """All parameters of the network, and those of the rule after "rule.", by name."""
        return {**dict(self.network.named_parameters()), **{f"rule.{k}": p for k, p in self.rule.named_parameters()}}

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

    def received(self) -> dict[str, Tensor]:
        """What each block and the readout receive of the batch, by the layer's name; for networks without dropout."""
        found, x = {}, self.inputs
        with torch.no_grad():
            for name, block in self.network.named_blocks():
                found[name] = (x.flatten(1) if block.geometry is None else x).clone()
                x = block.emit(block.respond(x, learning=True).activity, learning=True)
        return {**found, "readout": x.flatten(1).clone()}


Build = Callable[[], Case]


def residual_network() -> Layered:
    """Blocks that add what they received, of maps with pooling and of rows of numbers."""
    layers = [
        *(nn.Conv2d(IMAGE[0], 8, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2)),
        *(Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.LeakyReLU())), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8, 12), nn.SELU()),
        *(Residual(nn.Sequential(nn.Linear(12, 12), nn.Tanh())), nn.Linear(12, CLASSES)),
    ]
    return from_sequential(nn.Sequential(*layers), IMAGE)


def example_networks(kind: type[nn.Module]) -> dict[str, Callable[[], nn.Module]]:
    """Small networks of a kind on which its rules are tried.

    A settling network of a user's own is one that can be made of inputs, outputs and widths.
    """
    if issubclass(Layered, kind):
        return layered_networks()
    return {name: example.make for name, example in settling_networks(kind).items()}


def layered_networks() -> dict[str, Callable[[], nn.Module]]:
    """Small networks of blocks."""
    make = partial(MLP, IMAGE, CLASSES, (24, 20, 16))
    convolutional = partial(ConvNet, IMAGE, CLASSES, (8, 4), (1,), (12,))
    norm = {"groups": 4, "power": 0.2, "delta": 1.0}
    return {
        "plain": make,
        "divisive norm": partial(make, divisive_norm=norm),
        "batch norm, biases": partial(make, norm="batch", bias=True, nonlinearity="selu"),
        "layer norm": partial(make, norm="layer", nonlinearity="tanh"),
        "dropout": partial(make, divisive_norm=norm, dropout=0.3),
        "convolution": partial(convolutional, bias=True),
        "convolution, divisive norm": partial(convolutional, divisive_norm=norm),
        "convolution, batch norm": partial(convolutional, norm="batch", nonlinearity="leaky_relu"),
        "residual": residual_network,
    }


def leaky_networks(rule: LearningRule) -> dict[str, Callable[[], nn.Module]]:
    """A small network whose potentials go on from step to step, if the rule says that its `learn` moves them."""
    if "potential" not in rule.advances:
        return {}
    return {"leaky": partial(LeakyMLP, IMAGE, CLASSES, (24, 20, 16), slots=SAMPLES)}


def build_case(make_rule: Make, make_network: Callable[[], nn.Module]) -> Case:
    """Network and batch in float64, drawn from one seed; the rule as it is after `attach`."""
    with seeded(0):
        network, rule = make_network().double(), make_rule()
        rule.attach(network)
        inputs = torch.randn(SAMPLES, *IMAGE, dtype=torch.float64)
        return Case(network, rule, inputs, torch.arange(SAMPLES) % CLASSES)


def explain(rule: LearningRule, signals: Signals) -> dict[str, Tensor]:
    """What a rule's `update` makes of signals: of their numbers, and no other trace of where they came from."""
    return rule.update({name: signal.detach().clone() for name, signal in signals.items()})


def close(a: Tensor, b: Tensor, scale: float) -> bool:
    """Equal but for rounding, measured against the largest gradient of the network: some gradients are zero."""
    return bool((a - b).abs().max() <= 1e-9 * max(float(b.abs().max()), 1e-3 * scale))


def largest(tensors: dict[str, Tensor]) -> float:
    """The largest absolute value."""
    return max(float(tensor.abs().max()) for tensor in tensors.values())
