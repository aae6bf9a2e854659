"""The delta rule of the readout: loss, and its derivative by the readout's output.

logits (m × N), of networks side by side (nets × m × N)     targets (m) class indices, or (m × N) numbers
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

Logits = Float[Tensor, "*nets m n"]
Targets = Int[Tensor, "m"] | Float[Tensor, "m n"]


class Error(NamedTuple):
    """A loss (mean over the batch, one for each network) and its derivative by the logits."""

    loss: Tensor
    error: Tensor


def one_hot(labels: Int[Tensor, "m"], classes: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "m n"]:
    """A one in the place of each label."""
    return torch.eye(classes, dtype=dtype, device=labels.device)[labels]


def cross_entropy(logits: Logits, targets: Int[Tensor, "m"]) -> Error:
    """Cross-entropy and softmax minus one-hot, over m."""
    log_probability = torch.log_softmax(logits, -1)
    index = targets.long().expand(logits.shape[:-1]).unsqueeze(-1)
    loss = log_probability.gather(-1, index).mean((-2, -1)).neg_()
    error = log_probability.exp().scatter_(-1, index, -1.0, reduce="add")
    return Error(loss, error.div_(len(targets)))


def mean_squared_error(logits: Logits, targets: Targets) -> Error:
    """Mean over all entries of the squared difference to the targets, labels taken one-hot."""
    if not targets.is_floating_point():
        targets = one_hot(targets, logits.shape[-1], logits.dtype)
    difference = logits - targets
    each = difference.shape[-2:].numel()
    return Error(difference.square().mean((-2, -1)), difference * (2 / each))
