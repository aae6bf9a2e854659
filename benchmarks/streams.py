"""Compiled steps of streams by a Learner, beside those of version 1: a stimulus, a window, a window of leaky networks.

    THP_MEM_ALLOC_ENABLE=1 taskset -c 1 python benchmarks/streams.py [--json FILE]         as `make bench` does

Each is a step of learning and of the optimizer in one graph, on one thread. The weights of both are the same but for
rounding (asserted).
"""

import argparse
import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infohebb import HSICMemory, KernelizedBottleneckOnline, Learner, networks
from infohebb.networks import plain
from infohebb.training import make_optimizer
from infohebb.training.compiling import compile_step, every_shape_compiled
from infohebb.training.devices import keep_freed_memory
from timing import compared, take_turns, tell

TIME_STEPS = 20  # of the leaky networks' window
ADAMW = {"name": "adamw", "lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 1e-4}
BOUNDS = {f"{name}, new / old": "at most 1.05" for name in ("stimulus", "window", "leaky window")}


class Work:
    """The same networks, rule, optimizer and batch in the old form and the new one."""

    def __init__(
        self, old: nn.Module, new: nn.Module, rule: Any, options: dict[str, Any], batch: tuple[Tensor, Tensor]
    ):
        for one, other in zip(old.parameters(), new.parameters(), strict=True):
            other.data.copy_(one.data)
        self.old, self.new, self.batch = old, new, batch
        self.old_rule, settings = copy.deepcopy(rule), dict(options)
        self.old_rule.attach(old)
        optimizer = make_optimizer(self.old_rule.groups(old), **options)
        self.old_step = compile_step(self.old_rule, optimizer, whole=True)
        learner = Learner(new, rule)
        learner.compile()
        make = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[settings.pop("name")]
        self.new_step = learner.make_step(make(learner.param_groups(), fused=True, **settings))

    def turns(self, steps: int = 1) -> tuple[Callable[[], None], Callable[[], None]]:
        """Return a call of each, which presents the batch for so many time steps."""

        def run_old() -> None:
            for step in range(steps):
                self.old_step(self.old, *self.batch, onset=step == 0)

        def run_new() -> None:
            for step in range(steps):
                self.new_step(*self.batch, onset=step == 0)

        return run_new, run_old

    def assert_the_same(self) -> None:
        """Both have learned the same."""
        for one, other in zip(self.old.parameters(), self.new.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def stimulus() -> Work:
    """The online rule, 784-256-256-256-10, two-point form, 32 groups, SGD with momentum."""
    sizes = {"inputs": 784, "outputs": 10, "widths": (256, 256, 256), "divisive_norm": {"groups": 32}}
    sgd = {"name": "sgd", "lr": 1e-3, "momentum": 0.95}
    batch = torch.rand(1, 784), torch.tensor([1])
    return Work(networks.MLP(**sizes), plain.MLP(**sizes), KernelizedBottleneckOnline(sigma=0.5), sgd, batch)


def window() -> Work:
    """The working memory's rule, 784-128-64-10, windows of 8."""
    sizes = {"inputs": 784, "outputs": 10, "widths": (128, 64), "nonlinearity": "relu", "bias": True}
    parts = {"norm": "layer", "norm_epsilon": 1e-6, "initial": "lecun"}
    batch = torch.randn(8, 784), torch.randint(10, (8,))
    return Work(networks.MLP(**sizes, **parts), plain.MLP(**sizes, **parts), HSICMemory(), ADAMW, batch)


def leaky_window() -> Work:
    """The same rule on thirty leaky networks 2-10-4-2, windows of 10 that are held for 20 time steps."""
    old = networks.side_by_side([networks.LeakyMLP(slots=10) for _ in range(30)])
    new = plain.stack_networks([plain.LeakyMLP(slots=10) for _ in range(30)])
    rule = HSICMemory(gamma=10.0, sigma_x=0.3, sigma_y=0.25, sigma_z=2.0)
    return Work(old, new, rule, ADAMW, (torch.randn(10, 2), torch.randint(2, (10,))))


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    figures = {}
    for name, work, steps, repeats in (
        ("stimulus", stimulus(), 1, 50),
        ("window", window(), 1, 50),
        ("leaky window", leaky_window(), TIME_STEPS, 3),
    ):
        with every_shape_compiled(work.old):
            new, old = work.turns(steps)
            for _ in range(4):
                new()
                old()
            work.assert_the_same()
            seconds = take_turns({f"{name}, new": new, f"{name}, old": old}, asked.rounds, repeats)
        figures |= compared(seconds, [(f"{name}, new", f"{name}, old", f"{name}, new / old")])
    tell(figures, BOUNDS, asked.json)


if __name__ == "__main__":
    main()
