import gzip
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from infohebb.data import load, load_images, load_split, normaliser, random_crop_and_flip
from infohebb.errors import CorruptFileError, MismatchError, MissingDataError

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


def packed(folder: Path, file: str, samples: int, **labels: list[int]) -> np.ndarray:
    """A batch file of random images as the CIFAR sets publish them; its pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(samples).integers(0, 256, (samples, 3072), dtype=np.uint8)
    words = {key.encode(): value for key, value in labels.items()}
    (folder / file).write_bytes(pickle.dumps({b"data": pixels, **words}, 4))
    return pixels


@pytest.fixture
def small_cifar100(tmp_path) -> Path:
    folder = tmp_path / "data" / "cifar-100-python"
    packed(folder, "train", 4, fine_labels=[99, 1, 0, 7], coarse_labels=[0, 1, 2, 3])
    packed(folder, "test", 2, fine_labels=[5, 98], coarse_labels=[4, 19])
    return tmp_path / "data"


def test_cifar100(small_cifar100):
    data = load("cifar100", small_cifar100)
    assert data.test is not None
    assert (data.train.targets.tolist(), data.test.targets.tolist()) == ([99, 1, 0, 7], [5, 98])
    assert (data.input_shape, data.classes, data.outputs) == ((3, 32, 32), 100, 100)
    assert data.augment is random_crop_and_flip
    assert load("cifar100", small_cifar100, test=False).test is None


def test_missing_cifar100_says_what_to_put_where(tmp_path):
    with pytest.raises(MissingDataError) as caught:
        load("cifar100", tmp_path)
    assert str(caught.value) == (
        f"cifar100: {tmp_path}/cifar-100-python lacks train, test; put cifar-100-python.tar.gz from "
        f"https://www.cs.toronto.edu/~kriz/ into {tmp_path} and run: infohebb data fetch cifar100 --data-dir {tmp_path}"
    )


def test_a_normalisation_of_one_s_own_replaces_the_published_one(small_cifar100):
    mean, std = [0.4914, 0.4822, 0.4465], [0.6069, 0.5982, 0.603]
    data = load("cifar100", small_cifar100, mean=mean, std=std, augment=False)
    assert data.augment is None
    batch = data.normalise(data.train.inputs)
    for channel in range(3):
        pixels = data.train.inputs[:, channel].double() / 255
        expected = (pixels - mean[channel]) / std[channel]
        torch.testing.assert_close(batch[:, channel].double(), expected, rtol=1e-5, atol=1e-6)
    own = load("cifar100", small_cifar100, mean=mean, std=std)
    assert own.augment is random_crop_and_flip
    published = load("cifar100", small_cifar100, augment=False)
    assert published.augment is None
    assert not torch.equal(published.normalise(data.train.inputs), batch)


def test_pixels_may_stay_in_zero_to_one():
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    scaled = normaliser("mnist", [0.0], [1.0])(grey)
    assert (float(scaled.min()), float(scaled.max())) == (0, 1)
    torch.testing.assert_close(scaled.flatten().double(), torch.arange(256) / 255.0, check_dtype=False)


def test_augment_true_augments_nothing_that_is_not_augmented(small_cifar100, idx_data):
    assert load("mnist", idx_data, test=False, augment=True).augment is None
    assert load("mnist", idx_data, test=False, mean=[0.0], std=[1.0]).normalise is not None


@pytest.mark.parametrize(
    ("name", "words", "options"),
    [
        ("mnist", "mnist: mean is given alone; give mean and std, or neither", {"mean": [0.0]}),
        ("mnist", "mnist: std is given alone", {"std": [1.0]}),
        (
            "mnist",
            r"mnist: mean = \[0.0, 0.0\] for images of 1 channel; give one number for each",
            {"mean": [0.0, 0.0], "std": [1.0]},
        ),
        ("cifar100", r"std = \[1.0\] for images of 3 channels", {"mean": [0.0, 0.0, 0.0], "std": [1.0]}),
        ("mnist", r"mnist: std = \[0.0\]: give numbers above 0", {"mean": [0.0], "std": [0.0]}),
        ("mnist", r"mnist: std = \[-1.0\]: give numbers above 0", {"mean": [0.0], "std": [-1.0]}),
        ("mnist", r"mnist: std = \[nan\]: give a list of numbers", {"mean": [0.0], "std": [float("nan")]}),
        ("digits", "digits is no set of raw images, to be .*; leave out mean", {"mean": [0.0], "std": [1.0]}),
        ("blobs", "blobs is no set of raw images, to be .*; leave out augment", {"augment": False}),
    ],
)
def test_settings_that_do_not_fit_the_images_are_named_before_files_are_read(tmp_path, name, words, options):
    with pytest.raises(MismatchError, match=words) as caught:
        load(name, tmp_path / "nowhere", **options)
    assert "\n" not in str(caught.value)
