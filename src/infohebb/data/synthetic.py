"""Data drawn from a seed: something to learn, and something of a given shape."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from infohebb.data.dataset import DataSet, Split, from_arrays
from infohebb.errors import UsageError

SMALL, SMALL_TEST = 1000, 100
AS_PUBLISHED = 1 / 255  # the published code scales inputs of xor and linear as if they were images
LINE = (-0.9435144, -0.4910064)  # the paper's normal vector


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


def xor(seed: int = 0, scale: float = 1.0) -> DataSet:
    """Corners of the unit square with noise of s.d. 0.1, labelled by xor: 900 for training, 100 for test.  [WMH 10.1]

    As in the working-memory paper; `scale` multiplies the inputs (n, 2).
    """
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(2, (SMALL, 2), generator=generator)
    inputs = corners + 0.1 * torch.randn(SMALL, 2, generator=generator)
    return _small_set(inputs * scale, corners[:, 0] ^ corners[:, 1], _scaled("xor", scale))


def linear(seed: int = 0, scale: float = 1.0) -> DataSet:
    """Points of the square from -1 to 1, labelled by the side of a line: 900 for training, 100 for test.  [WMH 10.2]

    As in the working-memory paper, with its line; `scale` multiplies the inputs (n, 2).
    """
    inputs = 2 * torch.rand(SMALL, 2, generator=torch.Generator().manual_seed(seed)) - 1
    labels = (inputs @ torch.tensor(LINE) > 0).long()
    return _small_set(inputs * scale, labels, _scaled("linear", scale))


def _scaled(name: str, scale: float) -> str:
    """The name that `load` knows, where it knows inputs of that scale."""
    return {1: name, AS_PUBLISHED: f"{name}_255"}.get(scale, f"{name} (scale {scale})")


def _small_set(inputs: Tensor, labels: Tensor, name: str) -> DataSet:
    first = SMALL - SMALL_TEST
    return from_arrays(inputs[:first], labels[:first], inputs[first:], labels[first:], classes=2, name=name)


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
