import pytest
import torch

from functional.oracles import golden
from infohebb.data import blobs, linear, load, random_like, xor
from infohebb.data.synthetic import LINE
from infohebb.errors import EmptyBatchError, UsageError


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_blobs_are_unit_gaussians_at_equal_distances(classes):
    data = blobs(samples=40_000, features=8, classes=classes, separation=4.0)
    for split in (data.train, data.test):
        assert split is not None
        inputs, labels = split
        counts = labels.bincount()
        assert counts.max() - counts.min() <= 1
        centres = torch.stack([inputs[labels == k].mean(dim=0) for k in range(classes)])
        distances = torch.pdist(centres)
        assert (distances - 4).abs().max() < 0.1
        assert centres.mean(dim=0).abs().max() < 0.1
        covariance = torch.cov((inputs - centres[labels]).T)
        assert (covariance - torch.eye(8)).abs().max() < 0.05


def test_blobs_are_a_function_of_the_seed_alone():
    state = torch.get_rng_state()
    first, second, other = blobs(seed=1), blobs(seed=1), blobs(seed=2)
    assert first.test is not None
    assert first.input_shape == (8,)
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert not torch.equal(first.train.inputs, other.train.inputs)
    assert not torch.equal(first.train.inputs, first.test.inputs)
    assert torch.equal(torch.get_rng_state(), state)


def test_blobs_that_cannot_be():
    with pytest.raises(UsageError, match=r"9 blobs .* 8 features"):
        blobs(classes=9)
    with pytest.raises(EmptyBatchError, match="no samples"):
        blobs(samples=0)


def test_random_like_has_the_shape_and_nothing_to_learn():
    data = random_like((3, 32, 32), classes=10, samples=50, seed=4)
    assert data.test is not None
    assert data.input_shape == (3, 32, 32)
    assert data.outputs == 10
    assert len(data.train.targets) == len(data.test.targets) == 50
    assert abs(float(data.train.inputs.mean())) < 0.02
    assert abs(float(data.train.inputs.std()) - 1) < 0.02
    assert torch.equal(data.train.inputs, random_like((3, 32, 32), 10, 50, seed=4).train.inputs)
    assert not torch.equal(data.train.inputs, data.test.inputs)


def test_random_like_of_nothing():
    with pytest.raises(EmptyBatchError, match="no samples"):
        random_like((3,), classes=2, samples=0)


@pytest.mark.parametrize("make", [xor, linear])
def test_small_sets_are_those_of_the_paper_and_their_labels_right(make):
    data = make()
    assert (len(data.train.targets), len(data.test.targets), data.classes) == (900, 100, 2)
    for x, y in (data.train, data.test):
        if make is xor:
            right = (x[:, 0] > 0.5) ^ (x[:, 1] > 0.5)
            assert (right == y.bool()).float().mean() > 0.99
        else:
            assert torch.equal((x @ torch.tensor([-0.9435144, -0.4910064]) > 0).long(), y)
            assert x.abs().max() <= 1
        assert 0.35 < y.float().mean() < 0.65
    assert torch.equal(make().train.inputs, data.train.inputs)
    assert not torch.equal(make(seed=1).train.inputs, data.train.inputs)


@pytest.mark.parametrize("name", ["xor", "linear"])
def test_the_published_division_has_a_name_of_its_own(name):
    plain, divided = load(name), load(f"{name}_255")
    assert divided.name == f"{name}_255"
    torch.testing.assert_close(divided.train.inputs * 255, plain.train.inputs)
    assert torch.equal(divided.test.targets, plain.test.targets)


@pytest.mark.parametrize("make", [xor, linear])
def test_any_other_scale_is_told_by_the_name(make):
    name = make.__name__
    assert [make(scale=scale).name for scale in (1.0, 1 / 255)] == [name, f"{name}_255"]
    assert [make(scale=scale).name for scale in (0.5, 1 / 256)] == [f"{name} (scale 0.5)", f"{name} (scale 0.00390625)"]


def test_the_line_is_that_of_the_published_points():
    arrays = golden("../wmh/synthetic_datasets")
    torch.testing.assert_close(torch.tensor(LINE), arrays["linear_w"].flatten(), rtol=1e-6, atol=0)
    for part in ("train", "test"):
        right = (arrays[f"linear_{part}_input"] @ torch.tensor(LINE) > 0).long()
        assert torch.equal(right, arrays[f"linear_{part}_label"].flatten().long())
