import io
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infohebb.data import DataSet, from_arrays, from_npz
from infohebb.errors import (
    CorruptFileError,
    EmptyBatchError,
    LabelError,
    MismatchError,
    MissingDataError,
    NonFiniteDataError,
    UsageError,
)


def numbered(samples: int, test: bool = False) -> DataSet:
    """Sample i is (i, i + 1/2) and has label i % 3."""
    inputs = torch.arange(samples)[:, None] + torch.tensor([0.0, 0.5])
    labels = torch.arange(samples) % 3
    return from_arrays(inputs, labels, *((inputs[:4], labels[:4]) if test else ()), name="numbered")


def test_shape_and_outputs():
    assert from_arrays(np.zeros((4, 3, 8, 8)), [0, 1, 0, 2]).input_shape == (3, 8, 8)
    assert from_arrays(np.zeros((4, 2)), [0, 1, 0, 2]).outputs == 3
    continuous = from_arrays(np.zeros((4, 2)), np.zeros((4, 7)))
    assert continuous.classes is None
    assert continuous.outputs == 7


def test_normalise_keeps_float64_and_is_the_identity_on_arrays():
    data = numbered(4)
    assert torch.equal(data.normalise(data.train.inputs), data.train.inputs)
    assert data.normalise(torch.ones(2, dtype=torch.float64)).dtype == torch.float64
    assert data.normalise(torch.ones(2, dtype=torch.uint8)).dtype == torch.float32
    assert data.augment is None


def test_classes_are_counted_over_training_and_test():
    data = from_arrays(np.zeros((2, 1)), [0, 1], np.zeros((2, 1)), [2, 0])
    assert data.classes == 3
    assert from_arrays(np.zeros((2, 1)), [0, 1], classes=10).classes == 10


@pytest.mark.parametrize(
    ("arguments", "classes", "error", "message"),
    [
        (([[1.0]], [0, 1]), None, MismatchError, "1 inputs and 2 targets"),
        (([[1.0]], [0], [[1.0]], [0, 1]), None, MismatchError, r"\(test\): 1 inputs and 2 targets"),
        (([[1.0]], [0], [[1.0, 2.0]], [0]), None, MismatchError, r"inputs of 'mine'.*\(1,\).*\(2,\)"),
        (([[1.0]], [0], [[1.0]], [0.5]), None, MismatchError, "targets of 'mine'.*int64.*float32"),
        (([[1.0]], [[0.5]], [[1.0]], [[0.5, 1.0]]), None, MismatchError, "targets of 'mine'"),
        (([[1.0]], [0], [[1.0]]), None, MismatchError, "give both or neither"),
        (([[1.0]], [0], None, [0]), None, MismatchError, "give both or neither"),
        (([[1.0], [2.0]], [0, -1]), 2, LabelError, "label -1"),
        (([[1.0], [2.0]], [0, -1]), None, LabelError, "have labels -1, 0; number them from 0"),
        (([[1.0], [2.0]], [1, 2]), None, LabelError, "have labels 1, 2; number them from 0"),
        (([[1.0], [2.0]], [0, 10**9]), None, LabelError, "have labels 0, 1000000000; .* or give classes=N"),
        (([[1.0], [2.0]], [0, 3]), 3, LabelError, "label 3; with 3 classes labels go from 0 to 2"),
        (([[1.0]], [0], [[1.0]], [5]), 3, LabelError, "label 5"),
        (([], []), None, EmptyBatchError, "no samples"),
        (([[float("nan")]], [0]), None, NonFiniteDataError, "inputs of 'mine' contain NaN"),
        (([[1.0]], [0], [[float("inf")]], [0]), None, NonFiniteDataError, r"inputs of 'mine' \(test\)"),
    ],
)
def test_arrays_that_do_not_fit(arguments, classes, error, message):
    with pytest.raises(error, match=message) as caught:
        from_arrays(*arguments, classes=classes, name="mine")
    assert "\n" not in str(caught.value)


def test_validation_is_the_first_tenth_of_the_papers_permutation():
    data = numbered(109, test=True).validation()
    assert data.test is not None
    order = np.concatenate([data.test.inputs[:, 0], data.train.inputs[:, 0]]).astype(int)
    assert len(data.test.targets) == 10
    assert sorted(order) == list(range(109))
    assert torch.equal(data.train.targets, torch.from_numpy(order[10:]) % 3)
    assert torch.equal(data.test.inputs[:, 1], data.test.inputs[:, 0] + 0.5)


def test_validation_draws_what_numpys_legacy_generator_draws_from_seed_0():
    held_out = numbered(100).validation().test
    assert held_out is not None
    assert held_out.inputs[:, 0].tolist() == [26, 86, 2, 55, 75, 93, 16, 73, 54, 95]  # widely printed


def test_validation_needs_ten_samples():
    with pytest.raises(EmptyBatchError, match="9 training samples"):
        numbered(9).validation()


def test_to_moves_every_sample():
    moved = numbered(5, test=True).to("meta")
    assert moved.test is not None
    assert {tensor.device.type for split in (moved.train, moved.test) for tensor in split} == {"meta"}
    assert numbered(5).to(torch.device("cpu")).test is None


def test_a_data_set_survives_pickling():
    copy = pickle.loads(pickle.dumps(numbered(5)))  # noqa: S301 (worker processes do this)
    assert torch.equal(copy.train.inputs, numbered(5).train.inputs)


def write(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_npz_with_a_test_set(tmp_path):
    x, y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 2])
    data = from_npz(write(tmp_path / "mine.npz", x=x, y=y, x_test=x[:1], y_test=y[:1], other=np.array([1])))
    assert data.name == "mine"
    assert data.test is not None
    assert torch.equal(data.train.inputs, torch.from_numpy(x))
    assert data.test.targets.tolist() == [0]


def test_npz_without_a_test_set_holds_out_the_same_fifth_each_time(tmp_path):
    path = str(write(tmp_path / "mine.npz", x=np.arange(50.0)[:, None], y=np.arange(50) % 4))
    data, again = from_npz(path), from_npz(path)
    assert data.test is not None
    assert again.test is not None
    assert len(data.test.targets) == 10
    drawn = torch.cat([data.test.inputs, data.train.inputs])[:, 0]
    assert drawn.sort().values.tolist() == list(range(50))
    assert drawn.tolist() != list(range(50))
    assert torch.equal(torch.cat([data.test.targets, data.train.targets]), drawn.long() % 4)
    assert torch.equal(data.test.inputs, again.test.inputs)


def test_npz_with_one_sample_cannot_be_split(tmp_path):
    with pytest.raises(EmptyBatchError, match="one sample"):
        from_npz(write(tmp_path / "mine.npz", x=np.ones((1, 2)), y=np.array([0])))


def test_npz_without_its_keys(tmp_path):
    with pytest.raises(UsageError, match=r"mine.npz holds x; it needs arrays named x and y"):
        from_npz(write(tmp_path / "mine.npz", x=np.ones((2, 2)), labels=np.array([0])))


def test_npz_that_is_not_there(tmp_path):
    with pytest.raises(MissingDataError, match=r"none\.npz.*No such file"):
        from_npz(tmp_path / "none.npz")


def test_npz_that_is_something_else(tmp_path):
    whole = write(tmp_path / "whole.npz", x=np.ones((9, 2)), y=np.zeros(9, int)).read_bytes()
    np.save(tmp_path / "array.npy", np.ones(3))
    contents = {
        "empty": b"",
        "text": b"x, y\n1, 2\n",
        "half": whole[: len(whole) // 2],
        "flipped": whole.replace(np.float64(1).tobytes(), np.float64(3).tobytes(), 1),
        "array": (tmp_path / "array.npy").read_bytes(),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=rf"{name}\.npz is no \.npz file"):
            from_npz(path)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def test_npz_never_unpickles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "mine.npz", x=np.ones((1, 2)), y=np.array([Bomb()], dtype=object))
    with pytest.raises(CorruptFileError, match="plain number arrays"):
        from_npz(path)
    assert not Path("exploded").exists()


WHOLE = io.BytesIO()
np.savez_compressed(WHOLE, x=np.arange(8.0).reshape(4, 2), y=np.array([0, 1, 0, 1]))


@given(st.lists(st.tuples(st.integers(0, len(WHOLE.getvalue()) - 1), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_npz_with_changed_bytes_is_read_or_refused(changes):
    content = bytearray(WHOLE.getvalue())
    for place, value in changes:
        content[place] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.npz"
        path.write_bytes(content)
        try:
            assert from_npz(path).train.inputs.sum() + from_npz(path).test.inputs.sum() == 28
        except (CorruptFileError, UsageError) as error:
            assert "mine" in str(error)
