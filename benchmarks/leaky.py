"""A window of leaky networks side by side, a learning step in each time step, against JAX.

python benchmarks/leaky.py [--json FILE] [--rounds N] [--eager]
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

from infohebb import HSICMemory, LeakyMLP, side_by_side
from infohebb.training.devices import keep_freed_memory
from steps import window_step
from timing import compared, take_turns, tell

try:
    from jax_peers import Peer, leaky_peer
except ImportError:
    Peer = leaky_peer = None

SIZES, WINDOW, CLASSES, NETWORKS, TIME_STEPS = (2, 10, 4, 2), 10, 2, 30, 20
SIGMAS, GAMMA = (0.3, 0.25, 2.0), 10.0
BOUNDS = {f"ours compiled, {modulator} / JAX, {modulator}": "at most 1" for modulator in ("pub", "exact")}


def our_window(x: Tensor, labels: Tensor, modulator: str, *, compiled: bool) -> Callable[[], None]:
    """A window of the library's own rule on networks side by side."""
    networks = [LeakyMLP(SIZES[0], SIZES[-1], SIZES[1:-1], WINDOW, TIME_STEPS) for _ in range(NETWORKS)]
    sigma_x, sigma_y, sigma_z = SIGMAS
    rule = HSICMemory(modulator, gamma=GAMMA, sigma_x=sigma_x, sigma_y=sigma_y, sigma_z=sigma_z)
    return window_step(rule, side_by_side(networks), x, labels, hold=TIME_STEPS, compiled=compiled)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--eager", action="store_true", help="leave the compiled step out")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    x, labels = torch.randn(WINDOW, SIZES[0]), torch.randint(CLASSES, (WINDOW,))
    y = functional.one_hot(labels, CLASSES).float()
    work: dict[str, Callable[[], object]] = {}
    for modulator in ("pub", "exact"):
        work[f"ours, {modulator}"] = our_window(x, labels, modulator, compiled=False)
        if not asked.eager:
            work[f"ours compiled, {modulator}"] = our_window(x, labels, modulator, compiled=True)
        if Peer is not None and leaky_peer is not None:
            peer = Peer(SIGMAS, GAMMA, modulator)
            work[f"JAX, {modulator}"] = leaky_peer(peer, SIZES, NETWORKS, TIME_STEPS, x.numpy(), y.numpy())
    if leaky_peer is None:
        print("JAX is not here, so its rows are left out: pip install infohebb[bench]")
    seconds = take_turns(work, asked.rounds, repeats=2)
    pairs = [(f"{ours}, {m}", f"JAX, {m}") for m in ("pub", "exact") for ours in ("ours", "ours compiled")]
    pairs += [(f"ours, {m}", f"ours compiled, {m}") for m in ("pub", "exact")]
    told = [(over, under, f"{over} / {under}") for over, under in pairs if {over, under} <= work.keys()]
    tell(compared(seconds, told), BOUNDS, asked.json)


if __name__ == "__main__":
    main()
