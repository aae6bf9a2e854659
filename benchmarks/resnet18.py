"""One training step of ResNet-18 for 32 × 32 images: its time and the memory that it needs, beside backprop's."""

from collections.abc import Callable

import torch
from torch import Tensor

from infohebb import Backprop, KernelizedBottleneck, Learner
from infohebb.rules.contract import LearningRule
from learner import peak_of
from resnets import UNITS, resnet18
from timing import compared, take_turns

MIB = 2**20
BOUNDS = {"kib / backprop: step": "a step runs", "kib / backprop: peak storage": "below 1"}


def measure_step(width: int = 64, batch: int = 128, rounds: int = 7, groups: int | None = None) -> dict[str, float]:
    """Return the ratios of both rules' steps within this run, seconds and MiB; channels last, float32.

    `groups` of the cosine kernel: None compares whole activities.
    """
    x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,))
    rules = {"kib": KernelizedBottleneck(kernel="cosine", groups=groups), "backprop": Backprop()}
    learners = {name: make(rule, width) for name, rule in rules.items()}
    peaks = {name: peak_of(each, x, labels) for name, each in learners.items()}
    seconds = take_turns({name: step_of(each, x, labels) for name, each in learners.items()}, rounds, repeats=1)
    return {
        **compared(seconds, [("kib", "backprop", "kib / backprop: step")]),
        "kib / backprop: peak storage": peaks["kib"] / peaks["backprop"],
        **{f"{name}: peak storage (MiB)": peak / MIB for name, peak in peaks.items()},
    }


def make(rule: LearningRule, width: int) -> Learner:
    """Return a learner on a network of its own."""
    torch.manual_seed(0)
    return Learner(resnet18(width).to(memory_format=torch.channels_last), rule, UNITS, "fc")


def step_of(learner: Learner, x: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return a training step: gradients, then SGD with momentum."""
    optimizer = torch.optim.SGD(learner.param_groups(units=1e-3, head=1e-3), momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        learner.backward(x, labels)
        optimizer.step()

    return run
