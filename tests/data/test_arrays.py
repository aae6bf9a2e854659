import numpy as np
import pytest
import torch

from infohebb.data.arrays import as_inputs, as_targets
from infohebb.errors import EmptyBatchError, LabelError, MismatchError, NonFiniteDataError, UsageError


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float16, torch.float32),
        (np.float32, torch.float32),
        (np.float64, torch.float64),
        (np.longdouble, torch.float64),
        (">f4", torch.float32),
        (">f8", torch.float64),
        (np.uint8, torch.float32),
        (np.uint32, torch.float32),
        (">i2", torch.float32),
        (np.int64, torch.float32),
        (bool, torch.float32),
    ],
)
def test_arrays_of_every_number_type_keep_their_values(given, kept):
    values = np.array([[0, 1], [1, 0], [1, 1]]).astype(given)
    inputs = as_inputs(values, "inputs")
    assert inputs.dtype == kept
    assert inputs.tolist() == [[0, 1], [1, 0], [1, 1]]


def test_a_read_only_array_and_a_strided_one_become_tensors_of_their_own():
    values = np.arange(12.0, dtype=np.float32).reshape(3, 4)[:, ::-2]
    values.flags.writeable = False
    inputs = as_inputs(values, "inputs")
    inputs[0, 0] = 7
    assert inputs.tolist() == [[7, 1], [7, 5], [11, 9]]
    assert values[0, 0] == 3


@pytest.mark.parametrize(
    ("given", "kept"),
    [(torch.bfloat16, torch.float32), (torch.float64, torch.float64), (torch.uint8, torch.float32)],
)
def test_tensors_keep_float64_only(given, kept):
    assert as_inputs(torch.ones(2, 3, dtype=given), "inputs").dtype == kept


def test_a_tensor_that_fits_is_shared_and_carries_no_graph():
    weight = torch.ones(2, 3, requires_grad=True)
    inputs = as_inputs(weight, "inputs")
    assert inputs.data_ptr() == weight.data_ptr()
    assert not inputs.requires_grad


def test_a_list_has_no_precision_of_its_own():
    assert as_inputs([[0.1, 2.0]], "inputs").dtype == torch.float32
    assert as_targets([0.5, 2.0], None, "targets").dtype == torch.float32
    assert as_targets([1, 0], None, "targets").dtype == torch.int64


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([[1.0], [1.0, 2.0]], UsageError, "not a rectangular array"),
        ([["a"], ["b"]], UsageError, "not numbers"),
        (np.array([[1 + 1j]]), UsageError, "complex"),
        (torch.ones(2, 2, dtype=torch.complex64), UsageError, "complex"),
        ([], EmptyBatchError, "no samples"),
        (np.zeros((0, 4)), EmptyBatchError, r"\(0, 4\)"),
        (np.zeros((4, 0)), EmptyBatchError, r"\(4, 0\)"),
        (torch.tensor(3.0), EmptyBatchError, "no samples"),
        ([1.0, 2.0], MismatchError, r"x\.reshape\(-1, 1\)"),
        ([[0.0], [1.0], [float("nan")]], NonFiniteDataError, "sample 2;"),
        (np.array([[[0.0, 1.0]], [[np.inf, 0.0]]]), NonFiniteDataError, "sample 1;"),
    ],
)
def test_inputs_that_cannot_be_right(values, error, message):
    with pytest.raises(error, match=message) as caught:
        as_inputs(values, "inputs of 'mine'")
    assert str(caught.value).startswith("inputs of 'mine'")
    assert "\n" not in str(caught.value)


def test_integers_and_booleans_are_labels():
    for values in (np.array([0, 2, 1], np.uint8), np.array([0, 2, 1], np.uint64), torch.tensor([0, 2, 1])):
        labels = as_targets(values, None, "targets")
        assert labels.dtype == torch.int64
        assert labels.tolist() == [0, 2, 1]
    assert as_targets([False, True], None, "targets").tolist() == [0, 1]


def test_floating_targets_are_continuous_unless_classes_are_given():
    column = as_targets(np.array([0.0, 1.5, 2.0]), None, "targets")
    assert column.dtype == torch.float64
    assert column.shape == (3, 1)
    assert as_targets(torch.ones(3, 2), None, "targets").shape == (3, 2)
    labels = as_targets([0.0, 2.0], 3, "targets")
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("values", "classes", "error", "message"),
    [
        ([0.0, 0.5], 2, LabelError, "not whole numbers"),
        ([[0, 1], [1, 0]], None, LabelError, r"y\.argmax\(1\)"),
        (np.zeros((3, 2, 2)), None, MismatchError, r"y\.flatten\(1\)"),
        ([0.0, float("nan")], None, NonFiniteDataError, "sample 1"),
        ([0.0, float("inf")], 2, NonFiniteDataError, "sample 1"),
        (["cat", "dog"], None, UsageError, "not numbers"),
        ([0.0, 1.0, 2.0], None, LabelError, r"y\.astype\(int\) for labels, y\[:, None\] to predict numbers"),
    ],
)
def test_targets_that_cannot_be_right(values, classes, error, message):
    with pytest.raises(error, match=message) as caught:
        as_targets(values, classes, "targets of 'mine'")
    assert str(caught.value).startswith("targets of 'mine'")
