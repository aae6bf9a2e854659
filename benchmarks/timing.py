"""Ratios of times inside one run: what is compared takes turns, so that a noisy machine disturbs all alike."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def take_turns(work: dict[str, Callable[[], object]], rounds: int = 25, repeats: int = 10) -> dict[str, list[float]]:
    """Seconds per call of each piece of work, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(-2, rounds):
        for name, call in work.items():
            synchronize()
            began = time.perf_counter()
            for _ in range(repeats):
                call()
            synchronize()
            if turn >= 0:
                seconds[name].append((time.perf_counter() - began) / repeats)
    return seconds


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(seconds: dict[str, list[float]], over: str, under: str) -> float:
    """Median over rounds of one time over another of the same round."""
    return statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))


def ratio_of_best(seconds: dict[str, list[float]], over: str, under: str) -> float:
    """Best round of one over best round of the other: what an undisturbed machine would show."""
    return min(seconds[over]) / min(seconds[under])


def compared(seconds: dict[str, list[float]], pairs: list[tuple[str, str, str]]) -> dict[str, float]:
    """Ratios of (over, under, name), medians and best rounds, and the best round of each in milliseconds."""
    figures = {name: ratio(seconds, over, under) for over, under, name in pairs}
    best = {f"{name} (best rounds)": ratio_of_best(seconds, over, under) for over, under, name in pairs}
    return figures | best | {f"{name} (ms, best round)": 1e3 * min(times) for name, times in seconds.items()}


def tell(figures: dict[str, float], bounds: dict[str, str], path: Path | None) -> None:
    """Print each figure beside what it must reach, and write them to a JSON file if asked."""
    for name, value in figures.items():
        print(f"{name:<58} {value:8.3g}   {bounds.get(name, '')}".rstrip())
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n")
