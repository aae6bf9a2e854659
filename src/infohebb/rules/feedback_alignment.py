"""Feedback alignment: the error comes down through fixed random matrices.

Lillicrap, Cownden, Tweed & Akerman, "Random synaptic feedback weights support error backpropagation for deep learning",
Nature Communications 7:13276, 2016. Wired as in Pogodin & Latham's comparison: each layer, readout included, has a
matrix of its own, of its weight's shape and initial distribution.

a (m × n)  drive of a layer    x (m × n')  what it receives    B (n × n')  fixed    δ (m × n)  error at the drive

    dL/dW = δᵀ x                error at x = δ B, where backprop has δ W
"""

from typing import Any

from torch import Tensor, nn

from infohebb.networks import Block
from infohebb.rules.base import FixedFeedback, attached_before
from infohebb.rules.transport import TransportRule


class FeedbackAlignment(TransportRule):
    """Backprop with the weights of the way down replaced by fixed random ones: no weight is transported."""

    def __init__(self):
        super().__init__()
        self.feedback = FixedFeedback()

    def attach(self, network: Any) -> None:
        """Draw a matrix for each layer but the first, whose input needs no error; they stay while the network does."""
        super().attach(network)
        layers = [*(block for _, block in network.named_blocks()), network.readout]
        shapes = {place: tuple(layer.weight.shape) for place, layer in enumerate(layers) if place}
        self.feedback.prepare(shapes, network.readout.weight, keep=attached_before(self, network))

    def feedback_weight(self, position: int, layer: Block | nn.Linear) -> Tensor:
        """The layer's own fixed matrix."""
        return self.feedback.fitting(position, tuple(layer.weight.shape), layer.weight)
