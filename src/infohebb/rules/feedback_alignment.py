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
from infohebb.rules.base import keep_or_draw
from infohebb.rules.transport import TransportRule


class FeedbackAlignment(TransportRule):
    """Backprop with the weights of the way down replaced by fixed random ones: no weight is transported."""

    def attach(self, network: Any) -> None:
        """Draw a matrix for each layer but the first, whose input needs no error; those that fit already stay."""
        super().attach(network)
        layers = [*(block for _, block in network.named_blocks()), network.readout]
        for position, layer in enumerate(layers[1:], 1):
            keep_or_draw(self, f"feedback{position}", layer.weight.shape, layer.weight)

    def feedback_weight(self, position: int, layer: Block | nn.Linear) -> Tensor:
        """The layer's own fixed matrix."""
        del layer
        return self.get_buffer(f"feedback{position}")
