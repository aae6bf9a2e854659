"""Equilibrium propagation: settle, nudge the output, settle on; synapses learn from the difference.

Scellier & Bengio, "Equilibrium propagation: bridging the gap between energy-based models and backpropagation",
Frontiers in Computational Neuroscience 11:24, 2017. Settings are those of Bozkurt, Pehlevan & Erdogan's comparison.

f, n  free and nudged phase    s_k (m × n_k)  rates of layer k, s_0 the input    β  nudge

    ΔW_k = 1/(β m) Σ ( s_{k+1}ⁿ s_kⁿᵀ - s_{k+1}ᶠ s_kᶠᵀ )         Δb_k = 1/(β m) Σ ( s_{k+1}ⁿ - s_{k+1}ᶠ )
"""

from torch import Tensor

from infohebb.networks import EquilibriumNetwork
from infohebb.rules.settling import Experience
from infohebb.rules.two_phases import TwoPhaseRule, forward_signals


class EquilibriumPropagation(TwoPhaseRule):
    """Hebbian where a nudged network settles, anti-Hebbian where a free one does; any depth.

    `nudge` may be below 0: away from the target; with `random_sign` each batch draws its sign. The nudged phase takes
    `nudged_steps`, the free one the network's `steps`. Lateral weights stay. Raises MismatchError.
    """

    def experience(self, network: EquilibriumNetwork, x: Tensor, target: Tensor, /) -> Experience:
        """Return the answer of the free phase, and signals of both phases."""
        phases = self.phases(network, x, target)
        return Experience(phases.free[-1], forward_signals(network, x, phases))
