"""Streams of samples and windows, the rules that learn from them, and networks of both versions."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from functional.oracles import normal
from infohebb import HSICBottleneck, HSICMemory, KernelizedBottleneckOnline, Learner, networks
from infohebb.networks.plain import stack_networks

SLOTS, CLASSES = 4, 3
X, LABELS = normal(12, 6, seed=1), torch.tensor([0, 1, 2, 1, 0, 2, 2, 0, 1, 1, 2, 0])
NUMBERS = normal(12, CLASSES, seed=2)
MAPS = normal(12, 2, 6, 6, seed=3)
NORM = {"divisive_norm": {"groups": 4, "power": 0.3, "delta": 0.6}}
TANH = {"nonlinearity": "tanh", "bias": True}
LAYER_NORM = {"norm": "layer", "nonlinearity": "relu", "bias": True, "initial": "lecun"}
OWN_GROUPS = {"groups": 4, "power": 0.8}
RESERVOIR = {"source": "reservoir", "window": SLOTS, "auxiliary_units": 5, "pretraining": 12}
online = partial(KernelizedBottleneckOnline, sigma=0.5)


@dataclass(frozen=True)
class Case:
    """A rule, and a network: the class's name in both versions, its settings, and how many are stacked (0: one)."""

    rule: Any
    settings: dict[str, Any] = field(default_factory=dict)
    kind: str = "MLP"
    stacked: int = 0
    targets: Any = None
    old: type | None = None

    def pair(self):
        """The network of version 1 and that of version 2, of the same weights, in float64."""
        where = {"inputs": 6, "outputs": CLASSES, "widths": (8, 8)} if self.kind != "ConvNet" else CONVOLUTIONAL
        both = []
        for module, stack in ((networks, networks.side_by_side), (networks.plain, stack_networks)):
            torch.manual_seed(0)
            made = [getattr(module, self.kind)(**where, **self.settings).double() for _ in range(self.stacked or 1)]
            both.append(stack(made) if self.stacked else made[0])
        return both

    def batch(self, step):
        """The sample or the window of a step."""
        rows = slice(step, step + (1 if self.rule().consumes == "sample" else SLOTS))
        inputs = MAPS if self.kind == "ConvNet" else X
        return inputs[rows], (LABELS if self.targets is None else self.targets)[rows]

    def learner(self):
        _, network = self.pair()
        torch.manual_seed(1)
        return Learner(network, self.rule())


CONVOLUTIONAL = {"inputs": (2, 6, 6), "outputs": CLASSES, "channels": (4, 3), "pooled": (1,), "widths": (5,)}
ONLINE = {
    "two points": Case(online, NORM),
    "two points, own groups": Case(partial(online, **OWN_GROUPS), TANH),
    "two points, plain": Case(online, TANH),
    "mean activity": Case(partial(online, "mean_activity", gate=False), TANH),
    "trace": Case(partial(online, "trace", rate=0.3), NORM),
    "trace, no gate": Case(partial(online, "trace", gate=False, trace_steps=3.0, **OWN_GROUPS), {"bias": True}),
    "eligibility": Case(partial(online, "eligibility"), NORM | TANH),
    "eligibility, plain": Case(partial(online, "eligibility", gamma=3.0), {}),
}
WINDOWS = {
    "exact": Case(HSICMemory, LAYER_NORM),
    "row": Case(partial(HSICMemory, "row", objective=True), TANH),
    "pub, numbers": Case(partial(HSICMemory, "pub"), LAYER_NORM, targets=NUMBERS),
    "convolutional": Case(HSICMemory, LAYER_NORM | {"pooling": "average"}, kind="ConvNet"),
    "stale": Case(partial(HSICMemory, "head", memory="stale"), LAYER_NORM),
    "reservoir": Case(partial(HSICMemory, **RESERVOIR), TANH),
    "leaky": Case(HSICMemory, {"slots": SLOTS}, kind="LeakyMLP"),
    "leaky, stale": Case(partial(HSICMemory, memory="stale"), {"slots": 1}, kind="LeakyMLP"),
    "stacked, stale": Case(partial(HSICMemory, memory="stale"), LAYER_NORM, stacked=2, targets=NUMBERS),
    "stacked, leaky": Case(partial(HSICMemory, objective=True), {"slots": SLOTS}, kind="LeakyMLP", stacked=2),
}
BATCHES = {"stacked, batches": Case(HSICBottleneck, LAYER_NORM, stacked=2)}
ALL_THAT_KEEP = ["mean activity", "trace", "eligibility, plain", "reservoir", "stale", "stacked, leaky"]
CASES = ONLINE | WINDOWS | BATCHES


def stream(case, steps):
    """Batches of some steps, and options: each is held for a second time step, if it is not a whole batch."""
    held = [{}] if case.rule().consumes == "batch" else [{}, {"onset": False}]
    return [(case.batch(step), options) for step in range(steps) for options in held]


def gradients_of(learner, samples):
    """Gradients after each step of a stream, those of one parameter after those of another."""
    found = []
    for batch, options in samples:
        learner.zero_grad()
        learner.backward(*batch, **options)
        found.append([None if p.grad is None else p.grad.clone() for p in learner.model.parameters()])
    return found


def of_torch():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, CLASSES))
