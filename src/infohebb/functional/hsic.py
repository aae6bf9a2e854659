"""HSIC, pHSIC, and the bottleneck objectives with their derivative by the Gram matrix.

K (m × m)  Gram matrix of a layer      Y (m × m)  Gram matrix of the labels      X (m × m)  of the network input
G (m × m)  dL/dK, symmetric            gamma      weight of the label term       H = I - 11ᵀ/m

All objectives are called alike, (K, Y, X, gamma); those that compress a layer against itself leave X out.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from infohebb.functional.kernels import Gram

Scalar = Float[Tensor, ""]


class Bottleneck(NamedTuple):
    """An objective at one batch: objective = compression - gamma · relevance, and its derivative by K."""

    objective: Tensor
    compression: Tensor
    relevance: Tensor
    derivative: Tensor


def centre(K: Gram) -> Gram:
    """K minus the mean of all its entries, diagonal included.  [KIB eq. 11]"""
    return K - K.mean()


def double_centre(K: Float[Tensor, "*nets m m"]) -> Float[Tensor, "*nets m m"]:
    """H K H: K minus its row and column means, plus its mean."""
    return K - K.mean(-1, keepdim=True) - K.mean(-2, keepdim=True) + K.mean((-2, -1), keepdim=True)


def plausible_hsic(A: Gram, B: Gram) -> Scalar:
    """pHSIC: mean of the product minus product of the means, from entries centred first.  [KIB eq. 6]"""
    return mean_product(centre(A), centre(B))


def hsic(A: Gram, B: Gram) -> Scalar:
    """HSIC, the biased estimate tr(A H B H) / m²."""
    return mean_product(double_centre(A), double_centre(B))


def phsic_objective(K: Gram, Y: Gram, X: Gram | None = None, gamma: float = 2.0) -> Bottleneck:
    """L = pHSIC(K, K) - gamma pHSIC(Y, K) and G = (2 K° - gamma Y°) / m², ° centred.  [KIB eq. 9]"""
    del X
    return _bottleneck(centre(K), centre(Y), None, gamma)


def hsic_objective(K: Gram, Y: Gram, X: Gram | None = None, gamma: float = 2.0) -> Bottleneck:
    """L = HSIC(K, K) - gamma HSIC(Y, K) and G = H (2 K - gamma Y) H / m²: Eq. 9 with HSIC."""
    del X
    return _bottleneck(double_centre(K), double_centre(Y), None, gamma)


def hsic_bottleneck(K: Gram, Y: Gram, X: Gram, gamma: float = 50.0) -> Bottleneck:
    """L = HSIC(X, K) - gamma HSIC(Y, K) and G = H (X - gamma Y) H / m².  [KIB eq. 2]"""
    return _bottleneck(double_centre(K), double_centre(Y), double_centre(X), gamma)


def phsic_bottleneck(K: Gram, Y: Gram, X: Gram, gamma: float = 50.0) -> Bottleneck:
    """L = pHSIC(X, K) - gamma pHSIC(Y, K) and G = (X° - gamma Y°) / m²: Eq. 2 with pHSIC."""
    return _bottleneck(centre(K), centre(Y), centre(X), gamma)


def _bottleneck(K: Gram, Y: Gram, X: Gram | None, gamma: float) -> Bottleneck:
    """The objective from centred Gram matrices; without X the layer is compressed against itself."""
    weight, against = (2, K) if X is None else (1, X)
    compression, relevance = mean_product(against, K), mean_product(Y, K)
    derivative = torch.sub(against, Y, alpha=gamma / weight).mul_(weight / K.numel())
    return Bottleneck(compression - gamma * relevance, compression, relevance, derivative)


def mean_product(A: Gram, B: Gram) -> Scalar:
    """Mean of the entries of A ∘ B."""
    return torch.dot(A.reshape(-1), B.reshape(-1)) / A.numel()


def nhsic_bottleneck(K: Gram, Y: Gram, X: Gram, gamma: float = 50.0, epsilon: float = 1e-5) -> Bottleneck:
    """L = tr(R_X R_K) - gamma tr(R_Y R_K), R = K H (K H + ε m I)⁻¹: the normalised HSIC of Ma, Lewis & Kleijn.

    Computed by its symmetric form, which has the same traces, and in float64: R = I - r B with r = ε m and
    B = (H K H + r I)⁻¹, so that G = r H B (R_X - gamma R_Y) B H.
    """
    B, R = _inverse_and_share(K, epsilon)
    against = [_inverse_and_share(other, epsilon)[1] for other in (X, Y)]
    compression, relevance = ((R_other * R).sum() for R_other in against)
    G = epsilon * len(K) * double_centre(B @ (against[0] - gamma * against[1]) @ B)
    terms = Bottleneck(compression - gamma * relevance, compression, relevance, G)
    return Bottleneck(*(term.to(K.dtype) for term in terms))


def _inverse_and_share(K: Gram, epsilon: float) -> tuple[Tensor, Tensor]:
    """B and R of a Gram matrix, in float64; not a number where it is no Gram matrix, as when weights have diverged."""
    unit = torch.eye(len(K), dtype=torch.float64, device=K.device)
    ridge = epsilon * len(K)
    factor, failed = torch.linalg.cholesky_ex(double_centre(K.double()) + ridge * unit)
    B = torch.cholesky_inverse(factor) + torch.where(failed == 0, 0.0, torch.nan)
    return B, unit - ridge * B
