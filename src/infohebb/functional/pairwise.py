"""The rules of the kernelized bottleneck as the paper writes them: a sum over pairs of moments i and j.

These are the equations to read; training uses the batch forms, which are equal to them and cost no more than a forward
pass. Each pair's term needs what the synapse saw at two moments and one scalar, the third factor.

x (m × n')  presynaptic activity   z (m × n)   activity       f' (m × n)  slope of the nonlinearity at each moment
K (m × m)   Gram matrix            K°, Y°      centred        sigma       width of the Gaussian kernel
c groups of s neurons              v (m × c)   group signal   r (m × n)   divisively normalised activity
All return minus dL/dW, the update (n × n').
"""

import torch
from jaxtyping import Float
from torch import Tensor

from infohebb.functional import online
from infohebb.functional.hsic import centre
from infohebb.functional.kernels import Gram

Pre = Float[Tensor, "m inputs"]
Post = Float[Tensor, "m outputs"]
Weight = Float[Tensor, "outputs inputs"]
Slopes = Float[Tensor, "m m outputs inputs"]


def pair_sum(K: Gram, Y: Gram, kernel_slopes: Slopes, gamma: float = 2.0) -> Weight:
    """(1/m²) Σ_ij (gamma Y°_ij - 2 K°_ij) dK_ij/dW, whatever the kernel.  [KIB eq. 10]"""
    teaching = gamma * centre(Y) - 2 * centre(K)
    return torch.einsum("ij,ijab->ab", teaching, kernel_slopes) / K.numel()


def gaussian_slopes(x: Pre, z: Post, slope: Post, K: Gram, sigma: float) -> Slopes:
    """dK_ij/dW = -(K_ij/σ²) (f'_i (z_i - z_j) x_iᵀ - f'_j (z_i - z_j) x_jᵀ)."""
    difference = z[:, None] - z[None]
    at_i = torch.einsum("ia,ija,ib->ijab", slope, difference, x)
    at_j = torch.einsum("ja,ija,jb->ijab", slope, difference, x)
    return -(K / sigma**2)[:, :, None, None] * (at_i - at_j)


def linear_slopes(x: Pre, z: Post, slope: Post) -> Slopes:
    """dK_ij/dW = f'_i z_j x_iᵀ + f'_j z_i x_jᵀ."""
    at_i = torch.einsum("ia,ja,ib->ijab", slope, z, x)
    return at_i + at_i.transpose(0, 1)


def cosine_slopes(x: Pre, z: Post, slope: Post, K: Gram) -> Slopes:
    """dK_ij/dW = f'_i (ẑ_j - K_ij ẑ_i)/|z_i| x_iᵀ + f'_j (ẑ_i - K_ij ẑ_j)/|z_j| x_jᵀ."""
    norms = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    unit = z / norms
    direction = (unit[None] - K[:, :, None] * unit[:, None]) / norms[:, None]
    at_i = torch.einsum("ia,ija,ib->ijab", slope, direction, x)
    return at_i + at_i.transpose(0, 1)


def pair_factor(K: Gram, Y: Gram, sigma: float, gamma: float = 2.0) -> Gram:
    """M_ij = -(1/σ²) (gamma Y°_ij - 2 K°_ij) K_ij: the third factor of a pair of moments."""
    return online.pair_factor(K, Y, K.mean(), Y.mean(), sigma, gamma)


def gaussian_pair_rule(x: Pre, z: Post, slope: Post, M: Gram) -> Weight:
    """(1/m²) Σ_ij M_ij (f'_i (z_i - z_j) x_iᵀ - f'_j (z_i - z_j) x_jᵀ).  [KIB eq. 12]

    With f' = 1 the bracket is (z_i - z_j)(x_i - x_j)ᵀ: a change of activity times a change of input.
    """
    update = torch.zeros(z.shape[1], x.shape[1], dtype=z.dtype, device=z.device)
    for i in range(len(z)):
        for j in range(len(z)):
            change = z[i] - z[j]
            update += M[i, j] * (torch.outer(slope[i] * change, x[i]) - torch.outer(slope[j] * change, x[j]))
    return update / M.numel()


def grouped_slopes(
    x: Pre, r: Post, slope: Post, v: Float[Tensor, "m c"], K: Gram, sigma: float, power: float = 0.8
) -> Slopes:
    """dK_ij/dW = -(2 power / s) (K_ij/σ²) (v_i - v_j)_group (f'_i r_i x_iᵀ - f'_j r_j x_jᵀ).  [KIB eq. 16]"""
    size = r.shape[1] // v.shape[1]
    difference = (v[:, None] - v[None]).repeat_interleave(size, 2)
    hebb = torch.einsum("ia,ia,ib->iab", slope, r, x)
    scale = -(2 * power / size) * (K / sigma**2)[:, :, None, None]
    return scale * difference[..., None] * (hebb[:, None] - hebb[None])


def grouped_pair_rule(x: Pre, r: Post, slope: Post, v: Float[Tensor, "m c"], M: Gram, power: float = 0.8) -> Weight:
    """(2 power / s m²) Σ_ij M_ij (v_i - v_j)_group (f'_i r_i x_iᵀ - f'_j r_j x_jᵀ), pair by pair."""
    size = r.shape[1] // v.shape[1]
    update = torch.zeros(r.shape[1], x.shape[1], dtype=r.dtype, device=r.device)
    for i in range(len(r)):
        for j in range(len(r)):
            third_factor = (M[i, j] * (v[i] - v[j])).repeat_interleave(size)
            hebb = torch.outer(slope[i] * r[i], x[i]) - torch.outer(slope[j] * r[j], x[j])
            update += third_factor[:, None] * hebb
    return update * (2 * power / (size * M.numel()))
