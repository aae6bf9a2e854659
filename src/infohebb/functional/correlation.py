"""Correlations without removal of means, running inverses of them, and what one activity tells of another.

a (m × n_a), b (m × n_b)       activities of two layers, samples down
correlation (n × n)            E[a aᵀ]; cross (n_b × n_a) is E[b aᵀ]
epsilon                        what regularises them, above 0
"""

import torch
from jaxtyping import Float
from torch import Tensor

Activity = Float[Tensor, "m n"]
Square = Float[Tensor, "n n"]
Number = Float[Tensor, ""]


def correlation(a: Float[Tensor, "m n_a"], b: Float[Tensor, "m n_b"] | None = None) -> Float[Tensor, "n_a n_other"]:
    """Mean of a bᵀ over samples, of a aᵀ if there is no b."""
    return a.mT @ (a if b is None else b) / len(a)


def running_correlation(before: Square, activity: Activity, forgetting: float) -> Square:
    """λ R + (1 - λ) E[r rᵀ]: an exponentially weighted mean over batches.  [CIM 1.1]"""
    return before.lerp(correlation(activity), 1 - forgetting)


def running_inverse(before: Square, activity: Activity, forgetting: float, out: Tensor | None = None) -> Square:
    """(B - γ E[z zᵀ]) / λ, z = B r, γ = (1 - λ)/λ: the inverse a batch later, as published.  [CIM 1.2]

    Of the inversion lemma it leaves out the denominator 1 + γ rᵀz and what samples of a batch have in common. The
    result may go `out` to where the matrix was before, which is symmetric.
    """
    z, gamma = activity @ before, (1 - forgetting) / forgetting
    return torch.addmm(before, z.mT, z, beta=1 / forgetting, alpha=-gamma / (len(z) * forgetting), out=out)


def exact_running_inverse(before: Square, activity: Activity, forgetting: float, out: Tensor | None = None) -> Square:
    """The inverse of the running correlation itself, a batch of m later, from its inverse before.  [CIM 1.3]

    (B - Z (m/γ I + SᵀZ)⁻¹ Zᵀ) / λ, rates S as columns, Z = B S: one solve of size m.
    """
    z, gamma = activity @ before, (1 - forgetting) / forgetting
    inner = activity @ z.mT
    inner.diagonal().add_(len(z) / gamma)
    solved = torch.linalg.solve(inner, z)
    return torch.addmm(before, z.mT, solved, beta=1 / forgetting, alpha=-1 / forgetting, out=out)


def log_determinant(square: Square, epsilon: float) -> Number:
    """log det(R + ε I) of a correlation matrix."""
    return 2 * torch.linalg.cholesky(_regularised(square, epsilon)).diagonal().log().sum()


def correlative_information(a: Float[Tensor, "m n_a"], b: Float[Tensor, "m n_b"], epsilon: float) -> Number:
    """½ [log det(R_a + ε I) + log det(R_b + ε I) - log det(R_[a;b] + ε I)], in nats.  [CIM 2.1]"""
    one, other, both = (log_determinant(correlation(each), epsilon) for each in (a, b, torch.cat((a, b), 1)))
    return (one + other - both) / 2


def predictive_information(a: Float[Tensor, "m n_a"], b: Float[Tensor, "m n_b"], epsilon: float) -> Number:
    """½ log det(R_b + ε I) - ½ log det(R_b|a + ε I): what a says of b, by prediction; equal to the above.  [CIM 2.2]"""
    return captured_information(a, b, ridge_predictor(a, b, epsilon), epsilon)


def ridge_predictor(a: Float[Tensor, "m n_a"], b: Float[Tensor, "m n_b"], epsilon: float) -> Float[Tensor, "n_b n_a"]:
    """R_ba (R_a + ε I)⁻¹: the weights of least E‖b - W a‖² + ε ‖W‖².  [CIM 2.3]"""
    return torch.linalg.solve(_regularised(correlation(a), epsilon), correlation(a, b)).mT


def captured_information(
    a: Float[Tensor, "m n_a"], b: Float[Tensor, "m n_b"], weight: Float[Tensor, "n_b n_a"], epsilon: float
) -> Number:
    """½ log det(R_b + ε I) - ½ log det(R_e + ε W Wᵀ + ε I), e = b - W a: what these weights capture of it.  [CIM 2.4]

    At most `correlative_information`, and that for the ridge predictor: any other weights add
    (W - W*)(R_a + ε I)(W - W*)ᵀ to the second matrix.
    """
    left = correlation(b - a @ weight.mT) + epsilon * (weight @ weight.mT)
    return (log_determinant(correlation(b), epsilon) - log_determinant(left, epsilon)) / 2


def _regularised(square: Square, epsilon: float) -> Square:
    square = square.clone()
    square.diagonal().add_(epsilon)
    return square
