"""What the neurons of a layer climb while they settle, as far as one sample tells.

rates r (m × n)          of the layer; below r' (m × n') and above r'' (m × n'') of its neighbours
forward W (n × n')       from the layer below
feedback V (n × n'')     from the layer above
inverse B (n × n)        the layer's inverse correlation, symmetric
ε, γ, β                  prediction's variance, entropy gain, nudge

The log-determinant of a layer's correlations stands as the quadratic form whose slope is the lateral current.
"""

from jaxtyping import Float
from torch import Tensor

Rates = Float[Tensor, "m n"]
Square = Float[Tensor, "n n"]
EachSample = Float[Tensor, " m"]


def hidden_objective(
    rates: Rates,
    below: Float[Tensor, "m n_below"],
    forward: Float[Tensor, "n n_below"],
    above: Float[Tensor, "m n_above"],
    feedback: Float[Tensor, "n n_above"],
    inverse: Square,
    *,
    epsilon: float,
    gain: float,
) -> EachSample:
    """γ rᵀB r - ‖r - W r'‖²/(2ε) - ‖r - V r''‖²/(2ε): a hidden layer's, of each sample.  [CIM 3.1]

    Its slope by r is 2γ B r - (r - W r')/ε - (r - V r'')/ε.
    """
    errors = _squares(rates - below @ forward.mT) + _squares(rates - above @ feedback.mT)
    return gain * _form(rates, inverse) - errors / (2 * epsilon)


def output_objective(
    rates: Rates,
    below: Float[Tensor, "m n_below"],
    forward: Float[Tensor, "n n_below"],
    inverse: Square,
    wanted: Rates | None = None,
    *,
    epsilon: float,
    gain: float,
    nudge: float,
) -> EachSample:
    """γ/2 rᵀB r - ‖r - W r'‖²/(2ε) - β/2 ‖r - y‖²: the output's, of each sample.  [CIM 3.2]

    Its slope by r is γ B r - (r - W r')/ε - β (r - y); nothing is `wanted` y in the free phase, which lacks the last.
    """
    value = gain / 2 * _form(rates, inverse) - _squares(rates - below @ forward.mT) / (2 * epsilon)
    return value if wanted is None else value - nudge / 2 * _squares(rates - wanted)


def _form(rates: Rates, inverse: Square) -> EachSample:
    return (rates @ inverse * rates).sum(1)


def _squares(error: Rates) -> EachSample:
    return error.square().sum(1)
