"""Feedback alignment: the error comes down through fixed random matrices.

Lillicrap, Cownden, Tweed & Akerman, "Random synaptic feedback weights support error backpropagation for deep learning",
Nature Communications 7:13276, 2016. Wired as in Pogodin & Latham's comparison: each layer, readout included, has a
matrix of its own, of its weight's shape and initial distribution.

a (m × n)  drive of a layer    x (m × n')  what it receives    B (n × n')  fixed    δ (m × n)  error at the drive

    dL/dW = δᵀ x                error at x = δ B, where backprop has δ W
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from infohebb.errors import MismatchError, unknown_name
from infohebb.functional.feedback import random_feedback
from infohebb.networks import Block
from infohebb.networks.unit import Unit
from infohebb.rules.base import FixedFeedback, attached_before
from infohebb.rules.carried_errors import FeedbackRule, is_weight
from infohebb.rules.contract import Locality
from infohebb.rules.layered import Loss
from infohebb.rules.transport import TransportRule


class FeedbackMatrices(nn.Module):
    """Fixed random matrices by the name of a weight: buffers, named as the weights are, with "/" for "."."""

    def prepare(self, weights: Mapping[str, Parameter], initial: str) -> None:
        """Draw a matrix for each weight, of its shape, type and device; those that fit stay, others go."""
        before = {name: self.find(name) for name in weights}
        self._buffers.clear()
        for name, weight in weights.items():
            matrix = before[name]
            if matrix is None or matrix.shape != weight.shape:
                matrix = _draw(weight.detach(), initial)
            self.register_buffer(_key(name), matrix.to(weight.device, weight.dtype))

    def find(self, name: str) -> Tensor | None:
        """Return the matrix of that weight; None if there is none."""
        return self._buffers.get(_key(name))


class FeedbackAlignment(FeedbackRule, TransportRule):
    """Backprop with the weights of the way down replaced by fixed random ones: no weight is transported.

    `loss` is "cross_entropy" or "mean_squared_error" (labels one-hot); left out, it follows the targets' type. The
    matrices are drawn as weights are, U(±1/√inputs), or Xavier-uniform with `initial` "xavier". Through a Learner it
    trains any module: see FeedbackRule for the calls that it covers. Parameters of embeddings alone have no matrix.
    """

    locality = Locality(global_error=True, update_locking=True)

    def __init__(self, loss: Loss | None = None, initial: Literal["torch", "xavier"] = "torch"):
        super().__init__()
        self.loss: Loss | None = loss
        self.initial = initial
        self.feedback = FixedFeedback()  # of networks of blocks, by the place of a layer
        self.matrices = FeedbackMatrices()

    def attach(self, network: Any) -> None:
        """Draw a matrix for each layer but the first, whose input needs no error; they stay while the network does."""
        super().attach(network)
        self._check_initial()
        fresh = not attached_before(self, network)
        layers = [*(block for _, block in network.named_blocks()), network.readout]
        shapes = {place: tuple(layer.weight.shape) for place, layer in enumerate(layers) if place}
        self.feedback.prepare(shapes, network.readout.weight, keep=not fresh)
        for place in shapes if fresh and self.initial == "xavier" else ():
            nn.init.xavier_uniform_(self.feedback[place])

    def feedback_weight(self, position: int, layer: Block | nn.Linear) -> Tensor:
        """The layer's own fixed matrix."""
        return self.feedback.fitting(position, tuple(layer.weight.shape), layer.weight)

    def setup(self, units: Sequence[Unit], head: Sequence[Parameter], classes: int | None) -> None:
        """Check the loss."""
        del units, head, classes
        if self.loss not in (None, "cross_entropy", "mean_squared_error"):
            raise unknown_name("loss", str(self.loss), ("cross_entropy", "mean_squared_error"))

    def setup_model(self, model: nn.Module, /) -> None:
        """Draw a matrix for each parameter of two or more dimensions; those that fit stay."""
        self._check_initial()
        looked_up = _only_looked_up(model)
        weights = {name: p for name, p in model.named_parameters() if is_weight(p) and id(p) not in looked_up}
        self.matrices.prepare(weights, self.initial)

    def reset(self) -> None:
        """Forget the matrices."""
        super().reset()
        self.matrices = FeedbackMatrices()

    def check_weight(self, name: str, weight: Tensor) -> None:
        """Raise MismatchError for a weight without a matrix of its shape on its device."""
        matrix = self.matrices.find(name)
        if matrix is None or matrix.shape != weight.shape:
            raise MismatchError(
                f"FeedbackAlignment has no matrix for {name} {tuple(weight.shape)}: it is an embedding's alone, or new "
                "since the Learner was made; give the weight to an nn.Linear, or make a new Learner"
            )
        if matrix.device != weight.device:
            raise MismatchError(
                f"{name} is on {weight.device}, its matrix on {matrix.device}; move both: learner.to({weight.device})"
            )

    def feedback_matrix(self, name: str, weight: Tensor) -> Tensor:
        """Return the weight's own fixed matrix."""
        del weight
        return self.matrices.get_buffer(_key(name))

    def _check_initial(self) -> None:
        if self.initial not in ("torch", "xavier"):
            raise unknown_name("initial", str(self.initial), ("torch", "xavier"))


def _draw(weight: Tensor, initial: str) -> Tensor:
    """Return random numbers with the shape and the strides of a weight."""
    drawn = random_feedback(*weight.shape, like=weight)
    drawn = nn.init.xavier_uniform_(drawn) if initial == "xavier" else drawn
    return torch.empty_like(weight).copy_(drawn)


def _key(name: str) -> str:
    return name.replace(".", "/")


def _only_looked_up(model: nn.Module) -> set[int]:
    """Return the ids of parameters that embeddings hold, and no other module."""
    held, others = set(), set()
    for module in model.modules():
        ids = {id(parameter) for parameter in module.parameters(recurse=False)}
        (held if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) else others).update(ids)
    return held - others
