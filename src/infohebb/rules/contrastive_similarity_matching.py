"""Contrastive similarity matching: equilibrium propagation, with hidden neurons that learn to inhibit each other.

Qin, Mudur & Pehlevan, "Contrastive similarity matching for supervised learning", Neural Computation 33(5), 2021, as in
Bozkurt, Pehlevan & Erdogan's comparison.

f, n  free and nudged phase    s_k (m × n_k)  rates of layer k, s_0 the input    β  nudge

    ΔW_k = 1/(β m) Σ ( s_{k+1}ⁿ s_kⁿᵀ - s_{k+1}ᶠ s_kᶠᵀ )         Δb_k = 1/(β m) Σ ( s_{k+1}ⁿ - s_{k+1}ᶠ )
    ΔM_k = 1/(2β m) Σ s_kⁿ s_kⁿᵀ, and then M_k ← (1 - decay) M_k, where decay is the rate of M over 2|β|
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from infohebb.errors import MismatchError
from infohebb.functional import energy
from infohebb.networks import EquilibriumNetwork
from infohebb.rules.layered import learning
from infohebb.rules.settling import Experience, learning_in, without_empty
from infohebb.rules.two_phases import TwoPhaseRule, forward_signals


class ContrastiveSimilarityMatching(TwoPhaseRule):
    """As equilibrium propagation, with lateral weights that follow the nudged rates' correlation; any depth.

    `nudge` may be below 0: away from the target; with `random_sign` each batch draws its sign, and the Hebbian part of
    a lateral update has that sign too, as published. The decay is the optimizer's: it comes after the step.
    The nudged phase takes `nudged_steps`, the free one the network's `steps`. Raises MismatchError.
    """

    def setup_model(self, model: Any, /) -> None:
        """Check settings, and that the network has lateral weights."""
        super().setup_model(model)
        if len(model.laterals) < len(model.layers) - 1:
            raise MismatchError(
                "ContrastiveSimilarityMatching trains lateral weights, and the network has none; "
                "build EquilibriumNetwork(..., lateral=True)"
            )

    def make_network(self, inputs: int | Sequence[int], outputs: int, widths: Sequence[int]) -> EquilibriumNetwork:
        """One with lateral weights."""
        return EquilibriumNetwork(inputs, outputs, widths, lateral=True)

    def groups(self, network: EquilibriumNetwork) -> dict[str, list[Parameter]]:
        """Besides weights (`forward`) and biases (`bias`) lateral matrices, at the `lateral` rate."""
        return {**super().groups(network), "lateral": learning(network.laterals)}

    def roles(self, model: EquilibriumNetwork, /) -> Mapping[str, Sequence[Mapping[str, Parameter]]]:
        """Return, besides `forward` and `bias`, the matrices for the `lateral` rate, from the first hidden layer up."""
        named = [learning_in(f"laterals.{place}", layer) for place, layer in enumerate(model.laterals)]
        return {**super().roles(model), **without_empty({"lateral": named})}

    def experience(self, network: EquilibriumNetwork, x: Tensor, target: Tensor, /) -> Experience:
        """Return the answer of the free phase, and signals of both; those of lateral weights are of the nudged one."""
        phases = self.phases(network, x, target)
        signals = forward_signals(network, x, phases)
        for position, nudged in enumerate(phases.nudged[:-1]):
            signals[f"laterals.{position}"] = energy.similarity(nudged, phases.nudge)._asdict()
        return Experience(phases.free[-1], signals)
