"""The HSIC bottleneck of a window: what its remembered samples say about the current one, which is the last.

N samples in a window          K (… N × N)  Gram matrices of input, targets and activity        Q = K_x - gamma K_y
z (… N × D)  activities        ρ_q = K_z[N, q] (z_N - z_q) / ℓ²,  ℓ = sigma √D                  m_q  mean of Q's row q

Dots stand for networks side by side, which share their input. A modulator is dL/dz_N of

    L = HSIC(X, Z) - gamma HSIC(Y, Z),  HSIC(A, B) = tr(K_A H K_B H) / (N - 1)²

or what has been taken for it; it is Σ_q w_q ρ_q, with numbers w_q that the inputs and targets of the window decide.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from infohebb.functional.hsic import double_centre
from infohebb.functional.kernels import gaussian_gram

Activities = Float[Tensor, "*nets n d"]
Gram = Float[Tensor, "*nets n n"]
Shared = Float[Tensor, "*shared n n"]  # by all networks, or of each
Weights = Float[Tensor, "*shared n-1"]
Rows = Float[Tensor, "*shared rows n"]  # all of Q's, or its last
Weighing = Float[Tensor, "*shared q"]
Factor = Float[Tensor, "*nets d"]


def window_hsic(A: Shared, B: Gram) -> Float[Tensor, "*nets"]:
    """tr(A H B H) / (N - 1)².  [WMH 2.4]"""
    return (double_centre(A) * B).sum((-2, -1)) / (A.shape[-1] - 1) ** 2


def exact_weights(Q: Shared) -> Weights:
    """-2 (Q_Nq - m_N - m_q + m̄): the gradient of L itself.  [WMH 3.1]"""
    means = Q.mean(-1)
    last = Q[..., -1, :-1] - means[..., -1:]
    return -2 * (last - means[..., :-1] + means.mean(-1, keepdim=True))


def row_weights(Q: Rows) -> Weighing:
    """-2 (Q_Nq - m_N): centred over the current sample's row only, as in the paper's first code.  [WMH 3.2]"""
    return -2 * (Q[..., -1, :-1] - Q[..., -1, :].mean(-1, keepdim=True))


def published_weights(Q: Rows) -> Weighing:
    """(2/N) (Q_NN - m_N): that of the published curves; it does not know which samples are alike.  [WMH 3.3]"""
    own = Q[..., -1, -1:] - Q[..., -1, :].mean(-1, keepdim=True)
    return own.mul_(2 / Q.shape[-1]).expand(*Q.shape[:-2], Q.shape[-1] - 1)


def head_weights(Q: Shared) -> Weights:
    """(2/N) (Q_qq - m_q + Q_NN - m_N): that of the published code as it stands today.  [WMH 3.4]"""
    own = Q.diagonal(dim1=-2, dim2=-1) - Q.mean(-1)
    return (own[..., :-1] + own[..., -1:]) * (2 / Q.shape[-1])


MODULATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "exact": exact_weights,
    "row": row_weights,
    "pub": published_weights,
    "head": head_weights,
}


LAST_ROW = frozenset({"row", "pub"})  # modulators that take no more of Q than its last row


def memory_weights(Q: Float[Tensor, "*shared rows n"], modulator: str) -> Float[Tensor, "*shared q"]:
    """What a window's inputs and targets say of each remembered sample: w_q, (N - 1)² included.

    Those of LAST_ROW may be given Q's last row alone (… 1 × N).
    """
    return MODULATORS[modulator](Q) / (Q.shape[-1] - 1) ** 2


def away_from_memory(z: Activities) -> Float[Tensor, "*nets q d"]:
    """z_N - z_q: how far each neuron is from what it remembers."""
    return z[..., -1:, :] - z[..., :-1, :]


def third_factor(away: Float[Tensor, "*nets q d"], weights: Weighing, sigma: float) -> Float[Tensor, "*nets q"]:
    """w_q K_z[N, q] / ℓ²: what all neurons of a layer are told of each remembered sample.  [WMH 3.5]"""
    width = sigma**2 * away.shape[-1]
    similar = torch.linalg.vecdot(away, away).mul_(-0.5 / width).exp_()
    return similar.mul_(weights).div_(width)


def heed(factors: Float[Tensor, "*nets q"], away: Float[Tensor, "*nets q d"]) -> Float[Tensor, "*nets 1 d"]:
    """Σ_q factor_q (z_N - z_q): what a neuron makes of the factors, by its activities now and remembered.  [WMH 3.6]"""
    return factors.unsqueeze(-2) @ away


def modulate_current(z: Activities, weights: Weighing, sigma: float) -> Factor:
    """ξ = Σ_q w_q K_z[N, q] (z_N - z_q) / ℓ²: the global factor of each neuron, from its own activities."""
    away = away_from_memory(z)
    return heed(third_factor(away, weights, sigma), away).squeeze(-2)


def pair_factors(Q: Shared, K: Gram, width: float) -> Gram:
    """-2 Q̃ ∘ K_z / (ℓ² (N - 1)²), Q̃ = H Q H, width = ℓ²: what dL/dz has of each pair of samples."""
    return double_centre(Q) * K * (-2 / (width * (Q.shape[-1] - 1) ** 2))


def weigh_pairs(factors: Gram, z: Activities) -> Activities:
    """Σ_q factor_pq (z_p - z_q): dL/dz, whose row p is the exact modulator with p as the current sample.  [WMH 3.7]"""
    return factors.sum(-1, keepdim=True) * z - factors @ z


def targets_gram(
    targets: Tensor, classes: int, sigma: float, dtype: torch.dtype = torch.float32, *, last: bool = False
) -> Float[Tensor, "rows n"]:
    """K_y of class indices (N), which takes two values, or of numbers (N × d); or the `last` row of it.  [WMH 2.2]"""
    if targets.is_floating_point():
        numbers = targets.to(dtype)
        return _last_row(numbers, sigma) if last else gaussian_gram(numbers, sigma, "per_sqrt_dim")
    same = (targets[-1:, None] if last else targets[:, None]) == targets
    other = math.exp(-1 / (classes * sigma**2))
    return same.to(dtype).mul_(1 - other).add_(other)


def window_coupling(
    inputs: Float[Tensor, "n features"],
    targets: Tensor,
    classes: int,
    gamma: float,
    sigma_x: float,
    sigma_y: float,
    *,
    last: bool = False,
) -> Float[Tensor, "rows n"]:
    """Q = K_x - gamma K_y of a window's inputs and targets; of the `last` row only, if that will do.  [WMH 2.3]"""
    K_y = targets_gram(targets, classes, sigma_y, inputs.dtype, last=last)
    if not last:
        return gaussian_gram(inputs, sigma_x, "per_sqrt_dim").sub_(K_y, alpha=gamma)
    return _last_row(inputs, sigma_x).sub_(K_y, alpha=gamma)


def _last_row(V: Float[Tensor, "n d"], sigma: float) -> Float[Tensor, "1 n"]:
    away = V - V[-1]
    return torch.linalg.vecdot(away, away).mul_(-0.5 / (sigma**2 * V.shape[1])).exp_()[None]
