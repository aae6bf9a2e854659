"""What a network predicts, and how often it is right."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.data import DataSet
from infohebb.data.arrays import Values, as_inputs
from infohebb.errors import EmptyBatchError
from infohebb.rules.base import check_batch
from infohebb.training.sources import Data, as_source

Pairs = Iterable[tuple[Tensor, Tensor]]


def evaluate(network: nn.Module, data: Data) -> dict[str, float]:
    """Score on arrays (x, y), on the test samples of a DataSet or of (x, y, x_test, y_test), or on a loader of pairs.

    {"accuracy": percent} for labels (n), {"error": mean squared error} for numbers (n, d). Inputs are taken as the
    network was trained on them; a DataSet normalises its own. Raises EmptyBatchError and the errors of `from_arrays`.
    """
    parameter = next(network.parameters())
    source = as_source(data, 1024, parameter.device, parameter.dtype)
    pairs = source.held_out()
    if pairs is None and isinstance(data, DataSet):
        raise EmptyBatchError("the data set has no test samples; give arrays (x, y)")
    name, value = score(network, source.final_training() if pairs is None else pairs)
    return {name: value}


@torch.no_grad()
def predict(network: nn.Module, inputs: Values, batch: int = 1024) -> Float[Tensor, "m n"]:
    """The network's outputs (m × n) for `inputs` (m, ...): logits, whose argmax is the class, or numbers.

    Raises EmptyBatchError, NonFiniteDataError, MismatchError.
    """
    parameter = next(network.parameters())
    samples = as_inputs(inputs, "inputs").to(parameter.device, parameter.dtype)
    return torch.cat([network(part) for part in samples.split(batch)])


@torch.no_grad()
def score(network: nn.Module, pairs: Pairs) -> tuple[str, float]:
    """("accuracy", percent) on class indices, ("error", mean squared error) on numbers; over batches of pairs.

    Raises EmptyBatchError when there are none, MismatchError or LabelError for targets that do not fit the outputs.
    """
    total, count, continuous = 0.0, 0, False
    for inputs, targets in pairs:
        prediction = network(inputs)
        check_batch(inputs, targets, prediction.shape[1])
        continuous = targets.is_floating_point()
        if continuous:
            total += float((prediction - targets).square().mean(1).sum())
        else:
            total += int((prediction.argmax(1) == targets).sum())
        count += len(targets)
    if count == 0:
        raise EmptyBatchError("no samples to evaluate on")
    return ("error", total / count) if continuous else ("accuracy", 100 * total / count)


def precision_of(network: nn.Module) -> torch.dtype:
    """Of its weights; single for a network without any."""
    return next((parameter.dtype for parameter in network.parameters()), torch.float32)
