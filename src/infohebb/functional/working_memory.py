"""The HSIC bottleneck of a window: what its remembered samples say about the current one, which is the last.

N samples in a window          K (… N × N)  Gram matrices of input, targets and activity        Q = K_x - gamma K_y
z (… N × D)  activities        ρ_q = K_z[N, q] (z_N - z_q) / ℓ²,  ℓ = sigma √D                  m_q  mean of Q's row q

Dots stand for networks side by side, which share their input. A modulator is dL/dz_N of

    L = HSIC(X, Z) - gamma HSIC(Y, Z),  HSIC(A, B) = tr(K_A H K_B H) / (N - 1)²

or what has been taken for it; it is Σ_q w_q ρ_q, with numbers w_q that the inputs and targets of the window decide.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from infohebb.functional.hsic import double_centre

Activities = Float[Tensor, "*nets n d"]
Gram = Float[Tensor, "*nets n n"]
Shared = Float[Tensor, "*shared n n"]  # by all networks, or of each
Weights = Float[Tensor, "*shared n-1"]
Factor = Float[Tensor, "*nets d"]


def window_hsic(A: Shared, B: Gram) -> Float[Tensor, "*nets"]:
    """tr(A H B H) / (N - 1)²."""
    return (double_centre(A) * B).sum((-2, -1)) / (A.shape[-1] - 1) ** 2


def exact_weights(Q: Shared) -> Weights:
    """-2 (Q_Nq - m_N - m_q + m̄): the gradient of L itself."""
    means = Q.mean(-1)
    last = Q[..., -1, :-1] - means[..., -1:]
    return -2 * (last - means[..., :-1] + means.mean(-1, keepdim=True))


def row_weights(Q: Shared) -> Weights:
    """-2 (Q_Nq - m_N): centred over the current sample's row only, as in the first version of the paper's code."""
    return -2 * (Q[..., -1, :-1] - Q[..., -1, :].mean(-1, keepdim=True))


def published_weights(Q: Shared) -> Weights:
    """(2/N) (Q_NN - m_N): that of the published curves; it does not know which samples are alike."""
    own = Q[..., -1, -1:] - Q[..., -1, :].mean(-1, keepdim=True)
    return (own * (2 / Q.shape[-1])).expand(*Q.shape[:-2], Q.shape[-1] - 1)


def head_weights(Q: Shared) -> Weights:
    """(2/N) (Q_qq - m_q + Q_NN - m_N): that of the published code as it stands today."""
    own = Q.diagonal(dim1=-2, dim2=-1) - Q.mean(-1)
    return (own[..., :-1] + own[..., -1:]) * (2 / Q.shape[-1])


MODULATORS: dict[str, Callable[[Shared], Weights]] = {
    "exact": exact_weights,
    "row": row_weights,
    "pub": published_weights,
    "head": head_weights,
}


def memory_weights(Q: Shared, modulator: str) -> Weights:
    """What a window's inputs and targets say of each remembered sample: w_q, (N - 1)² included."""
    return MODULATORS[modulator](Q) / (Q.shape[-1] - 1) ** 2


def modulate_current(z: Activities, weights: Weights, sigma: float) -> Factor:
    """ξ = Σ_q w_q K_z[N, q] (z_N - z_q) / ℓ²: the global factor of each neuron, from its own activities."""
    away = z[..., -1:, :] - z[..., :-1, :]
    width = sigma**2
    similar = torch.exp(away.square().mean(-1) / (-2 * width))
    return ((weights * similar).unsqueeze(-2) @ away).squeeze(-2) / (width * z.shape[-1])
