"""What a network predicts, and how often it is right."""

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.data import DataSet, count_batches
from infohebb.data.arrays import Values, as_inputs
from infohebb.errors import EmptyBatchError, MismatchError, WrongTypeError, is_whole
from infohebb.learner.plan import stacked_in
from infohebb.learner.probing import evaluating
from infohebb.networks import Layered, Settling
from infohebb.rules.base import check_batch
from infohebb.training.batches import Home, as_batches, as_samples
from infohebb.training.sources import Data, as_source

Pairs = Iterable[tuple[Tensor, Tensor]]


def evaluate(network: nn.Module, data: Data) -> dict[str, Any]:
    """Score on arrays (x, y), on the test samples of a DataSet or of (x, y, x_test, y_test), or on a loader of pairs.

    {"accuracy": percent} for labels (n), {"error": mean squared error} for numbers (n, d); of stacked networks a list
    with a number for each. Inputs are taken as the network was trained on them; a DataSet normalises its
    own. A module that is none of our layered or settling networks is put in eval mode, and each of its modules gets its
    own mode back; its integer inputs stay integers. Raises EmptyBatchError, MismatchError and the errors of
    `from_arrays`.
    """
    if is_plain(network):
        held_out = data[2:] if isinstance(data, tuple) and len(data) == 4 else data
        batches = as_batches(held_out, 1024, Home(*home_of(network)), shuffle=False, name="data")
        with evaluating(network):
            name, value = score(network, batches)
        return {name: value}
    source = as_source(data, 1024, *home_of(network))
    pairs = source.held_out()
    if pairs is None and isinstance(data, DataSet):
        raise EmptyBatchError("the data set has no test samples; give arrays (x, y)")
    name, value = score(network, source.final_training() if pairs is None else pairs)
    return {name: value}


@torch.no_grad()
def predict(network: nn.Module, inputs: Values, batch: int = 1024) -> Float[Tensor, "*E m n"]:
    """The network's outputs (m × n) for `inputs` (m, ...): logits, whose argmax is the class, or numbers.

    Of E stacked networks they are (E × m × n). In eval mode, as in `evaluate`. Raises EmptyBatchError,
    NonFiniteDataError, MismatchError, WrongTypeError.
    """
    device, dtype = home_of(network)
    plain = is_plain(network)
    given = as_samples(inputs, "inputs") if plain else as_inputs(inputs, "inputs")
    samples = given.to(device, dtype if given.is_floating_point() else given.dtype)
    if not is_whole(batch):
        raise WrongTypeError(f"batch = {batch!r}: give a whole number of at least 1")
    count_batches(len(samples), batch)
    with evaluating(network) if plain else contextlib.nullcontext():
        return torch.cat([_checked(network, network(part), len(part)) for part in samples.split(int(batch))], -2)


@torch.no_grad()
def score(network: nn.Module, pairs: Pairs) -> tuple[str, Any]:
    """("accuracy", percent) on class indices, ("error", mean squared error) on numbers; over batches of pairs.

    Of E stacked networks a list of E numbers. Raises EmptyBatchError when
    there are no pairs, MismatchError or LabelError for targets that do not fit the outputs.
    """
    total, count, continuous = torch.zeros((), dtype=torch.float64), 0, False
    for inputs, targets in pairs:
        prediction = _checked(network, network(inputs), len(targets))
        check_batch(inputs, targets, prediction.shape[-1])
        continuous = targets.is_floating_point()
        hits = (prediction - targets).square().mean(-1) if continuous else prediction.argmax(-1) == targets
        total = total + hits.sum(-1).double().cpu()
        count += len(targets)
    if count == 0:
        raise EmptyBatchError("no samples to evaluate on")
    return ("error", (total / count).tolist()) if continuous else ("accuracy", (100 * total / count).tolist())


def _checked(network: nn.Module, output: Any, samples: int) -> Tensor:
    """Return what a network gives, (samples × outputs), of stacked networks (E × samples × outputs).

    Raises MismatchError for a plain module's that is shaped otherwise.
    """
    if not is_plain(network):
        return output
    stacked = stacked_in(network) is not None
    if not (isinstance(output, Tensor) and output.dim() == 2 + stacked and len(output) == samples):
        what = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
        raise MismatchError(
            f"network: the {type(network).__name__} gives an output of {what} for {samples} samples; give a module "
            f"whose output is a tensor ({samples}, outputs)"
        )
    return output.transpose(0, 1) if stacked else output


def home_of(network: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and precision of its weights; the CPU and single without any.  Raises MismatchError for no module."""
    if not isinstance(network, nn.Module):
        raise MismatchError(f"network is {network!r}; give a torch module that is made, such as MLP()")
    return next(((p.device, p.dtype) for p in network.parameters()), (torch.device("cpu"), torch.float32))


def is_plain(network: nn.Module) -> bool:
    """Whether a module means by train and eval mode what PyTorch does: all but our layered and settling networks."""
    return not isinstance(network, (Layered, Settling))
