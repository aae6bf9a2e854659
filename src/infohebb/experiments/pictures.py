"""Raw material of figures: Gram matrices of each layer, samples sorted by class."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from infohebb.data import DataSet
from infohebb.functional.kernels import cosine_gram
from infohebb.learner.probing import evaluating
from infohebb.networks import CorInfoMaxNetwork
from infohebb.networks.corinfomax import Presented
from infohebb.networks.plain.layered import LayeredNetwork

BYTES = 150_000  # for all matrices of one run


def count_units(network: nn.Module) -> int:
    """How many layers have Gram matrices: units, or layers that settle."""
    if isinstance(network, CorInfoMaxNetwork):
        return len(network.layers)
    return len(network.layers) if isinstance(network, LayeredNetwork) else 0


class Samples:
    """A few held-out samples, the same number of each class, sorted by class."""

    def __init__(self, data: DataSet, units: int):
        split = data.test or data.train
        most = int((BYTES / (2 * 2 * max(units, 1))) ** 0.5)
        self.labels, index = _sorted_by_class(split.targets.cpu(), data.classes, min(100, most))
        index = index.to(split.inputs.device)
        self.inputs, self.targets = data.normalise(split.inputs[index]).float(), split.targets[index]

    def grams(self, network: nn.Module, when: str) -> dict[str, np.ndarray]:
        """Cosine similarities of each layer's activity, minus its mean over samples: (k × k), half precision.

        Of leaky neurons it is the activity after the time steps for which a sample is held, of neurons with
        compartments the rates at rest. Nothing of any other network that settles, nor of stacked ones.
        """
        found = {}
        with torch.no_grad():
            for name, activity in _activities(network, self.inputs):
                gram = cosine_gram(activity - activity.mean(0))
                found[f"gram_{when}_{name}"] = gram.half().cpu().numpy()
        return found


def _activities(network: nn.Module, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """By name and flat."""
    if isinstance(network, CorInfoMaxNetwork):
        shown = Presented(network, network.receive(x))
        names = [name for name, _ in network.named_layers()]
        yield from zip(names, network.split(shown.settle(network.steps)), strict=True)
    elif isinstance(network, LayeredNetwork) and network.stacked is None:
        found: dict[str, Tensor] = {}
        units = [(unit.name, network.get_submodule(unit.activity)) for unit in network.marked_units()]
        handles = [module.register_forward_hook(partial(_keep, found, name)) for name, module in units]
        try:
            with evaluating(network):
                network(x)
        finally:
            for handle in handles:
                handle.remove()
        yield from found.items()


def _keep(found: dict[str, Tensor], name: str, module: nn.Module, args: object, activity: Tensor) -> None:
    """Keep the activity of the last call, flat: what follows may overwrite it."""
    del module, args
    found[name] = activity.flatten(1).float().clone()


def _sorted_by_class(targets: Tensor, classes: int | None, most: int) -> tuple[np.ndarray, Tensor]:
    """Labels and positions of the first samples of each class; for numbers, of the first samples, sorted by them."""
    if classes is None:
        index = targets[:most, 0].argsort()
        return np.zeros(len(index), dtype=np.int64), index
    each = max(1, most // classes)
    index = torch.cat([(targets == label).nonzero()[:each, 0] for label in range(classes)])[:most]
    return targets[index].numpy(), index
