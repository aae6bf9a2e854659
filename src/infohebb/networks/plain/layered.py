"""LayeredNetwork: layers one after the other and a linear readout, what MLP and ConvNet have in common."""

import math
from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import MismatchError
from infohebb.networks.plain.layers import Layer
from infohebb.networks.unit import UnitMark


class LayeredNetwork(nn.Module):
    """Return the logits of a batch: `layers` one after the other, then `readout`, which flattens what it receives.

    It marks its units and its head for a Learner: the activity of each layer is a unit, the readout is the head.
    `stacked` is the number of networks of which it is made, None for a single one.
    """

    features: int  # of a sample, where samples are rows of numbers

    def __init__(self, layers: Iterable[Layer], readout: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.readout = readout
        self.stacked: int | None = None

    def forward(self, inputs: Float[Tensor, "m *features"]) -> Float[Tensor, "m *outputs"]:
        """Return the logits, or the predicted numbers."""
        x = inputs
        for layer in self.layers:
            if isinstance(layer, Layer) and layer.takes_rows and self.stacked is None:
                x = x.flatten(1)
            x = layer(x)
        return self.readout(x.flatten(1) if x.dim() > 2 and self.stacked is None else x)

    def rows(self, inputs: Tensor) -> Tensor:
        """Return samples as rows of numbers (m × features).  Raises MismatchError for those of another size."""
        if inputs.dim() < 2 or math.prod(inputs.shape[1:]) != self.features:
            raise MismatchError(
                f"inputs of shape {tuple(inputs.shape)} do not fit the {type(self).__name__}; give (samples, "
                f"{self.features}), or any shape with as many numbers per sample"
            )
        return inputs.flatten(1) if inputs.dim() > 2 else inputs

    def marked_units(self) -> tuple[UnitMark, ...]:
        """Return the units, one per layer, from the input to the head."""
        layers = ((f"layers.{place}", layer) for place, layer in enumerate(self.layers))
        return tuple(_mark(name, layer, self.stacked) for name, layer in layers if isinstance(layer, Layer))

    def marked_head(self) -> str:
        """Return the name of the readout."""
        return "readout"


def _mark(name: str, layer: Layer, stacked: int | None) -> UnitMark:
    norm = None if layer.divisive_norm is None else f"{name}.divisive_norm"
    several = () if stacked is None else (stacked,)
    shapes = (*several, *layer.activity_shape), (*several, *layer.output_shape)
    return UnitMark(name, f"{name}.activity", name, *shapes, norm, stacked)
