"""Steps of streams by a Learner, compiled and plain, beside version 1's: a stimulus, a window, one of leaky networks.

    THP_MEM_ALLOC_ENABLE=1 taskset -c 1 python benchmarks/streams.py [--json FILE]         as `make bench` does

Each is a step of learning and of the optimizer on one thread, in one graph where it is compiled. All weights are the
same but for rounding (asserted).
"""

import argparse
import copy
import functools
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
    """The same networks, rule, optimizer and batch: version 1 compiled, a Learner compiled, a Learner as it is."""

    def __init__(
        self, old: nn.Module, new: nn.Module, rule: Any, options: dict[str, Any], batch: tuple[Tensor, Tensor]
    ):
        for one, other in zip(old.parameters(), new.parameters(), strict=True):
            other.data.copy_(one.data)
        self.old, self.new, self.plain, self.batch = old, new, copy.deepcopy(new), batch
        old_rule = copy.deepcopy(rule)
        old_rule.attach(old)
        optimizer = make_optimizer(old_rule.groups(old), **options)
        old_step = compile_step(old_rule, optimizer, whole=True)
        self.steps = {
            "new": _step(self.new, copy.deepcopy(rule), options, compiled=True),
            "old": functools.partial(old_step, old),
            "plain": _step(self.plain, rule, options, compiled=False),
        }

    def turns(self, steps: int = 1) -> dict[str, Callable[[], None]]:
        """Return a call of each, which presents the batch for so many time steps."""

        def turn(take_step: Callable[..., Any]) -> Callable[[], None]:
            def run() -> None:
                for step in range(steps):
                    take_step(*self.batch, onset=step == 0)

            return run

        return {name: turn(take_step) for name, take_step in self.steps.items()}

    def assert_the_same(self) -> None:
        """All three have learned the same."""
        for other in (self.new, self.plain):
            for one, another in zip(self.old.parameters(), other.parameters(), strict=True):
                torch.testing.assert_close(one, another, rtol=1e-3, atol=1e-5)


def _step(network: nn.Module, rule: Any, options: dict[str, Any], *, compiled: bool) -> Callable[..., Any]:
    """Return a learner's step, the optimizer's included."""
    learner, settings = Learner(network, rule), dict(options)
    if compiled:
        learner.compile()
    make = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[settings.pop("name")]
    return learner.make_step(make(learner.param_groups(), fused=True, **settings))


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
            turns: dict[str, Callable[[], object]] = {
                f"{name}, {form}": turn for form, turn in work.turns(steps).items()
            }
            for _ in range(4):
                for turn in turns.values():
                    turn()
            work.assert_the_same()
            pairs = ("new", "old", "new / old"), ("plain", "new", "plain / compiled")
            for over, under, title in pairs:  # by two: plain code drives the others' out of caches
                over, under = f"{name}, {over}", f"{name}, {under}"
                seconds = take_turns({key: turns[key] for key in (over, under)}, asked.rounds, repeats)
                for figure, value in compared(seconds, [(over, under, f"{name}, {title}")]).items():
                    figures.setdefault(figure, value)
    tell(figures, BOUNDS, asked.json)


if __name__ == "__main__":
    main()
