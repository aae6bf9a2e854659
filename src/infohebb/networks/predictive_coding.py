"""PredictiveCodingNetwork: layers that each predict the next; without a target none errs."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import unknown_name
from infohebb.functional import predictive
from infohebb.functional.predictive import Predictor
from infohebb.networks.settling import Settling


class PredictiveCodingNetwork(Settling):
    """Layers of values, of which each predicts the next from its rates; any depth.  It answers by a forward sweep.

    `inputs` is a number of features or a shape; `widths` has one number per hidden layer. `nonlinearity`, "sigmoid" or
    "relu", makes a rate of a hidden value; inputs predict as they are, and the output is linear.
    Weights start as U(±√(6/inputs)), Kaiming's, biases as U(±1/√inputs). Raises UnknownNameError, MismatchError.
    """

    def __init__(
        self,
        inputs: int | Sequence[int] = 64,
        outputs: int = 10,
        widths: Sequence[int] = (256,),
        nonlinearity: Literal["sigmoid", "relu"] = "sigmoid",
    ):
        super().__init__(inputs, outputs, widths)
        if nonlinearity not in predictive.RATES:
            raise unknown_name("nonlinearity", str(nonlinearity), predictive.RATES)
        self.nonlinearity = nonlinearity
        self.layers = nn.ModuleList(nn.Linear(below, above) for below, above in pairwise(self.sizes))
        for layer in self.layers:
            nn.init.kaiming_uniform_(layer.get_parameter("weight"))

    def predictor(self) -> Predictor:
        """All weights and biases from the input up, and what a rate is."""
        weights, biases = ([layer.get_parameter(name) for layer in self.layers] for name in ("weight", "bias"))
        return Predictor(weights, biases, predictive.RATES[self.nonlinearity], self.precision)

    @torch.no_grad()
    def sweep(self, x: Float[Tensor, "m n"]) -> list[Tensor]:
        """Values of each layer where no prediction errs, from the first hidden one up."""
        return predictive.sweep(x, self.predictor())

    @torch.no_grad()
    def energy(
        self,
        x: Float[Tensor, "m n"],
        values: Sequence[Float[Tensor, "m _"]],
        wanted: Float[Tensor, "m outputs"] | None = None,
        nudge: float = 0.0,
    ) -> Float[Tensor, "m"]:
        """Squared errors of each sample's predictions at these values, and what nudges the output."""
        return predictive.energy(x, values, self.predictor(), wanted, nudge)

    def states(self, x: Float[Tensor, "m n"]) -> list[Tensor]:
        """Values of each layer after a forward sweep."""
        return self.sweep(x)

    def predict(self, x: Float[Tensor, "m n"]) -> Float[Tensor, "m outputs"]:
        """The output's value after a forward sweep."""
        return self.sweep(x)[-1]
