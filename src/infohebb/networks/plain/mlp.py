"""MLP: fully connected layers from widths."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import MismatchError
from infohebb.networks.parts import check_sizes, initialise
from infohebb.networks.plain.layered import LayeredNetwork
from infohebb.networks.plain.layers import LayerFactory, Nonlinearity, Settings


class MLP(LayeredNetwork):
    """Return the logits (m × outputs) of fully connected layers of the given widths and a linear readout with bias.

    Each layer is linear [batch norm] nonlinearity [layer norm], its activity, then [divisive norm] [dropout].

    Args:
        inputs: number of features of a sample, or its shape; samples are flattened.
        outputs: number of classes, or of predicted numbers.
        widths: neurons of each layer; (16,) for a single layer, () for the readout alone.
        nonlinearity: leaky_relu, relu, selu, tanh, identity, gelu or silu, or a callable without arguments that returns
            an nn.Module, such as torch.nn.ELU.
        slope: slope of leaky ReLU below 0, itself above 0.
        norm: "batch" for batch norm before the nonlinearity, "layer" for layer norm without weights after it, or None.
        divisive_norm: a DivisiveNorm or its keyword arguments, for each layer; None for none.
        dropout: probability that a unit is dropped in train mode; alpha dropout after SELU.
        bias: whether the layers have biases; the readout always has them.
        norm_epsilon: added to the variances of batch norm and layer norm.
        initial: "torch" draws weights as torch does, uniform up to 1/√inputs; "lecun" from a truncated normal of
            variance 1/inputs, with biases of 0.

    Raises:
        UnknownNameError: for a name that does not exist.
        GroupingError: for groups that do not divide a layer.
        MismatchError: for any other value that is not allowed, and for samples of another size.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (each setting by its name)
        self,
        inputs: int | Sequence[int] = 64,
        outputs: int = 10,
        widths: Sequence[int] = (256, 256),
        nonlinearity: Nonlinearity = "leaky_relu",
        slope: float = 0.01,
        norm: Literal["batch", "layer"] | None = None,
        divisive_norm: Settings = None,
        dropout: float = 0.0,
        bias: bool = False,
        norm_epsilon: float = 1e-5,
        initial: Literal["torch", "lecun"] = "torch",
    ):
        shape = inputs if isinstance(inputs, Sequence) else (inputs,)
        check_sizes(inputs=shape, outputs=(outputs,), widths=widths)
        sizes = [math.prod(shape), *widths]
        if min(*sizes, outputs) < 1:
            raise MismatchError(f"no layer may be empty: {sizes[0]} inputs, widths {list(widths)}, {outputs} outputs")
        factory = LayerFactory(nonlinearity, slope, norm, divisive_norm, dropout, bias, norm_epsilon)
        layers = [factory.linear(place, *each) for place, each in enumerate(pairwise(sizes))]
        super().__init__(layers, nn.Linear(sizes[-1], outputs))
        self.features = sizes[0]
        initialise(self, initial)

    def forward(self, inputs: Float[Tensor, "m *features"]) -> Float[Tensor, "m *outputs"]:
        """Return the logits, or the predicted numbers.  Raises MismatchError for samples of another size."""
        return super().forward(self.rows(inputs))
