"""A window of leaky networks side by side, a learning step in each time step, against JAX.

python benchmarks/leaky.py [--json FILE] [--rounds N] [--eager]
"""

import os
from collections.abc import Callable
from functools import partial

# One thread for JAX too, which reads this when it is imported.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import torch
from torch import Tensor
from torch.nn import functional

from infohebb import HSICMemory
from infohebb.networks import LeakyMLP, side_by_side
from steps import window_step
from streamed import asked_for, measure

try:
    from jax_peers import Peer, leaky_peer
except ImportError:
    Peer = leaky_peer = None

SIZES, WINDOW, CLASSES, NETWORKS, TIME_STEPS = (2, 10, 4, 2), 10, 2, 30, 20
SIGMAS, GAMMA = (0.3, 0.25, 2.0), 10.0
BOUNDS = {f"ours compiled, {modulator} / JAX, {modulator}": "at most 1" for modulator in ("pub", "exact")}


def our_window(x: Tensor, labels: Tensor, modulator: str, compiled: bool) -> Callable[[], None]:
    """A window of the library's own rule on networks side by side."""
    networks = [LeakyMLP(SIZES[0], SIZES[-1], SIZES[1:-1], WINDOW, TIME_STEPS) for _ in range(NETWORKS)]
    sigma_x, sigma_y, sigma_z = SIGMAS
    rule = HSICMemory(modulator, gamma=GAMMA, sigma_x=sigma_x, sigma_y=sigma_y, sigma_z=sigma_z)
    return window_step(rule, side_by_side(networks), x, labels, hold=TIME_STEPS, compiled=compiled)


def main() -> None:
    """Measure and tell."""
    asked = asked_for(__doc__, rounds=100)
    x, labels = torch.randn(WINDOW, SIZES[0]), torch.randint(CLASSES, (WINDOW,))
    y, jax = functional.one_hot(labels, CLASSES).float(), None
    if Peer is not None and leaky_peer is not None:
        options = (SIZES, NETWORKS, TIME_STEPS, x.numpy(), y.numpy())
        jax = lambda modulator: leaky_peer(Peer(SIGMAS, GAMMA, modulator), *options)  # noqa: E731
    measure(asked, partial(our_window, x, labels), jax, BOUNDS, {})


if __name__ == "__main__":
    main()
