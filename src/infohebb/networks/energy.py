"""EquilibriumNetwork: layers that settle where an energy is low, each synapse used both ways."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import MismatchError, is_number
from infohebb.functional import energy
from infohebb.functional.energy import Synapses
from infohebb.networks.settling import Settling, check_steps


class EquilibriumNetwork(Settling):
    """Neurons with rates between 0 and 1 that go down one energy; any depth.

    `inputs` is a number of features or a shape; `widths` has one number per hidden layer. With `lateral` the neurons
    of each hidden layer inhibit each other, through a symmetric matrix. `step` and `steps` say how it settles.
    Weights start Xavier-uniform times `gain`, biases at 0, a lateral matrix as X Xᵀ of a Xavier-uniform X.
    At a gain of 1, as published for one hidden layer, two wide ones excite each other and hardly come to
    rest: take 0.5 there. Raises MismatchError.
    """

    def __init__(
        self,
        inputs: int | Sequence[int] = 64,
        outputs: int = 10,
        widths: Sequence[int] = (256,),
        lateral: bool = False,
        step: float = 0.5,
        steps: int = 20,
        gain: float = 1.0,
    ):
        super().__init__(inputs, outputs, widths)
        check_steps(step, below=2.0, steps=steps)
        if not is_number(gain) or not gain > 0:
            raise MismatchError(f"gain {gain!r}: give a number above 0, by which weights are larger at the start")
        self.step, self.steps = step, steps
        self.layers = nn.ModuleList(nn.Linear(below, above) for below, above in pairwise(self.sizes))
        self.laterals = nn.ModuleList(nn.Linear(width, width, bias=False) for width in widths if lateral)
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.get_parameter("weight"), gain)
            nn.init.zeros_(layer.get_parameter("bias"))
        for lateral_layer in self.laterals:
            with torch.no_grad():
                X = nn.init.xavier_uniform_(lateral_layer.get_parameter("weight"))
                X.copy_(X @ X.T)

    def synapses(self) -> Synapses:
        """All weights, biases and lateral matrices, from the input up."""
        weights, biases = ([layer.get_parameter(name) for layer in self.layers] for name in ("weight", "bias"))
        return Synapses(weights, biases, [layer.get_parameter("weight") for layer in self.laterals])

    def rest(self, samples: int) -> list[Tensor]:
        """Rates before a network has seen anything: 0 (samples × n_k)."""
        like = next(self.parameters())
        return [like.new_zeros(samples, size) for size in self.sizes[1:]]

    @torch.no_grad()
    def drive(self, x: Float[Tensor, "m n"]) -> Float[Tensor, "m first"]:
        """What the input sends the first layer, once for all phases of a batch."""
        weights, biases, _ = self.synapses()
        return energy.drive_from_input(x, weights[0], biases[0], self.precision if len(weights) > 1 else "fp32")

    @torch.no_grad()
    def settle(
        self,
        drive: Float[Tensor, "m first"],
        states: Sequence[Float[Tensor, "m _"]] | None = None,
        steps: int | None = None,
        wanted: Float[Tensor, "m outputs"] | None = None,
        nudge: float = 0.0,
    ) -> list[Tensor]:
        """Rates of each layer after that many steps, the network's own number if none is given.

        From `states`, or from rest; `nudge` draws the output towards `wanted`, or away if it is below 0.
        """
        states = self.rest(len(drive)) if states is None else states
        steps = self.steps if steps is None else steps
        return energy.settle(drive, states, self.synapses(), self.step, steps, wanted, nudge, self.precision)

    @torch.no_grad()
    def states(self, x: Float[Tensor, "m n"]) -> list[Tensor]:
        """Rates of each layer after the free phase."""
        return self.settle(self.drive(x))

    @torch.no_grad()
    def residual(
        self,
        drive: Float[Tensor, "m first"],
        states: Sequence[Float[Tensor, "m _"]],
        wanted: Float[Tensor, "m outputs"] | None = None,
        nudge: float = 0.0,
    ) -> Float[Tensor, "m"]:
        """By how much one more step would change a rate of each sample, at most: how far it is from rest."""
        moved = self.settle(drive, states, 1, wanted, nudge)
        return (torch.cat(moved, 1) - torch.cat(list(states), 1)).abs().amax(1)

    @torch.no_grad()
    def energy(
        self,
        x: Float[Tensor, "m n"],
        states: Sequence[Float[Tensor, "m _"]],
        wanted: Float[Tensor, "m outputs"] | None = None,
        nudge: float = 0.0,
    ) -> Float[Tensor, "m"]:
        """The energy of each sample at these rates."""
        return energy.energy(x, states, self.synapses(), wanted, nudge)

    def predict(self, x: Float[Tensor, "m n"]) -> Float[Tensor, "m outputs"]:
        """Rates of the output neurons after the free phase."""
        return self.settle(self.drive(x))[-1].contiguous()
