import gzip
import shutil
from pathlib import Path

import pytest
import torch

from infohebb.data import load_images, load_split, random_crop_and_flip
from infohebb.errors import CorruptFileError, MissingDataError

MNIST_MEAN, MNIST_STD = 0.1307, 0.3081  # of the training pixels in [0, 1], as widely used


def test_mnist(idx_data):
    data = load_images("mnist", idx_data)
    assert data.test is not None
    assert data.train.inputs.shape == (60_000, 1, 28, 28)
    assert data.test.inputs.shape == (10_000, 1, 28, 28)
    assert data.train.targets[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.targets[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.train.targets.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    scaled = data.train.inputs.double() / 255
    assert float(scaled.mean()) == pytest.approx(MNIST_MEAN, abs=5e-5)
    assert float(scaled.std()) == pytest.approx(MNIST_STD, abs=5e-5)


def test_the_grey_sets_go_to_minus_one_to_one_without_augmentation(idx_data):
    data = load_images("mnist", idx_data)
    batch = data.normalise(data.train.inputs[:100])
    assert batch.dtype == torch.float32
    assert (float(batch.min()), float(batch.max())) == (-1, 1)
    assert data.augment is None
    assert data.outputs == 10


def test_fashion_mnist(idx_data):
    data = load_images("fashion_mnist", idx_data)
    assert data.test is not None
    assert data.train.targets[:5].tolist() == [9, 0, 0, 3, 0]
    assert data.test.targets[:5].tolist() == [9, 2, 1, 1, 6]
    assert data.train.targets.bincount().tolist() == [6000] * 10
    assert float(data.train.inputs.double().mean() / 255) == pytest.approx(0.2860, abs=5e-5)


def test_kmnist_without_its_training_images(idx_data):
    with pytest.raises(MissingDataError, match=r"^kmnist: .*KMNIST/raw lacks train-images-idx3-ubyte\.gz;"):
        load_images("kmnist", idx_data)
    test = load_split("kmnist", "test", idx_data)
    assert test.inputs.shape == (10_000, 1, 28, 28)
    assert test.targets.bincount().tolist() == [1000] * 10


def test_cifar10(cifar_data):
    data = load_images("cifar10", cifar_data)
    assert data.test is not None
    assert data.train.inputs.shape == (50_000, 3, 32, 32)
    assert data.test.inputs.shape == (10_000, 3, 32, 32)
    assert data.train.targets[:5].tolist() == [6, 9, 9, 4, 1]
    assert data.test.targets[:5].tolist() == [3, 8, 8, 0, 6]
    assert data.train.targets.bincount().tolist() == [5000] * 10
    assert data.augment is random_crop_and_flip
    batch = data.normalise(data.train.inputs[:10_000])
    assert batch.mean(dim=(0, 2, 3)).abs().max() < 0.02
    assert (batch.std(dim=(0, 2, 3)) - 1).abs().max() < 0.02


def copy_training_files(source: Path, out: Path) -> Path:
    folder = out / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for path in (source / "MNIST" / "raw").glob("train-*"):
        shutil.copy(path, folder)
    return folder


def test_without_test_no_test_file_is_touched(idx_data, tmp_path):
    folder = copy_training_files(idx_data, tmp_path / "data")
    data = load_images("mnist", tmp_path / "data", test=False)
    assert data.test is None
    with pytest.raises(MissingDataError, match=r"lacks t10k-images-idx3-ubyte\.gz, t10k-labels-idx1-ubyte\.gz;"):
        load_images("mnist", tmp_path / "data")
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (folder / name).write_bytes(b"not to be read")
    assert torch.equal(load_images("mnist", tmp_path / "data", test=False).train.inputs, data.train.inputs)
    with pytest.raises(CorruptFileError, match="t10k-images"):
        load_images("mnist", tmp_path / "data")


def test_unpacked_files_are_read(idx_data, tmp_path):
    folder = copy_training_files(idx_data, tmp_path / "data")
    for path in list(folder.glob("*.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    data = load_images("mnist", tmp_path / "data", test=False)
    assert torch.equal(data.train.inputs, load_split("mnist", "train", idx_data).inputs)
