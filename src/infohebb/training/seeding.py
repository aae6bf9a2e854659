"""Randomness: one seed for everything, and its state for a checkpoint."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from infohebb.networks.plain.randomness import restored_random_state


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Draw everything inside from `seed`; the caller's random numbers, on CPU and `device`, stay as they were.

    Threads take turns: torch's global generators belong to the process, so that one thread at a time may be inside. A
    thread that is may enter again, but must not wait there for another one that wants to.
    """
    with restored_random_state([device] if torch.device(device).type == "cuda" else []):
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
