"""MLP: fully connected blocks from widths."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from infohebb.errors import MismatchError
from infohebb.functional.nonlinearities import Nonlinearity
from infohebb.networks.blocks import DivisiveNorm
from infohebb.networks.layered import Layered
from infohebb.networks.parts import Parts, check_sizes, initialise


class MLP(Layered):
    """Fully connected blocks of the given widths on flattened inputs, and a linear readout with bias.

    `inputs` is a number of features or a shape; `widths` has one number per block, (16,) for a single one.
    `nonlinearity` is a name (leaky_relu, relu, selu, tanh, identity) or a `Nonlinearity`; `slope`, above 0, is leaky
    ReLU's. `norm` puts batch norm before the nonlinearity or layer norm after it; `norm_epsilon` is theirs.
    `divisive_norm` is a DivisiveNorm or its keyword arguments. Weights start as PyTorch's, U(±1/√inputs), or with
    `initial` "lecun" as a truncated normal of variance 1/inputs, biases then at 0.
    Raises UnknownNameError, GroupingError, MismatchError.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (each setting by its name)
        self,
        inputs: int | Sequence[int] = 64,
        outputs: int = 10,
        widths: Sequence[int] = (256, 256),
        nonlinearity: str | Nonlinearity = "leaky_relu",
        slope: float = 0.01,
        norm: Literal["batch", "layer"] | None = None,
        divisive_norm: DivisiveNorm | dict[str, Any] | None = None,
        dropout: float = 0.0,
        bias: bool = False,
        norm_epsilon: float = 1e-5,
        initial: Literal["torch", "lecun"] = "torch",
    ):
        shape = inputs if isinstance(inputs, Sequence) else (inputs,)
        check_sizes(inputs=shape, outputs=(outputs,), widths=widths)
        features = math.prod(shape)
        if min(features, outputs, *widths) < 1:
            raise MismatchError(f"no layer may be empty: {features} inputs, widths {list(widths)}, {outputs} outputs")
        parts = Parts(nonlinearity, slope, norm, divisive_norm, dropout, bias, norm_epsilon)
        super().__init__(parts.dense([features, *widths]), nn.Linear([features, *widths][-1], outputs))
        initialise(self, initial)
