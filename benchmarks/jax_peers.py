"""The working-memory rule in jitted JAX: one window step of an MLP, and one window of leaky networks side by side.

python benchmarks/jax_peers.py --check [GOLDEN]   worst deviations from the golden cases, in float64

x (N, inputs), y (N, classes)  a window, its last row current; weights are (inputs, outputs), networks side by side lead
z  activities     c, ξ  cotangent of the current activity     d  its way back through norm and ReLU

JAX is an extra of the benchmarks: pip install infohebb[bench]
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

try:
    import jax
    from jax import numpy as jnp
except ImportError:
    if __name__ == "__main__":
        sys.exit("JAX is not here: pip install infohebb[bench]")
    raise

EPS = 1e-6


class Peer(NamedTuple):
    """The rule's numbers and the optimizer's."""

    sigmas: tuple[float, float, float] = (0.5, 0.1, 1.0)
    gamma: float = 2.0
    modulator: str = "pub"
    rate: float = 1e-4
    decay: float = 1e-4
    leak: float = 0.2


class State(NamedTuple):
    """Weights and biases of each layer, the optimizer's two moments of them, and its steps so far."""

    layers: Any
    mean: Any
    square: Any
    steps: Any


def fresh(layers: Any) -> State:
    """The state before the first step."""
    layers = jax.tree.map(jnp.array, layers)
    mean, square = (jax.tree.map(jnp.zeros_like, layers) for _ in range(2))
    return State(layers, mean, square, jnp.zeros((), jnp.int32))


def adamw(peer: Peer, state: State, slopes: Any) -> State:
    """One step of AdamW."""
    steps = state.steps + 1
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state.mean, slopes)
    square = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, state.square, slopes)
    dtype = mean[0][0].dtype
    first, second = (1 - jnp.power(jnp.asarray(b, dtype), steps) for b in (0.9, 0.99))
    inverse = 1 / jnp.sqrt(second)

    def move(p: Any, m: Any, v: Any) -> Any:
        return p - peer.rate * (m / first / (jnp.sqrt(v) * inverse + 1e-8) + peer.decay * p)

    return State(jax.tree.map(move, state.layers, mean, square), mean, square, steps)


def gram(v: Any, sigma: float) -> Any:
    """Gaussian kernel of all rows, its width scaled by √d; distances come from a product of centred rows."""
    v = v - v.mean(0)
    products = v @ v.T
    norms = jnp.diagonal(products)
    return jnp.exp(jnp.minimum(products - norms[:, None] / 2 - norms / 2, 0) / (sigma**2 * v.shape[1]))


def last_row(v: Any, sigma: float) -> Any:
    """The current sample's row of the Gaussian kernel."""
    return jnp.exp(-jnp.square(v - v[-1]).mean(1) / (2 * sigma**2))


def memory_weights(peer: Peer, x: Any, y: Any) -> Any:
    """w_q of ξ = Σ_q w_q K_z[N, q] (z_N - z_q) / σ² D, for all layers."""
    n, (sigma_x, sigma_y, _) = len(x), peer.sigmas
    if peer.modulator == "pub":
        row = last_row(x, sigma_x) - peer.gamma * last_row(y, sigma_y)
        weights = jnp.full(n - 1, 2 / n) * (row[-1] - row.mean())
    else:
        Q = gram(x, sigma_x) - peer.gamma * gram(y, sigma_y)
        means = Q.mean(1)
        if peer.modulator == "head":
            own = jnp.diagonal(Q) - means
            weights = 2 / n * (own[:-1] + own[-1])
        else:
            weights = -2 * (Q[-1, :-1] - means[-1] - means[:-1] + means.mean())
    return weights / (n - 1) ** 2


def modulate(z: Any, weights: Any, sigma: float) -> Any:
    """ξ of the current sample, the last row of z."""
    away = z[-1] - z[:-1]
    similar = jnp.exp(-jnp.square(away).mean(1) / (2 * sigma**2))
    return (weights * similar) @ away / (sigma**2 * z.shape[1])


def norm(h: Any) -> tuple[Any, Any]:
    """Layer norm of rows and the deviation it divided by."""
    centred = h - h.mean(1, keepdims=True)
    deviation = jnp.sqrt(jnp.square(centred).mean(1, keepdims=True) + EPS)
    return centred / deviation, deviation


def back(c: Any, z: Any, a: Any, deviation: Any) -> Any:
    """The cotangent of the current sample's drive, given that of its normalised activity."""
    return jnp.where(a > 0, (c - c.mean() - z * (c * z).mean()) / deviation, 0)


def hidden_slope(peer: Peer, weights: Any, below: Any, a: Any, z: Any, deviation: Any) -> tuple[Any, Any]:
    """A hidden layer's gradients: the current sample's own."""
    d = back(modulate(z, weights, peer.sigmas[2]), z[-1], a[-1], deviation[-1])
    return jnp.outer(below[-1], d), d


def window_step(peer: Peer, state: State, x: Any, y: Any) -> State:
    """One step of the feed-forward network."""
    weights, z, slopes = memory_weights(peer, x, y), x, []
    for W, b in state.layers[:-1]:
        below, a = z, z @ W + b
        z, deviation = norm(jax.nn.relu(a))
        slopes.append(hidden_slope(peer, weights, below, a, z, deviation))
    W, b = state.layers[-1]
    d = (jax.nn.softmax(z @ W + b) - y) / len(x)
    return adamw(peer, state, [*slopes, (z.T @ d, d.sum(0))])


def leaky_slopes(peer: Peer, weights: Any, x: Any, y: Any, layers: Any, potentials: Any) -> tuple[Any, Any]:
    """One time step of one network: its potentials after it, and the gradients of its weights."""
    z, after, slopes = x, [], []
    for (W, b), u in zip(layers, potentials, strict=True):
        below, a = z, u + peer.leak * (z @ W + b - u)
        after.append(a)
        if len(after) < len(layers):
            z, deviation = norm(jax.nn.relu(a))
            slopes.append(hidden_slope(peer, weights, below, a, z, deviation))
        else:
            d = (jax.nn.softmax(a) - y) / len(x)
            slopes.append((below.T @ d, d.sum(0)))
    return after, jax.tree.map(lambda g: peer.leak * g, slopes)


def leaky_window(peer: Peer, time_steps: int, held: tuple[State, Any], x: Any, y: Any) -> tuple[State, Any]:
    """A window of time steps of networks side by side, each with an update of everything."""
    weights = memory_weights(peer, x, y)
    slopes_of_all = jax.vmap(partial(leaky_slopes, peer, weights, x, y))

    def one(held: tuple[State, Any], _: None) -> tuple[tuple[State, Any], None]:
        state, potentials = held
        potentials, slopes = slopes_of_all(state.layers, potentials)
        return (adamw(peer, state, slopes), potentials), None

    return jax.lax.scan(one, held, length=time_steps)[0]


def still(layers: Any, rows: int) -> Any:
    """Potentials of zero for networks side by side, of each layer (networks, rows, units)."""
    return [jnp.zeros((b.shape[0], rows, b.shape[1]), b.dtype) for _, b in layers]


def running(step: Callable[..., Any], held: Any, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """A jitted step that takes its state's memory over, and waits for its end."""
    jitted, window = jax.jit(step, donate_argnums=0), (jnp.asarray(x), jnp.asarray(y))

    def run() -> None:
        nonlocal held
        held = jax.block_until_ready(jitted(held, *window))

    return run


def random_layers(sizes: tuple[int, ...], networks: tuple[int, ...] = ()) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights of variance 1 / inputs and biases of zero."""
    draws = np.random.default_rng(0)
    return [
        ((draws.standard_normal((*networks, i, o)) / i**0.5).astype("f"), np.zeros((*networks, o), "f"))
        for i, o in pairwise(sizes)
    ]


def window_peer(peer: Peer, sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """The window step of an MLP of these layer sizes, ready to be timed."""
    return running(partial(window_step, peer), fresh(random_layers(sizes)), x, y)


def leaky_peer(
    peer: Peer, sizes: tuple[int, ...], networks: int, time_steps: int, x: np.ndarray, y: np.ndarray
) -> Callable[[], None]:
    """The window of leaky networks side by side, ready to be timed."""
    layers = random_layers(sizes, (networks,))
    held = (fresh(layers), still(layers, len(x)))
    return running(partial(leaky_window, peer, time_steps), held, x, y)


def deviation(found: Any, golden: np.ndarray) -> float:
    """Worst |found - golden| / (1e-3 + |golden|)."""
    return float(np.max(np.abs(np.asarray(found) - golden) / (1e-3 + np.abs(golden))))


def parameters(case: Any, prefix: str, cell: str, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases of a golden case."""
    return [tuple(case[f"{prefix}_{cell}_{place}_{part}"] for part in ("kernel", "bias")) for place in range(count)]


def check_window(case: Any, rule: str) -> dict[str, float]:
    """The feed-forward golden case: four windows with AdamW."""
    peer = Peer(tuple(case["sigmas"]), float(case["gamma"]), rule, float(case["lr_adamw"]))
    n, x, y = int(case["N"]), case["X"], case["Y"]
    state, found = fresh(parameters(case, "p0", "Dense", 2)), {}
    slopes = jax.tree.map(lambda m: m / 0.1, window_step(peer, state, x[:n], y[:n]).mean)
    golden = parameters(case, f"grad_biohsic_{rule}", "Dense", 2)
    found["gradients"] = max(jax.tree.leaves(jax.tree.map(deviation, slopes, golden)))
    step = jax.jit(partial(window_step, peer))
    for place in range(4):
        state = step(state, x[place : place + n], y[place : place + n])
        if place in (0, 3):
            golden = parameters(case, f"p{place + 1}_biohsic_{rule}_adamw", "Dense", 2)
            found[f"AdamW, step {place + 1}"] = max(jax.tree.leaves(jax.tree.map(deviation, state.layers, golden)))
    return {f"window, {rule}, {name}": worst for name, worst in found.items()}


def check_leaky(case: Any, rule: str) -> dict[str, float]:
    """The leaky golden case: three windows of time steps, two networks side by side that are the same."""
    leak = float(case["dt"] / case["tau"])
    peer = Peer(tuple(case["sigmas"]), float(case["gamma"]), rule, float(case["lr_adamw"]), leak=leak)
    n, x, y = int(case["N"]), case["X"], case["Y"]
    pair = jax.tree.map(lambda p: jnp.stack([p, p]), parameters(case, "p0", "LIFDenseCell", 3))
    held, found = (fresh(pair), still(pair, n)), {}
    step = jax.jit(partial(leaky_window, peer, int(case["ntimesteps"])))
    for place in range(3):
        held = step(held, x[place : place + n], y[place : place + n])
        prefix = f"w{place + 1}_{rule}_adamw"
        golden = [parameters(case, prefix, "LIFDenseCell", 3), [case[f"{prefix}_u{layer}"] for layer in range(3)]]
        off = jax.tree.map(deviation, [held[0].layers, held[1]], golden)
        found[f"leaky, {rule}, AdamW, window {place + 1}"] = max(jax.tree.leaves(off))
    return found


def check(golden: Path) -> float:
    """Print the worst deviation of each golden case, and give the worst of all."""
    jax.config.update("jax_enable_x64", True)
    found: dict[str, float] = {}
    for rule in ("pub", "head"):
        found |= check_window(np.load(golden / "ff_one_hidden.npz"), rule)
        found |= check_leaky(np.load(golden / "lif.npz"), rule)
    for name, worst in found.items():
        print(f"{name:<40} {worst:.1e}")
    return max(found.values())


def main() -> None:
    """Compare with the golden cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, nargs="?", const=Path("../shared/golden/wmh"), required=True)
    golden = parser.parse_args().check
    if not (golden / "lif.npz").exists():
        sys.exit(f"{golden} holds no golden cases: give their folder after --check")
    sys.exit(check(golden) > 1e-9)


if __name__ == "__main__":
    main()
