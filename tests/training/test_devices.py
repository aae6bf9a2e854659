import mmap

import pytest
import torch

from infohebb.errors import MismatchError
from infohebb.training.devices import device_name, keep_freed_memory, peak_memory, pick_device, reset_peak_memory

CPU = torch.device("cpu")
SIZE = 160_000_000


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["abacus", "", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_here_is_named(name):
    with pytest.raises(MismatchError, match=f"device '{name}' cannot be used here; take cpu or auto"):
        pick_device(name)


def test_a_record_names_processor_and_threads():
    assert device_name(CPU).endswith(f", {torch.get_num_threads()} threads")
    assert not device_name(CPU).startswith(",")


def test_peak_memory_sees_what_was_freed_again():
    """Pages of its own: a tensor may lie in memory that is resident already, because freed memory is kept."""
    reset_peak_memory(CPU)
    before, method = peak_memory(CPU)
    with mmap.mmap(-1, SIZE) as pages:
        pages.write(bytes(SIZE // 2))
        pages.write(bytes(SIZE // 2))
    after, _ = peak_memory(CPU)
    assert after - before > SIZE / 2
    assert "resident set" in method


def test_keeping_freed_memory_is_safe_to_ask_for_twice():
    keep_freed_memory()
    keep_freed_memory()
    assert keep_freed_memory.cache_info().currsize == 1
