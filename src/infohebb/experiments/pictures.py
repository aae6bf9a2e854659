"""Pictures' raw material: Gram matrices of each block or layer, samples sorted by class."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from infohebb.data import DataSet
from infohebb.functional.kernels import cosine_gram
from infohebb.networks import CorInfoMaxNetwork, Layered
from infohebb.networks.corinfomax import Presented

BYTES = 150_000  # for all matrices of one run


def count_blocks(network: nn.Module) -> int:
    """How many blocks there are pictures of, or layers that settle."""
    if isinstance(network, CorInfoMaxNetwork):
        return len(network.layers)
    return len(list(network.named_blocks())) if isinstance(network, Layered) else 0


class Samples:
    """A few held-out samples, the same number of each class, sorted by class."""

    def __init__(self, data: DataSet, blocks: int):
        split = data.test or data.train
        most = int((BYTES / (2 * 2 * max(blocks, 1))) ** 0.5)
        self.labels, index = _sorted_by_class(split.targets.cpu(), data.classes, min(100, most))
        index = index.to(split.inputs.device)
        self.inputs, self.targets = data.normalise(split.inputs[index]).float(), split.targets[index]

    def grams(self, network: nn.Module, when: str) -> dict[str, np.ndarray]:
        """Cosine similarities of each block's activity, minus its mean over samples: (k × k), half precision.

        Of neurons with compartments it is that of each layer's rates at rest. Nothing of any other network without
        blocks, nor of several side by side.
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
    elif isinstance(network, Layered) and network.networks is None:
        for position, (_, block) in enumerate(network.named_blocks(), 1):
            yield f"block{position}", block.respond(x).activity.flatten(1).float()
            x = block(x)


def _sorted_by_class(targets: Tensor, classes: int | None, most: int) -> tuple[np.ndarray, Tensor]:
    """Labels and positions of the first samples of each class; for numbers, of the first samples, sorted by them."""
    if classes is None:
        index = targets[:most, 0].argsort()
        return np.zeros(len(index), dtype=np.int64), index
    each = max(1, most // classes)
    index = torch.cat([(targets == label).nonzero()[:each, 0] for label in range(classes)])[:most]
    return targets[index].numpy(), index
