"""What rules that nudge a network with an energy share: a free phase, then a nudged one."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from infohebb.functional import energy
from infohebb.networks import EquilibriumNetwork
from infohebb.networks.settling import check_counts
from infohebb.rules.base import Inputs, Signals, Targets
from infohebb.rules.contract import Locality
from infohebb.rules.layered import learning
from infohebb.rules.settling import SettlingRule, check_nudge, layer_signals, with_sign


class Phases(NamedTuple):
    """Rates of each layer, from the first hidden one up, at the end of both phases, and the nudge with its sign."""

    free: list[Tensor]
    nudged: list[Tensor]
    nudge: float


class TwoPhaseRule(SettlingRule):
    """A rule that compares where a network settles freely and nudged.

    The network sends what nudges it down through the forward weights, hence `weight_transport`.
    """

    own_network = EquilibriumNetwork
    weight_transport = True
    global_error = True
    update_locking = True
    locality = Locality(weight_transport=True, global_error=True, update_locking=True)

    def __init__(self, nudge: float = 1.0, random_sign: bool = True, nudged_steps: int = 4):
        super().__init__()
        self.nudge, self.random_sign, self.nudged_steps = nudge, random_sign, nudged_steps

    def setup_model(self, model: Any, /) -> None:
        """Check settings."""
        super().setup_model(model)
        check_nudge(self.nudge)
        check_counts(nudged_steps=self.nudged_steps)

    def groups(self, network: EquilibriumNetwork) -> dict[str, list[Parameter]]:
        """Weights at the `forward` rate, biases at the `bias` rate, each kind from the input up."""
        parameters = learning(network.layers)
        return {
            "forward": [parameter for parameter in parameters if parameter.dim() == 2],
            "bias": [parameter for parameter in parameters if parameter.dim() == 1],
        }

    @torch.no_grad()
    def monitor(self, model: EquilibriumNetwork, inputs: Inputs, targets: Targets) -> dict[str, dict[str, float]]:
        """Return, besides rates, the mean `energy` at the end of the free phase, and what another step would change.

        The latter is the `residual`. Raises DivergenceError.
        """
        found, x = super().monitor(model, inputs, targets), model.receive(inputs)
        states, drive = model.states(x), model.drive(x)
        found["energy"] = {"network": float(model.energy(x, states).mean())}
        found["residual"] = {"network": float(model.residual(drive, states).mean())}
        return found

    def phases(self, network: EquilibriumNetwork, x: Tensor, target: Tensor) -> Phases:
        """Return where the network settles from rest, and then from there with the output nudged."""
        nudge = with_sign(self.nudge, drawn=self.random_sign)
        drive = network.drive(x)
        free = network.settle(drive)
        return Phases(free, network.settle(drive, free, self.nudged_steps, target, nudge), nudge)


def forward_signals(network: EquilibriumNetwork, x: Tensor, phases: Phases) -> dict[str, Signals]:
    """Return the signals of the synapses between layers."""
    return layer_signals(network, energy.contrast(x, *phases))
