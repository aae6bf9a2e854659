"""Feedback alignment: the error comes down through fixed random matrices.

Lillicrap, Cownden, Tweed & Akerman, "Random synaptic feedback weights support error backpropagation for deep learning",
Nature Communications 7:13276, 2016. Wired as in Pogodin & Latham's comparison: each layer, readout included, has a
matrix of its own, of its weight's shape and initial distribution.

a (m × n)  drive of a layer    x (m × n')  what it receives    B (n × n')  fixed    δ (m × n)  error at the drive

    dL/dW = δᵀ x                error at x = δ B, where backprop has δ W
"""

from typing import Any, Literal

from torch import Tensor, nn

from infohebb.errors import unknown_name
from infohebb.networks import Block
from infohebb.rules.base import FixedFeedback, attached_before
from infohebb.rules.layered import Loss
from infohebb.rules.transport import TransportRule


class FeedbackAlignment(TransportRule):
    """Backprop with the weights of the way down replaced by fixed random ones: no weight is transported.

    `loss` is "cross_entropy" or "mean_squared_error" (labels one-hot); left out, it follows the targets' type. The
    matrices are drawn as weights are, U(±1/√inputs), or Xavier-uniform with `initial` "xavier".
    """

    def __init__(self, loss: Loss | None = None, initial: Literal["torch", "xavier"] = "torch"):
        super().__init__()
        self.loss, self.initial = loss, initial
        self.feedback = FixedFeedback()

    def attach(self, network: Any) -> None:
        """Draw a matrix for each layer but the first, whose input needs no error; they stay while the network does."""
        super().attach(network)
        if self.initial not in ("torch", "xavier"):
            raise unknown_name("initial", str(self.initial), ("torch", "xavier"))
        fresh = not attached_before(self, network)
        layers = [*(block for _, block in network.named_blocks()), network.readout]
        shapes = {place: tuple(layer.weight.shape) for place, layer in enumerate(layers) if place}
        self.feedback.prepare(shapes, network.readout.weight, keep=not fresh)
        for place in shapes if fresh and self.initial == "xavier" else ():
            nn.init.xavier_uniform_(self.feedback[place])

    def feedback_weight(self, position: int, layer: Block | nn.Linear) -> Tensor:
        """The layer's own fixed matrix."""
        return self.feedback.fitting(position, tuple(layer.weight.shape), layer.weight)
