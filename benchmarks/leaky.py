"""A window of leaky networks side by side, a learning step in each time step, against JAX.

python benchmarks/leaky.py [--json FILE] [--rounds N]
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

# One thread for JAX too, which reads this when it is imported.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import torch
from torch import Tensor
from torch.nn import functional

from timing import compared, take_turns, tell

try:
    from jax_peers import Peer, leaky_peer
except ImportError:
    leaky_peer = None

SIZES, WINDOW, CLASSES, NETWORKS, TIME_STEPS = (2, 10, 4, 2), 10, 2, 30, 20
SIGMAS, GAMMA = (0.3, 0.25, 2.0), 10.0
BOUNDS = {f"ours, {modulator} / JAX, {modulator}": "at most 1" for modulator in ("pub", "exact")}


def our_window(x: Tensor, labels: Tensor, modulator: str) -> Callable[[], None] | None:
    """A window of the library's own rule on networks side by side; None while there is none."""
    del x, labels, modulator
    return None


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=100)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, labels = torch.randn(WINDOW, SIZES[0]), torch.randint(CLASSES, (WINDOW,))
    y = functional.one_hot(labels, CLASSES).float()
    work: dict[str, Callable[[], None] | None] = {}
    for modulator in ("pub", "exact"):
        work[f"ours, {modulator}"] = our_window(x, labels, modulator)
        if leaky_peer is not None:
            peer = Peer(SIGMAS, GAMMA, modulator)
            work[f"JAX, {modulator}"] = leaky_peer(peer, SIZES, NETWORKS, TIME_STEPS, x.numpy(), y.numpy())
    if leaky_peer is None:
        print("JAX is not here, so its rows are left out: pip install infohebb[bench]")
    here = {name: call for name, call in work.items() if call is not None}
    seconds = take_turns(here, asked.rounds, repeats=2)
    pairs = [(f"ours, {modulator}", f"JAX, {modulator}") for modulator in ("pub", "exact")]
    told = [(over, under, f"{over} / {under}") for over, under in pairs if {over, under} <= here.keys()]
    tell(compared(seconds, told), BOUNDS, asked.json)


if __name__ == "__main__":
    main()
