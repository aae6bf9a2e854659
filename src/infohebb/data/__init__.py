"""Floor 1: names to tensors; knows nothing of learning."""

from infohebb.data.augmentation import normalise_images, random_crop_and_flip
from infohebb.data.batches import batches, count_batches
from infohebb.data.dataset import DataSet, Split, from_arrays, from_npz, read_npz
from infohebb.data.digits import digits
from infohebb.data.images import load_images, load_split, normaliser
from infohebb.data.registry import check_preparation, fetch, load, names
from infohebb.data.streams import Presented, arrange, stream
from infohebb.data.synthetic import blobs, linear, random_like, xor

__all__ = [
    "DataSet",
    "Presented",
    "Split",
    "arrange",
    "batches",
    "blobs",
    "check_preparation",
    "count_batches",
    "digits",
    "fetch",
    "from_arrays",
    "from_npz",
    "linear",
    "load",
    "load_images",
    "load_split",
    "names",
    "normalise_images",
    "normaliser",
    "random_crop_and_flip",
    "random_like",
    "read_npz",
    "stream",
    "xor",
]
