"""Data drawn from a seed: something to learn, and something of a given shape."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from infohebb.data.dataset import DataSet, Split, from_arrays
from infohebb.errors import UsageError


def blobs(samples: int = 200, features: int = 8, classes: int = 2, separation: float = 4.0, seed: int = 0) -> DataSet:
    """Gaussian blobs of unit variance, one per class, `samples` for training and as many for test: (n, features).

    Each two centres are `separation` apart, and their mean is zero. Classes have the same size, or differ by one.
    Raises UsageError for more classes than features, EmptyBatchError for no samples.
    """
    if not 0 < classes <= features:
        raise UsageError(f"{classes} blobs at equal distances do not fit into {features} features; give more features")
    generator = torch.Generator().manual_seed(seed)
    centres = _centres(features, classes, separation, generator)
    train, test = (_draw_blobs(centres, samples, generator) for _ in range(2))
    return from_arrays(*train, *test, classes=classes, name="blobs")


def random_like(shape: tuple[int, ...], classes: int, samples: int, seed: int = 0) -> DataSet:
    """Standard normal inputs (samples, *shape) with random labels, for training and for test: nothing to learn.

    Raises EmptyBatchError for no samples or an empty shape.
    """
    generator = torch.Generator().manual_seed(seed)
    train, test = (_draw_noise(shape, classes, samples, generator) for _ in range(2))
    return from_arrays(*train, *test, classes=classes, name="random")


def _centres(features: int, classes: int, separation: float, generator: Generator) -> Float[Tensor, "k f"]:
    """Corners of a regular simplex in a random orientation; orthonormal vectors are √2 apart."""
    directions = torch.linalg.qr(torch.randn(features, classes, generator=generator)).Q.T
    return (directions - directions.mean(dim=0)) * (separation / 2**0.5)


def _draw_blobs(centres: Float[Tensor, "k f"], samples: int, generator: Generator) -> Split:
    labels = torch.randperm(samples, generator=generator) % len(centres)
    noise = torch.randn(samples, centres.shape[1], generator=generator)
    return Split(centres[labels] + noise, labels)


def _draw_noise(shape: tuple[int, ...], classes: int, samples: int, generator: Generator) -> Split:
    inputs = torch.randn(samples, *shape, generator=generator)
    return Split(inputs, torch.randint(classes, (samples,), generator=generator))
