"""What a network predicts, and how often it is right."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import EmptyBatchError

Pairs = Iterable[tuple[Tensor, Tensor]]


@torch.no_grad()
def predict_logits(network: nn.Module, inputs: Float[Tensor, "m *features"], batch: int = 1024) -> Float[Tensor, "m n"]:
    """Logits (or predicted numbers) of `inputs`, batch by batch.  Raises EmptyBatchError."""
    if len(inputs) == 0:
        raise EmptyBatchError("no samples to predict")
    return torch.cat([network(part) for part in inputs.split(batch)])


@torch.no_grad()
def score(network: nn.Module, pairs: Pairs) -> tuple[str, float]:
    """("accuracy", percent) on class indices, ("error", mean squared error) on numbers; over batches of pairs.

    Raises EmptyBatchError when there are none.
    """
    total, count, continuous = 0.0, 0, False
    for inputs, targets in pairs:
        prediction = network(inputs)
        continuous = targets.is_floating_point()
        if continuous:
            total += float((prediction - targets).square().mean(1).sum())
        else:
            total += int((prediction.argmax(1) == targets).sum())
        count += len(targets)
    if count == 0:
        raise EmptyBatchError("no samples to evaluate on")
    return ("error", total / count) if continuous else ("accuracy", 100 * total / count)
