"""One window step of the working-memory rule, against autograd of the same objective and against JAX.

python benchmarks/window.py [--json FILE] [--rounds N] [--eager]
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

from autograd_window import AutogradWindow
from infohebb import MLP, HSICMemory
from infohebb.training.devices import keep_freed_memory
from steps import window_step
from timing import compared, take_turns, tell

try:
    from jax_peers import Peer, window_peer
except ImportError:
    Peer = window_peer = None

SIZES, WINDOW, CLASSES = (784, 128, 64, 10), 8, 10
BOUNDS = {
    "autograd / ours, exact": "at least 3",
    "autograd / ours compiled, exact": "at least 3",
    "ours compiled, pub / JAX, pub": "at most 1",
    "ours compiled, exact / JAX, exact": "at most 1",
}


def our_step(x: Tensor, labels: Tensor, modulator: str, *, compiled: bool) -> Callable[[], None]:
    """The training step of the library's own rule."""
    parts = {"norm": "layer", "norm_epsilon": 1e-6, "bias": True, "initial": "lecun"}
    network = MLP(SIZES[0], SIZES[-1], SIZES[1:-1], "relu", **parts)
    return window_step(HSICMemory(modulator), network, x, labels, compiled=compiled)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--eager", action="store_true", help="leave the compiled step out")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    x, labels = torch.randn(WINDOW, SIZES[0]), torch.randint(CLASSES, (WINDOW,))
    y = functional.one_hot(labels, CLASSES).float()
    autograd = AutogradWindow(SIZES)
    work: dict[str, Callable[[], object]] = {"autograd": lambda: autograd.step(x, y)}
    for modulator in ("pub", "exact"):
        work[f"ours, {modulator}"] = our_step(x, labels, modulator, compiled=False)
        if not asked.eager:
            work[f"ours compiled, {modulator}"] = our_step(x, labels, modulator, compiled=True)
        if Peer is not None and window_peer is not None:
            work[f"JAX, {modulator}"] = window_peer(Peer(modulator=modulator), SIZES, x.numpy(), y.numpy())
    if window_peer is None:
        print("JAX is not here, so its rows are left out: pip install infohebb[bench]")
    pairs = [(over, f"{ours}, exact") for over in ("autograd",) for ours in ("ours", "ours compiled")]
    pairs += [(f"{ours}, {m}", f"JAX, {m}") for m in ("pub", "exact") for ours in ("ours", "ours compiled")]
    pairs = [pair for pair in [*pairs, ("autograd", "JAX, exact")] if set(pair) <= work.keys()]
    seconds = take_turns(work, asked.rounds, repeats=2)
    told = [(over, under, f"{over} / {under}") for over, under in pairs]
    tell(compared(seconds, told), BOUNDS, asked.json)


if __name__ == "__main__":
    main()
