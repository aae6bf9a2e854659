"""LayeredNetwork: layers one after the other and a linear readout, what MLP and ConvNet have in common."""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from infohebb.networks.plain.layers import Layer
from infohebb.networks.unit import UnitMark


class LayeredNetwork(nn.Module):
    """Return the logits of a batch: `layers` one after the other, then `readout`, which flattens what it receives.

    It marks its units and its head for a Learner: the activity of each layer is a unit, the readout is the head.
    """

    def __init__(self, layers: Iterable[Layer], readout: nn.Linear):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.readout = readout

    def forward(self, inputs: Float[Tensor, "m *features"]) -> Float[Tensor, "m outputs"]:
        """Return the logits, or the predicted numbers."""
        x = inputs
        for layer in self.layers:
            x = layer(x)
        return self.readout(x.flatten(1) if x.dim() > 2 else x)

    def marked_units(self) -> tuple[UnitMark, ...]:
        """Return the units, one per layer, from the input to the head."""
        layers = ((f"layers.{place}", layer) for place, layer in enumerate(self.layers))
        return tuple(_mark(name, layer) for name, layer in layers if isinstance(layer, Layer))

    def marked_head(self) -> str:
        """Return the name of the readout."""
        return "readout"


def _mark(name: str, layer: Layer) -> UnitMark:
    norm = None if layer.divisive_norm is None else f"{name}.divisive_norm"
    return UnitMark(name, f"{name}.activity", name, layer.activity_shape, layer.output_shape, norm)
