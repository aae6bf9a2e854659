import torch
from sklearn.datasets import load_digits

from infohebb.data import digits


def test_shapes_and_range():
    data = digits()
    assert data.test is not None
    assert data.train.inputs.shape == (1437, 1, 8, 8)
    assert data.test.inputs.shape == (360, 1, 8, 8)
    assert data.classes == 10
    assert data.train.inputs.dtype == torch.float32
    assert (float(data.train.inputs.min()), float(data.train.inputs.max())) == (-1, 1)


def test_the_two_splits_are_scikit_learns_digits_each_once():
    data = digits()
    assert data.test is not None
    images, labels = load_digits(return_X_y=True)
    rows = [
        (*((image.flatten() + 1) * 8).int().tolist(), int(label))
        for split in (data.train, data.test)
        for image, label in zip(*split, strict=True)
    ]
    assert sorted(rows) == sorted((*map(int, image), int(label)) for image, label in zip(images, labels, strict=True))


def test_the_split_is_fixed_and_stratified():
    first, second = digits(), digits()
    assert first.test is not None
    assert second.test is not None
    assert torch.equal(first.test.inputs, second.test.inputs)
    shares = first.test.targets.bincount() / first.train.targets.bincount()
    assert (shares - 360 / 1437).abs().max() < 0.01
