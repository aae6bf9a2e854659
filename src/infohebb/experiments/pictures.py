"""Pictures' raw material: Gram matrices of each block, samples sorted by class."""

import numpy as np
import torch
from torch import Tensor, nn

from infohebb.data import DataSet
from infohebb.functional.kernels import cosine_gram
from infohebb.networks import Layered

BYTES = 150_000  # for all matrices of one run


def count_blocks(network: nn.Module) -> int:
    """How many blocks there are pictures of."""
    return len(list(network.named_blocks())) if isinstance(network, Layered) else 0


class Samples:
    """A few held-out samples, the same number of each class, sorted by class."""

    def __init__(self, data: DataSet, blocks: int):
        split = data.test or data.train
        most = int((BYTES / (2 * 2 * max(blocks, 1))) ** 0.5)
        self.labels, index = _sorted_by_class(split.targets.cpu(), data.classes, min(100, most))
        self.inputs = data.normalise(split.inputs[index.to(split.inputs.device)]).float()

    def grams(self, network: nn.Module, when: str) -> dict[str, np.ndarray]:
        """Cosine similarities of each block's activity, minus its mean over samples: (k × k), half precision.

        Nothing of a network without blocks, nor of several side by side.
        """
        if not isinstance(network, Layered) or network.networks is not None:
            return {}
        found, x = {}, self.inputs
        with torch.no_grad():
            for position, (_, block) in enumerate(network.named_blocks(), 1):
                activity = block.respond(x).activity.flatten(1).float()
                gram = cosine_gram(activity - activity.mean(0))
                found[f"gram_{when}_block{position}"] = gram.half().cpu().numpy()
                x = block(x)
        return found


def _sorted_by_class(targets: Tensor, classes: int | None, most: int) -> tuple[np.ndarray, Tensor]:
    """Labels and positions of the first samples of each class; for numbers, of the first samples, sorted by them."""
    if classes is None:
        index = targets[:most, 0].argsort()
        return np.zeros(len(index), dtype=np.int64), index
    each = max(1, most // classes)
    index = torch.cat([(targets == label).nonzero()[:each, 0] for label in range(classes)])[:most]
    return targets[index].numpy(), index
