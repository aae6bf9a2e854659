"""Checkpoints: a folder per epoch that appears whole; nothing in it is ever unpickled.

epoch0007/network.safetensors   weights and buffers of the network
epoch0007/rule.safetensors      weights, traces and memories of the rule
epoch0007/state.pt              optimizer, random state, history: plain tensors and values
epoch0007/config.json           what made it
"""

import contextlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torch.optim import Optimizer

from infohebb.errors import CheckpointError, CorruptFileError, MissingDataError
from infohebb.files import full_disk_as_error
from infohebb.training.renamed import rename_tensors
from infohebb.training.seeding import random_state, restore_random_state

# What damaged bytes make torch raise, and a state that lacks its parts.
UNREADABLE = (OSError, RuntimeError, EOFError, pickle.UnpicklingError)
EPOCH, PART = re.compile(r"epoch[0-9]{4,}"), re.compile(r"\.epoch[0-9]{4,}\.[0-9]+\.part")
DESCRIBED = {"model", "optimizer", "sampling", "config"}  # parts of what a fit writes; "config" is its caller's
LACKING = (KeyError, TypeError, ValueError, AttributeError, IndexError)


@dataclass(frozen=True)
class Progress:
    """What training goes on from: epochs done, curves, what draws the order of samples, if one does, and steps done."""

    epoch: int
    curves: dict[str, Any]
    order_seed: int | None = None
    steps: int = 0


def save_checkpoint(
    folder: Path, progress: Progress, network: nn.Module, rule: nn.Module, optimizer: Optimizer, config: dict[str, Any]
) -> Path:
    """Write the state after an epoch, then remove older ones.  Raises NoSpaceError; the last checkpoint then stays."""

    def write(part: Path) -> None:
        _write_weights(part, network, config)
        (part / "rule.safetensors").write_bytes(save(tensors_of(rule)))
        (part / "state.pt").write_bytes(_state(progress, optimizer))

    return write_epoch(folder, progress.epoch, write)


def save_weights(folder: Path, epoch: int, network: nn.Module, config: dict[str, Any]) -> Path:
    """Write what a finished run is good for, without what it would go on from.  Raises NoSpaceError."""
    return write_epoch(folder, epoch, lambda part: _write_weights(part, network, config))


def _write_weights(part: Path, network: nn.Module, config: dict[str, Any]) -> None:
    (part / "network.safetensors").write_bytes(save(tensors_of(network)))
    (part / "config.json").write_text(json.dumps(config, indent=1))


def write_epoch(folder: Path, epoch: int, write: Callable[[Path], object], keep: int = 1) -> Path:
    """Return the folder of an epoch, which `write` has filled under another name; older ones go, all but `keep`.

    Raises NoSpaceError; the last checkpoint then stays.
    """
    whole = folder / f"epoch{epoch:04d}"
    part = folder / f".{whole.name}.{os.getpid()}.part"
    with full_disk_as_error(folder), interrupted_after():
        try:
            part.mkdir(parents=True, exist_ok=True)
            write(part)
            _flush(part)
            shutil.rmtree(whole, ignore_errors=True)
            part.rename(whole)
            _flush_names(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    older = sorted((path for path in _epochs(folder) if _age(path) < _age(whole) and not path.is_symlink()), key=_age)
    for path in older[: max(0, len(older) - keep + 1)]:
        shutil.rmtree(path)
    remove_parts(folder)
    return whole


def remove_parts(folder: Path) -> None:
    """Remove what killed processes have left half written."""
    for left in folder.glob(".epoch*.part"):
        if PART.fullmatch(left.name) and left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def interrupted_after() -> Iterator[None]:
    """Have Ctrl-C wait until the end: in the midst of `torch.save` it would come out as a RuntimeError of torch's."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        before(*caught[0])


def drop_state(folder: Path) -> None:
    """Keep what a finished run is still good for: its weights and its configuration."""
    found = latest(folder)
    if found is not None:
        (found / "checksums.json").unlink(missing_ok=True)
        (found / "state.pt").unlink(missing_ok=True)


def _state(progress: Progress, optimizer: Optimizer) -> bytes:
    """As bytes, since torch and safetensors do not raise OSError when the disk is full."""
    state = {**vars(progress), "random": random_state()}
    stream = io.BytesIO()
    torch.save({**state, "optimizer": optimizer.state_dict()}, stream)
    return stream.getvalue()


def _flush(folder: Path) -> None:
    """See every file onto the disk before the folder gets its name."""
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    _flush_names(folder)


def _flush_names(folder: Path) -> None:
    """See the names in a folder onto the disk, where the system can."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return a module's state as safetensors takes it: contiguous, each in memory of its own."""
    tensors, seen = {}, set()
    for name, tensor in module.state_dict().items():
        kept = tensor.detach().contiguous()
        place = kept.untyped_storage().data_ptr()
        tensors[name] = kept.clone() if place in seen else kept
        seen.add(place)
    return tensors


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint below `folder`, or `folder` itself if it is one."""
    parts = [(folder / name).is_file() for name in ("network.safetensors", "config.json")]
    if all(parts) or (any(parts) and EPOCH.fullmatch(folder.name)):
        return folder
    return max(_epochs(folder), key=_age, default=None)


def _epochs(folder: Path) -> list[Path]:
    """The epoch folders below `folder`, by the names that `write_epoch` gives; nothing else there is ours."""
    return [path for path in folder.glob("epoch*") if EPOCH.fullmatch(path.name) and path.is_dir()]


def _age(folder: Path) -> tuple[int, str]:
    """What sorts epoch folders, past epoch 9999 too."""
    return len(folder.name), folder.name


def _existing(checkpoint: Path) -> Path:
    found = latest(checkpoint)
    if found is None:
        raise MissingDataError(f"no checkpoint at {checkpoint}; give the folder that `infohebb run` wrote")
    return found


def read_config(checkpoint: Path) -> dict[str, Any]:
    """Return the configuration that a checkpoint was given by those who had it written.

    Raises MissingDataError, CorruptFileError.
    """
    described = read_description(_existing(checkpoint))
    return dict(described["config"]) if described.keys() >= DESCRIBED else described


def is_of_fit(checkpoint: Path) -> bool:
    """Whether `fit` wrote the checkpoint.  Raises MissingDataError, CorruptFileError."""
    return read_description(_existing(checkpoint)).keys() >= DESCRIBED


def read_description(found: Path) -> dict[str, Any]:
    """Return all that is known of what made a checkpoint.  Raises CorruptFileError."""
    try:
        return dict(json.loads((found / "config.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CorruptFileError(f"{found / 'config.json'} cannot be read; delete {found} to start again") from error


def load_weights(checkpoint: Path, module: nn.Module, file: str = "network.safetensors") -> None:
    """Load weights into `module`.  Raises MissingDataError, CorruptFileError, CheckpointError."""
    _load(_existing(checkpoint), module, file)


def _load(found: Path, module: nn.Module, file: str) -> None:
    try:
        tensors = load_file(found / file)
    except (OSError, SafetensorError) as error:
        raise CorruptFileError(f"{found / file} cannot be read; delete {found} to start again") from error
    try:
        module.load_state_dict(rename_tensors(tensors, module.state_dict()))
    except RuntimeError as error:
        raise CheckpointError(f"{found} holds weights of another network than the one given") from error


def is_finished(found: Path) -> bool:
    """Whether only weights and configuration were kept."""
    left = [(found / name).exists() for name in ("state.pt", "checksums.json")]
    return (found / "network.safetensors").exists() and not any(left)


def resume(
    folder: Path, network: nn.Module, rule: nn.Module, optimizer: Optimizer, config: dict[str, Any]
) -> Progress | None:
    """Load the newest checkpoint, if there is one, into all three and into the random generators.

    Raises CheckpointError when another configuration made it, CorruptFileError when it cannot be read.
    """
    found = latest(folder)
    if found is None or is_finished(found):
        return None
    if read_description(found) != json.loads(json.dumps(config)):
        raise CheckpointError(f"{found} is a checkpoint of another configuration; delete it or choose another --out")
    _load(found, network, "network.safetensors")
    _load(found, rule, "rule.safetensors")
    try:
        state = torch.load(found / "state.pt", weights_only=True, map_location="cpu")
        optimizer.load_state_dict(state["optimizer"])
        restore_random_state(state["random"])
        return Progress(state["epoch"], state["curves"], state["order_seed"], state["steps"])
    except (*UNREADABLE, *LACKING) as error:
        raise CorruptFileError(f"{found / 'state.pt'} cannot be read; delete {found} to start again") from error
