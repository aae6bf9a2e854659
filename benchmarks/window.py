"""One window step of the working-memory rule, against autograd of the same objective and against JAX.

python benchmarks/window.py [--json FILE] [--rounds N] [--eager]
"""

import os
from collections.abc import Callable
from functools import partial

# One thread for JAX too, which reads this when it is imported.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import torch
from torch import Tensor
from torch.nn import functional

from autograd_window import AutogradWindow
from infohebb import HSICMemory
from infohebb.networks import MLP
from steps import window_step
from streamed import asked_for, measure

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


def our_step(x: Tensor, labels: Tensor, modulator: str, compiled: bool) -> Callable[[], None]:
    """The training step of the library's own rule."""
    parts = {"norm": "layer", "norm_epsilon": 1e-6, "bias": True, "initial": "lecun"}
    network = MLP(SIZES[0], SIZES[-1], SIZES[1:-1], "relu", **parts)
    return window_step(HSICMemory(modulator), network, x, labels, compiled=compiled)


def main() -> None:
    """Measure and tell."""
    asked = asked_for(__doc__, rounds=200)
    x, labels = torch.randn(WINDOW, SIZES[0]), torch.randint(CLASSES, (WINDOW,))
    y = functional.one_hot(labels, CLASSES).float()
    autograd, jax = AutogradWindow(SIZES), None
    if Peer is not None and window_peer is not None:
        jax = lambda modulator: window_peer(Peer(modulator=modulator), SIZES, x.numpy(), y.numpy())  # noqa: E731
    ours = partial(our_step, x, labels)
    measure(asked, ours, jax, BOUNDS, {"autograd": lambda: autograd.step(x, y)})


if __name__ == "__main__":
    main()
