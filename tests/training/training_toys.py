"""Small networks of ours and data sets to train them on."""

import torch
from fit_toys import same, weights

from infohebb import KernelizedBottleneck
from infohebb.data import DataSet, Split, blobs
from infohebb.networks.plain import MLP

__all__ = ["Untouchable", "data", "network", "rule", "same", "weights"]


class Untouchable(Split):
    """A test split that may not be looked at."""

    def __getattribute__(self, name):
        if name in ("inputs", "targets", "to", "select"):
            raise AssertionError("the test split was read")
        return super().__getattribute__(name)

    def __iter__(self):
        raise AssertionError("the test split was read")

    def __getitem__(self, key):
        raise AssertionError("the test split was read")


def network(outputs=2, **options):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return MLP(8, outputs, **{"widths": (16, 16), "divisive_norm": {"groups": 4}, **options})


def rule(**options):
    return KernelizedBottleneck(**options)


def data(samples=60, **options) -> DataSet:
    return blobs(samples, features=8, **options)
