"""What the tests compare with: the same quantities written the slow way, for autograd to differentiate."""

import math
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "kib"

few = settings(max_examples=20, deadline=None, derandomize=True, database=None)


def golden(name):
    """The arrays of a golden file as tensors, text as it is; only a machine without any shared folder may skip."""
    if not GOLDEN.parents[1].is_dir():
        pytest.skip(f"the golden cases are not on this machine: no folder {GOLDEN.parents[1]}")
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return {key: str(a) if a.dtype.kind == "U" else torch.from_numpy(np.array(a)) for key, a in arrays.items()}


def assert_close(got, expected, rtol=1e-9, message=None, scale=None):
    """Equal to `rtol` of the largest entry: one that cancels to next to nothing has no more digits than the others.

    `scale` stands for the largest entry where all of them may cancel.
    """
    atol = rtol * (expected.abs().max().item() if scale is None else scale)
    torch.testing.assert_close(got, expected, rtol=0, atol=atol, msg=message and (lambda text: f"{message}: {text}"))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symmetric(m, seed=0):
    matrix = normal(m, m, seed=seed)
    return matrix + matrix.T


def derivative(function, *arguments):
    """Of a scalar function by each of its arguments, from autograd."""
    leaves = [argument.detach().clone().requires_grad_() for argument in arguments]
    gradients = torch.autograd.grad(function(*leaves), leaves)
    return gradients[0] if len(leaves) == 1 else gradients


def pairs(V, entry):
    """Gram matrix from its entries, one by one."""
    return torch.stack([torch.stack([entry(a, b) for b in V]) for a in V])


def linear_entry(a, b):
    return (a * b).sum()


def gaussian_entry(sigma):
    return lambda a, b: torch.exp(-((a - b) ** 2).sum() / (2 * sigma**2))


def cosine_entry(a, b):
    if not a.any() or not b.any():
        return 0 * (a * b).sum()
    return (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())


def median_distance(V):
    """Over all pairs of different samples; of an odd number of pairs, so that there is one in the middle."""
    V = V.detach()
    distances = [float(((V[i] - V[j]) ** 2).sum().sqrt()) for i in range(len(V)) for j in range(i)]
    assert len(distances) % 2 == 1
    return statistics.median(distances)


GRAMS = {
    "linear": lambda V, sigma: pairs(V, linear_entry),
    "gaussian": lambda V, sigma: pairs(V, gaussian_entry(sigma)),
    "gaussian_per_sqrt_dim": lambda V, sigma: pairs(V, gaussian_entry(sigma * math.sqrt(V.shape[1]))),
    "gaussian_median": lambda V, sigma: pairs(V, gaussian_entry(sigma * median_distance(V))),
    "cosine": lambda V, sigma: pairs(V, cosine_entry),
}


def one_hot(labels, classes):
    rows = torch.zeros(len(labels), classes, dtype=torch.float64)
    for i, label in enumerate(labels.tolist()):
        rows[i, label] = 1
    return rows


def label_gram(labels, classes):
    """Cosine kernel of one-hot labels minus 1/N."""
    return pairs(one_hot(labels, classes) - 1 / classes, cosine_entry)


def phsic(A, B):
    return (A * B).mean() - A.mean() * B.mean()


def centring(m):
    return torch.eye(m, dtype=torch.float64) - 1 / m


def hsic(A, B):
    H = centring(len(A))
    return torch.trace(A @ H @ B @ H) / len(A) ** 2


def nhsic(A, B, epsilon=1e-5):
    ridge = epsilon * len(A) * torch.eye(len(A), dtype=torch.float64)
    R_A, R_B = (K @ centring(len(K)) @ torch.linalg.inv(K @ centring(len(K)) + ridge) for K in (A, B))
    return torch.trace(R_A @ R_B)


# name: (compression, relevance) of the Gram matrices of layer, labels and input
TERMS = {
    "phsic": lambda K, Y, X: (phsic(K, K), phsic(Y, K)),
    "hsic": lambda K, Y, X: (hsic(K, K), hsic(Y, K)),
    "phsic_bottleneck": lambda K, Y, X: (phsic(X, K), phsic(Y, K)),
    "hsic_bottleneck": lambda K, Y, X: (hsic(X, K), hsic(Y, K)),
    "nhsic_bottleneck": lambda K, Y, X: (nhsic(X, K), nhsic(Y, K)),
}


def cut(z, groups, delta=1.0):
    """Groups of z, one after the other: each centred (m × s), and its smoothed variance (m × 1)."""
    flat = z.flatten(1)
    size = flat.shape[1] // groups
    for alpha in range(groups):
        members = flat[:, alpha * size : (alpha + 1) * size]
        centred = members - members.sum(1, keepdim=True) / size
        yield centred, (delta + (centred**2).sum(1, keepdim=True)) / size


def group_signal(z, groups, power, delta=1.0):
    raised = torch.cat([u**power for _, u in cut(z, groups, delta)], 1)
    return raised - raised.sum(1, keepdim=True) / groups


def divisive_norm(z, groups, power, delta=1.0):
    return torch.cat([centred / u**power for centred, u in cut(z, groups, delta)], 1).reshape(z.shape)
