"""Which device, how much memory, and an allocator that keeps what it will need again."""

import ctypes
import functools
import platform
import re
from pathlib import Path

import torch

from infohebb.errors import MismatchError


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes a CUDA GPU where there is one.  Raises MismatchError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise MismatchError(f"device {name!r} cannot be used here; take cpu or auto") from error
    return device


def device_name(device: torch.device) -> str:
    """What a record says of the device: the card's name, or the processor and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


@functools.cache
def keep_freed_memory() -> None:
    """Have glibc keep freed memory instead of giving it back and faulting it in again at each step.

    A step frees and allocates the same gradients, and glibc's defaults fault their pages in again each time.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, size in ((trim_threshold, 2**31 - 1), (top_pad, 2**26), (mmap_threshold, 2**30)):
            libc.mallopt(option, size)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of peak memory, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory(device: torch.device) -> tuple[int, str]:
    """Peak memory in bytes since `reset_peak_memory`, and how it was measured."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "CUDA allocator, tensors of this process"
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    return (int(found[1]) * 1024, "resident set of the process, data included") if found else (0, "not available")
