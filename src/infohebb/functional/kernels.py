"""Gram matrices of a batch, and the coupling that carries a derivative from a Gram matrix back to the batch.

V (m × d)  one row per sample        K (m × m)  Gram matrix of the rows of V
G (m × m)  dL/dK, symmetric          Q (m × m)  coupling, symmetric: dL/dV = Q V for each kernel here
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from infohebb.functional.readout import one_hot

Rows = Float[Tensor, "m d"]
Gram = Float[Tensor, "m m"]
Bandwidth = Literal["absolute", "per_sqrt_dim", "median"]


class Kernel(NamedTuple):
    """A kernel: its Gram matrix `gram(V) -> K` and its coupling `coupling(V, K, G) -> Q`."""

    gram: Callable[[Tensor], Tensor]
    coupling: Callable[[Tensor, Tensor, Tensor], Tensor]


def linear_gram(V: Rows) -> Gram:
    """Linear kernel, K_ij = <v_i, v_j>."""
    return V @ V.T


def linear_coupling(V: Rows, K: Gram, G: Gram) -> Gram:
    """Coupling of the linear kernel, Q = 2 G."""
    del V, K
    return 2 * G


def bandwidth(V: Float[Tensor, "*nets m d"], sigma: float, scaling: Bandwidth = "absolute") -> float:
    """Width of the Gaussian: sigma, sigma √d, or sigma times the median distance of two different samples.  [WMH 2.1]

    The median (the lower one of an even number of pairs; 1 if it is 0) is a constant of the batch: no derivative flows
    through it.
    """
    if scaling == "absolute":
        return sigma
    if scaling == "per_sqrt_dim":
        return sigma * math.sqrt(V.shape[-1])
    median = torch.pdist(V).median().item() if len(V) > 1 else 0.0
    return sigma * (median or 1.0)


def gaussian_gram(
    V: Float[Tensor, "*nets m d"], sigma: float = 5.0, scaling: Bandwidth = "absolute"
) -> Float[Tensor, "*nets m m"]:
    """Gaussian kernel, K_ij = exp(-|v_i - v_j|² / 2σ²), with a diagonal of exactly one; of several V at once, too.

    The distances come from one matrix product of the centred rows: centring keeps the digits that float32 has.
    """
    scaled = (V - V.mean(-2, keepdim=True)).div_(bandwidth(V, sigma, scaling))
    exponent = scaled @ scaled.mT
    half_norms = exponent.diagonal(dim1=-2, dim2=-1) / 2
    return exponent.sub_(half_norms.unsqueeze(-1)).sub_(half_norms.unsqueeze(-2)).clamp_(max=0).exp_()


def gaussian_coupling(V: Rows, K: Gram, G: Gram, sigma: float = 5.0, scaling: Bandwidth = "absolute") -> Gram:
    """Coupling of the Gaussian kernel, Q = -(2/σ²) (diag(S 1) - S) with S = G ∘ K: a graph Laplacian.

    The diagonal of S cancels on paper; in floating point it would bury the small entries, so it is set to zero.
    """
    width = bandwidth(V, sigma, scaling)
    Q = (G * K).fill_diagonal_(0).mul_(2 / width**2)
    row_sums = Q.sum(1)
    Q.diagonal().sub_(row_sums)
    return Q


def inverse_norms(V: Rows) -> Float[Tensor, "m"]:
    """1 / |v_i|, and 0 for a zero row, so that such a row neither acts nor learns."""
    norms = torch.linalg.vector_norm(V, dim=1)
    return torch.where(norms > 0, 1 / norms, 0)


def cosine_gram(V: Rows) -> Gram:
    """Cosine kernel, K_ij = <v_i, v_j> / |v_i| |v_j|; a zero row gives zeros."""
    unit = V * inverse_norms(V)[:, None]
    return unit @ unit.T


def cosine_coupling(V: Rows, K: Gram, G: Gram) -> Gram:
    """Coupling of the cosine kernel, Q_ij = 2 G_ij / |v_i||v_j| - δ_ij 2 Σ_k G_ik K_ik / |v_i|²."""
    inverse = inverse_norms(V)
    Q = 2 * G * torch.outer(inverse, inverse)
    Q.diagonal().sub_(2 * (G * K).sum(1) * inverse.square())
    return Q


def linear() -> Kernel:
    """The linear kernel."""
    return Kernel(linear_gram, linear_coupling)


def gaussian(sigma: float = 5.0, scaling: Bandwidth = "absolute") -> Kernel:
    """The Gaussian kernel of width `sigma`, taken as it is, per √d, or in units of the median distance."""
    return Kernel(
        partial(gaussian_gram, sigma=sigma, scaling=scaling),
        partial(gaussian_coupling, sigma=sigma, scaling=scaling),
    )


def cosine() -> Kernel:
    """The cosine-similarity kernel."""
    return Kernel(cosine_gram, cosine_coupling)


def label_gram(labels: Int[Tensor, "m"], classes: int, dtype: torch.dtype = torch.float32) -> Gram:
    """Label kernel of balanced classes: 1 for the same class, -1/(N-1) for different ones.

    It is the cosine kernel of one-hot labels minus 1/N, in closed form.
    """
    one = torch.ones((), dtype=dtype, device=labels.device)
    return torch.where(labels[:, None] == labels, one, -1 / max(classes - 1, 1))


def label_gram_frequency_centred(labels: Int[Tensor, "m"], frequencies: Float[Tensor, "classes"]) -> Gram:
    """Label kernel of unbalanced classes: linear kernel of one-hot minus frequencies, with mean zero for each class."""
    centred = one_hot(labels, len(frequencies), frequencies.dtype) - frequencies
    return centred @ centred.T


def label_gram_inverse_frequency(labels: Int[Tensor, "m"], frequencies: Float[Tensor, "classes"]) -> Gram:
    """Label kernel of unbalanced classes: (δ_ab / p_a - 1) / (N - 1), with mean zero for each class.

    With equal frequencies it is `label_gram`.
    """
    same = (labels[:, None] == labels).to(frequencies.dtype)
    return (same / frequencies[labels] - 1) / max(len(frequencies) - 1, 1)


def class_frequencies(labels: Int[Tensor, "m"], classes: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "c"]:
    """Share of each class in the batch."""
    return torch.bincount(labels, minlength=classes).to(dtype) / len(labels)
