"""The delta rule of the readout: loss, and its derivative by the readout's output.

logits (m × N)     targets (m) class indices, or (m × N) numbers
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

Logits = Float[Tensor, "m n"]
Targets = Int[Tensor, "m"] | Float[Tensor, "m n"]


class Error(NamedTuple):
    """A loss (mean over the batch) and its derivative by the logits (m × N)."""

    loss: Tensor
    error: Tensor


def cross_entropy(logits: Logits, targets: Int[Tensor, "m"]) -> Error:
    """Cross-entropy and softmax minus one-hot, over m."""
    log_probability = torch.log_softmax(logits, 1)
    target = targets.long().unsqueeze(1)
    error = log_probability.exp().scatter_(1, target, -1.0, reduce="add")
    return Error(-log_probability.gather(1, target).mean(), error.div_(len(logits)))


def mean_squared_error(logits: Logits, targets: Targets) -> Error:
    """Mean over all entries of the squared difference to the targets, labels taken one-hot."""
    if not targets.is_floating_point():
        targets = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)[targets]
    difference = logits - targets
    return Error(difference.square().mean(), difference * (2 / difference.numel()))
