"""Networks that answer with where their neurons come to rest."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import MismatchError, NonFiniteDataError, is_number, is_whole
from infohebb.functional.products import Precision
from infohebb.networks.parts import check_sizes


class Settling(nn.Module, ABC):
    """Layers of neurons that settle.  `network(x)` predicts from rest, without targets, and changes nothing.

    `layers` holds what ends on each layer's neurons, from the input up to the output; `sizes` counts neurons, the
    inputs first. Raises MismatchError for sizes that make no network.
    """

    networks: None = None  # several do not stand side by side
    layers: nn.ModuleList

    def __init__(self, inputs: int | Sequence[int], outputs: int, widths: Sequence[int]):
        super().__init__()
        shape = inputs if isinstance(inputs, Sequence) else (inputs,)
        check_sizes(inputs=shape, outputs=(outputs,), widths=widths)
        self.sizes = (math.prod(shape), *widths, outputs)
        if min(self.sizes) < 1:
            raise MismatchError(f"no layer may be empty: {list(self.sizes)}")
        self.precision: Precision = "fp32"  # of the large products

    @property
    def outputs(self) -> int:
        """Numbers that it answers with."""
        return self.sizes[-1]

    def named_layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Each layer with its name in `state_dict`, from the first hidden one up."""
        for position, layer in enumerate(self.layers):
            yield f"layers.{position}", layer

    def receive(self, inputs: Float[Tensor, "m *features"]) -> Float[Tensor, "m n"]:
        """Rows of numbers.  Raises MismatchError when they do not fit, NonFiniteDataError for NaN and infinity.

        Under torch.autocast too MismatchError is raised: products are rounded by the network's own `precision`.
        """
        if torch.is_autocast_enabled(inputs.device.type):
            raise MismatchError(
                f"torch.autocast does not apply to a {type(self).__name__}; leave it, and set precision to 'bf16' on "
                "the network to round its large products"
            )
        if inputs.dim() < 2 or inputs.shape[1:].numel() != self.sizes[0]:
            wanted = f"give (samples, {self.sizes[0]})"
            raise MismatchError(f"inputs have shape {tuple(inputs.shape)}; {wanted}, or images of as many numbers")
        dtype = next(self.parameters()).dtype
        if inputs.dtype != dtype:
            raise MismatchError(f"inputs are {inputs.dtype}; give x.to({dtype}), as the network is")
        if not torch.compiler.is_compiling() and inputs.device.type == "cpu" and not math.isfinite(float(inputs.sum())):
            raise NonFiniteDataError(
                "inputs hold NaN or infinity; take out such samples: x[x.flatten(1).isfinite().all(1)]"
            )
        return inputs.flatten(1)

    @torch.no_grad()
    def forward(self, inputs: Float[Tensor, "m *features"]) -> Float[Tensor, "m outputs"]:
        """What the output neurons say at rest."""
        return self.predict(self.receive(inputs))

    def states(self, x: Float[Tensor, "m n"]) -> list[Tensor]:
        """Of the last layers, from the input up, where they are when the network answers: at least of the output."""
        return [self.predict(x)]

    @abstractmethod
    def predict(self, x: Float[Tensor, "m n"]) -> Float[Tensor, "m outputs"]:
        """What the output neurons say at rest, of rows of numbers."""


def check_steps(step: object, below: float, **counts: object) -> None:
    """Raise MismatchError for a step that is no number above 0 and below that bound, or counts of steps that are none.

    At the bound a neuron that nothing drives no longer comes to rest.
    """
    if not is_number(step) or not 0 < step < below:  # pyright: ignore[reportOperatorIssue]
        raise MismatchError(f"step {step!r}: give a number above 0 and below {below:g}, from where on nothing settles")
    check_counts(**counts)


def check_counts(**counts: object) -> None:
    """Raise MismatchError for a number of steps that is no whole number of at least 1."""
    for name, count in counts.items():
        if not is_whole(count) or count < 1:  # pyright: ignore[reportOperatorIssue]
            raise MismatchError(f"{name} {count!r}: give a whole number of at least 1")
