"""Randomness: one seed for everything, and its state for a checkpoint."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Draw everything inside from `seed`; the caller's random numbers, on CPU and `device`, stay as they were."""
    with torch.random.fork_rng([device] if torch.device(device).type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def random_state() -> dict[str, Any]:
    """The state of torch's generators, on the CPU and on each CUDA device in use."""
    used = torch.cuda.is_initialized()  # asking would otherwise start every GPU
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if used else []}


def restore_random_state(state: dict[str, Any]) -> None:
    """Continue from a state that `random_state` gave."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
