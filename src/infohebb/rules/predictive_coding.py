"""Predictive coding: clamp the output to the target, let the layers between settle, then make each err less.

Whittington & Bogacz, "An approximation of the error backpropagation algorithm in a predictive coding network with local
Hebbian synaptic plasticity", Neural Computation 29(5), 2017. Settings are those of Bozkurt, Pehlevan & Erdogan's
comparison.

z_k (m × n_k)  values    r_k = f(z_k), r_0 the input    e_k = z_{k+1} - W_k r_k - b_k (m × n_{k+1})  errors

    z_k ← z_k - step ( e_{k-1} - (W_kᵀ e_k) ⊙ f'(z_k) )      ΔW_k = 1/m Σ e_k r_kᵀ      Δb_k = 1/m Σ e_k
"""

from typing import Any

import torch
from torch import Tensor

from infohebb.functional import predictive
from infohebb.networks import PredictiveCodingNetwork
from infohebb.networks.settling import check_steps
from infohebb.rules.contract import Locality
from infohebb.rules.settling import Experience, SettlingRule, layer_signals

WRONG, MORE = 0.03, 0.94  # what the output is clamped to for a class that is wrong, and how much more for the right one


class PredictiveCoding(SettlingRule):
    """Each layer learns to predict the values to which the ones above it settled; any depth.

    The output is clamped to numbers as they are, and for labels to 0.97 at the right class, 0.03 elsewhere. Values
    start from a forward sweep and take `steps`, each of `step`. Errors come back through the forward weights, hence
    `weight_transport`. Raises MismatchError.
    """

    own_network = PredictiveCodingNetwork
    weight_transport = True
    global_error = True
    update_locking = True
    locality = Locality(weight_transport=True, global_error=True, update_locking=True)

    def __init__(self, step: float = 0.1, steps: int = 50):
        super().__init__()
        self.step, self.steps = step, steps

    def setup_model(self, model: Any, /) -> None:
        """Check settings."""
        super().setup_model(model)
        check_steps(self.step, below=2.0, steps=self.steps)

    def encode_targets(self, labels: Tensor, outputs: int, dtype: torch.dtype) -> Tensor:
        """Return the values to which the output is clamped for labels, within the range of a sigmoid."""
        return super().encode_targets(labels, outputs, dtype).mul_(MORE).add_(WRONG)

    def experience(self, network: PredictiveCodingNetwork, x: Tensor, target: Tensor, /) -> Experience:
        """Return the answer of a forward sweep, and signals of where the network settles with its output clamped."""
        values = network.sweep(x)
        settled = predictive.settle_clamped(values, network.predictor(), target, self.step, self.steps)
        return Experience(values[-1], layer_signals(network, predictive.ends(x, settled, 1 / len(x))))
