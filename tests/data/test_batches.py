import pytest
import torch

from infohebb.data import Split, batches, count_batches
from infohebb.errors import EmptyBatchError

SPLIT = Split(torch.arange(10.0)[:, None] * 2, torch.arange(10))


def test_in_order_batches_are_views_and_the_last_is_smaller():
    parts = list(batches(SPLIT, 4, shuffle=False))
    assert [part.targets.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert parts[1].inputs.data_ptr() == SPLIT.inputs[4:].data_ptr()


@pytest.mark.parametrize("size", [1, 3, 5, 10, 99])
def test_shuffled_batches_visit_every_sample_once_with_its_target(size):
    parts = list(batches(SPLIT, size, shuffle=True))
    assert [len(part.targets) for part in parts] == [len(part) for part in torch.arange(10).split(size)]
    assert torch.cat([part.targets for part in parts]).sort().values.tolist() == list(range(10))
    assert all(torch.equal(part.inputs[:, 0], part.targets * 2.0) for part in parts)


def order(**options) -> list[int]:
    return torch.cat([part.targets for part in batches(SPLIT, 3, shuffle=True, **options)]).tolist()


def test_the_order_is_a_function_of_the_global_seed():
    torch.manual_seed(5)
    expected = torch.randperm(10).tolist()
    torch.manual_seed(5)
    first, second = order(), order()
    assert first == expected
    assert second != first


def test_a_generator_leaves_the_global_one_alone():
    state = torch.get_rng_state()
    expected = torch.randperm(10, generator=torch.Generator().manual_seed(7)).tolist()
    assert order(generator=torch.Generator().manual_seed(7)) == expected
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("samples", "size", "count"), [(10, 4, 3), (10, 5, 2), (10, 11, 1), (1, 1, 1)])
def test_count(samples, size, count):
    assert count_batches(samples, size) == count


@pytest.mark.parametrize("shuffle", [True, False])
def test_no_samples_is_an_error_at_the_call(shuffle):
    with pytest.raises(EmptyBatchError, match="batch size 0"):
        batches(SPLIT, 0, shuffle=shuffle)
    with pytest.raises(EmptyBatchError, match="no samples"):
        batches(Split(SPLIT.inputs[:0], SPLIT.targets[:0]), 4, shuffle=shuffle)
