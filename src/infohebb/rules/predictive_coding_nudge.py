"""Predictive coding with a nudged output: it, too, settles, drawn towards the target only a little.

Millidge, Song, Salvatori, Lukasiewicz & Bogacz, "Backpropagation at the infinitesimal inference limit of energy-based
models", ICLR 2023. Settings are those of Bozkurt, Pehlevan & Erdogan's comparison.

z_k (m × n_k)  values    r_k = f(z_k), r_0 the input    e_k = z_{k+1} - W_k r_k - b_k (m × n_{k+1})  errors    λ  nudge

    E = Σ ‖e_k‖² + λ ‖z_L - y‖²      z_k ← z_k - step ∂E/∂z_k      ΔW_k = 2/λ Σ e_k r_kᵀ      Δb_k = 2/λ Σ e_k
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from infohebb.functional import predictive
from infohebb.networks import PredictiveCodingNetwork
from infohebb.networks.settling import check_steps
from infohebb.rules.contract import Locality
from infohebb.rules.settling import Experience, SettlingRule, check_nudge, layer_signals, with_sign


class PredictiveCodingNudge(SettlingRule):
    """Each layer learns to predict the values that a slightly nudged output leaves above it; any depth.

    `nudge` may be below 0: away from the target; with `random_sign` each batch draws its sign. An update is the sum
    over the batch, not its mean. Values start from a forward sweep and take `steps`, each of `step`. Errors come back
    through the forward weights, hence `weight_transport`. Raises MismatchError.
    """

    own_network = PredictiveCodingNetwork
    weight_transport = True
    global_error = True
    update_locking = True
    locality = Locality(weight_transport=True, global_error=True, update_locking=True)

    def __init__(self, nudge: float = 1e-3, random_sign: bool = False, step: float = 0.1, steps: int = 50):
        super().__init__()
        self.nudge, self.random_sign, self.step, self.steps = nudge, random_sign, step, steps

    def setup_model(self, model: Any, /) -> None:
        """Check settings."""
        super().setup_model(model)
        check_nudge(self.nudge)
        check_steps(self.step, below=1.0, steps=self.steps)

    def make_network(self, inputs: int | Sequence[int], outputs: int, widths: Sequence[int]) -> PredictiveCodingNetwork:
        """One whose rates are not bounded, as published."""
        return PredictiveCodingNetwork(inputs, outputs, widths, nonlinearity="relu")

    def experience(self, network: PredictiveCodingNetwork, x: Tensor, target: Tensor, /) -> Experience:
        """Return the answer of a forward sweep, and signals of where the network settles with its output nudged."""
        nudge = with_sign(self.nudge, drawn=self.random_sign)
        values = network.sweep(x)
        settled = predictive.settle_nudged(values, network.predictor(), target, nudge, self.step, self.steps)
        return Experience(values[-1], layer_signals(network, predictive.ends(x, settled, 2 / nudge)))
