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
from infohebb.rules.settling import Experience, SettlingRule, layer_signals

WRONG, MORE = 0.03, 0.94  # what the output is clamped to for a class that is wrong, and how much more for the right one


class PredictiveCoding(SettlingRule):
    """Each layer learns to predict the values to which the ones above it settled; any depth.

    The output is clamped to numbers as they are, and for labels to 0.97 at the right class, 0.03 elsewhere. Values
    start from a forward sweep and take `steps`, each of `step`. Errors come back through the forward weights, hence
    `weight_transport`. Raises MismatchError.
    """

    network_type = PredictiveCodingNetwork
    weight_transport = True
    global_error = True
    update_locking = True

    def __init__(self, step: float = 0.1, steps: int = 50):
        super().__init__()
        self.step, self.steps = step, steps

    def attach(self, network: Any) -> None:
        """Check network and settings."""
        super().attach(network)
        check_steps(self.step, below=2.0, steps=self.steps)

    def say(self, labels: Tensor, outputs: int, dtype: torch.dtype) -> Tensor:
        """What the output is clamped to for labels, within the reach of a sigmoid."""
        return super().say(labels, outputs, dtype).mul_(MORE).add_(WRONG)

    def experience(self, network: PredictiveCodingNetwork, x: Tensor, wanted: Tensor) -> Experience:
        """A forward sweep answers; what it settles to when clamped teaches."""
        values = network.sweep(x)
        settled = predictive.settle_clamped(values, network.predictor(), wanted, self.step, self.steps)
        return Experience(values[-1], layer_signals(network, predictive.ends(x, settled, 1 / len(x))))
