"""Steps of a stream, eager and compiled, beside JAX where it is installed, by turns in one run on one thread."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from infohebb.training.devices import keep_freed_memory
from timing import compared, take_turns, tell

Call = Callable[[], object]
MODULATORS = ("pub", "exact")


def asked_for(words: str | None, rounds: int) -> argparse.Namespace:
    """What the command line asks for; one thread, and memory that is kept, from here on."""
    parser = argparse.ArgumentParser(description=words)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--eager", action="store_true", help="leave the compiled step out")
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    return parser.parse_args()


def measure(
    asked: argparse.Namespace,
    ours: Callable[[str, bool], Call],
    jax: Callable[[str], Call] | None,
    bounds: dict[str, str],
    others: Mapping[str, Call],
) -> None:
    """Time `ours(modulator, compiled)` and `jax(modulator)` by turns with the others, and tell their ratios."""
    work: dict[str, Call] = dict(others)
    for modulator in MODULATORS:
        work[f"ours, {modulator}"] = ours(modulator, False)
        if not asked.eager:
            work[f"ours compiled, {modulator}"] = ours(modulator, True)
        if jax is not None:
            work[f"JAX, {modulator}"] = jax(modulator)
    if jax is None:
        print("JAX is not here, so its rows are left out: pip install infohebb[bench]")
    pairs = [(other, f"{name}, exact") for other in others for name in ("ours", "ours compiled", "JAX")]
    pairs += [(f"{name}, {m}", f"JAX, {m}") for m in MODULATORS for name in ("ours", "ours compiled")]
    pairs += [(f"ours, {m}", f"ours compiled, {m}") for m in MODULATORS]
    told = [(over, under, f"{over} / {under}") for over, under in pairs if {over, under} <= work.keys()]
    tell(compared(take_turns(work, asked.rounds, repeats=2), told), bounds, asked.json)
