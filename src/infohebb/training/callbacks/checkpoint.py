"""Checkpoint: what a fit goes on from to the same bits; nothing in it is ever unpickled.

epoch0007/network.safetensors   weights and buffers of the model
epoch0007/rule.safetensors      weights, memories and fixed feedback of the rule
epoch0007/state.pt              optimizer, scheduler, random states, history, other callbacks: tensors and plain values
epoch0007/config.json           what made it: names and settings
epoch0007/checksums.json        SHA-256 of the files above
"""

import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save
from torch import nn
from torch.optim import Optimizer

from infohebb.errors import CheckpointError, CorruptFileError, WrongTypeError, is_whole
from infohebb.learner import Learner
from infohebb.training.callbacks.base import Callback, State
from infohebb.training.callbacks.described import KNOWN, Known, describe, difference, settings_of
from infohebb.training.callbacks.folders import as_folder, make_folder
from infohebb.training.callbacks.randomness import all_random_states, generators_of, restore_all
from infohebb.training.checkpoint import (
    LACKING,
    UNREADABLE,
    interrupted_after,
    is_finished,
    is_of_fit,
    latest,
    load_weights,
    read_description,
    remove_parts,
    tensors_of,
    write_epoch,
)
from infohebb.training.wording import said, short

FILES = ("network.safetensors", "rule.safetensors", "state.pt", "config.json")


class Checkpoint(Callback):
    """Writes a checkpoint after each `every`-th epoch and the last, and resumes from the newest one in `folder`.

    A resumed fit ends with the same bits as one that was never interrupted, and `epochs` may be larger than before.
    The user's code builds model, rule, optimizer and scheduler as for the first fit. A call of `fit` that follows a
    finished one in the same process goes on from the model as it is, at the rates that the optimizer has.

    Args:
        folder: where checkpoints are; each appears whole, as epoch0007.
        every: number of epochs between checkpoints. Default: 1.
        keep: number of checkpoints to keep, the newest ones. Default: 1.
        config: settings of your own, which must be the same to resume. Default: none.

    Raises:
        WrongTypeError: for an argument of the wrong type. UsageError: for a folder that cannot be written to.
        CheckpointError: at the start of a fit, for a checkpoint of another model, rule, optimizer or scheduler, or of
            another order of samples.
        CorruptFileError: for a damaged one. NoSpaceError: for a full disk; the last checkpoint then stays.
    """

    outermost: ClassVar[bool] = True

    def __init__(self, folder: str | Path, every: int = 1, keep: int = 1, *, config: Mapping[str, Any] | None = None):
        for name, value in (("every", every), ("keep", keep)):
            if not is_whole(value) or value < 1:
                raise WrongTypeError(f"{name}={value!r}: give a whole number of at least 1")
        if config is not None and not isinstance(config, Mapping):
            raise WrongTypeError(f"config={short(config)}: give a dictionary of settings, or None")
        self.folder, self.every, self.keep, self.config = as_folder(folder), every, keep, dict(config or {})
        self._described: dict[str, Any] = {}

    def on_fit_start(self, state: State) -> None:
        """Remove what killed runs left, and go on from the newest checkpoint if there is one."""
        make_folder(self.folder)
        remove_parts(self.folder)
        known = KNOWN.get(state.optimizer)
        now = describe(state, self.config)
        untouched = known is not None and known.left == settings_of(state.optimizer)
        self._described = known.first_with(now) if known is not None and untouched else now
        found = latest(self.folder)
        if found is None or is_finished(found):
            return
        if known is not None and known.live == found:
            self._described = known.first_with(now)
            _go_on(found, state)
        else:
            resume_from(found, state, self._described)

    def on_epoch_end(self, state: State) -> None:
        """Write a checkpoint, if it is time."""
        if state.epoch % self.every and state.epoch < state.epochs and not state.stop:
            return
        with interrupted_after():
            self._write(state)

    def _write(self, state: State) -> None:
        contents = {
            "network.safetensors": save(_checked(state.learner.model, "the model")),
            "rule.safetensors": save(_checked(state.learner.rule, "the rule")),
            "state.pt": _state_bytes(state),
            "config.json": json.dumps(self._described, indent=1).encode(),
        }
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        contents["checksums.json"] = json.dumps(sums, indent=1).encode()

        def write(part: Path) -> None:
            for name, content in contents.items():
                (part / name).write_bytes(content)

        write_epoch(self.folder, state.epoch, write, self.keep)

    def on_fit_end(self, state: State) -> None:
        """Note how the optimizer was left, so that the next fit can tell whether it was changed by hand."""
        live = None if state.failed else latest(self.folder)
        KNOWN[state.optimizer] = Known(self._described, settings_of(state.optimizer), live)

    def load_weights(self, learner: Learner) -> None:
        """Load the weights of the newest checkpoint into a learner's model and rule, and nothing else.

        Raises MissingDataError, CorruptFileError, CheckpointError.
        """
        load_weights(self.folder, learner.model)
        load_weights(self.folder, learner.rule, "rule.safetensors")


def resume_from(found: Path, state: State, described: dict[str, Any]) -> None:
    """Load a checkpoint into all that a fit goes on from, after everything in it has been checked.

    Raises CheckpointError, CorruptFileError.
    """
    saved = read_description(found)
    if not is_of_fit(found):
        raise CheckpointError(
            f"{found} was not written by `fit`, perhaps by version 0.1, whose trainings cannot be resumed; delete "
            "it to start again, or choose another folder"
        )
    for part in described:
        differs = difference(saved.get(part), described[part], part)
        if differs:
            raise CheckpointError(f"{found} is of another {part}: {differs}; choose another folder, or delete it")
    loaded = read_state(found)
    try:
        _check_shapes(loaded["optimizer"], state.optimizer)
        load_weights(found, state.learner.model)
        load_weights(found, state.learner.rule, "rule.safetensors")
        state.optimizer.load_state_dict(loaded["optimizer"])
        if state.scheduler is not None:
            state.scheduler.load_state_dict(loaded["scheduler"])
        _take_over(loaded, state)
        restore_all(loaded["random"], generators_of(state.train.source))
    except LACKING as error:
        if isinstance(error, (CheckpointError, CorruptFileError)):
            raise
        raise _damaged(found / "state.pt") from error


def _go_on(found: Path, state: State) -> None:
    """Take over counts and history only: the model in memory is where the checkpoint is, or further."""
    loaded = read_state(found)
    try:
        _take_over(loaded, state)
    except LACKING as error:
        if isinstance(error, CheckpointError):
            raise
        raise _damaged(found / "state.pt") from error


def _take_over(loaded: dict[str, Any], state: State) -> None:
    state.epoch, state.step, state.history = loaded["epoch"], loaded["step"], loaded["history"]
    if loaded["order_seed"] is not None and state.train.sampling.order_seed is None:
        state.order_seed = loaded["order_seed"]
    for name, callback in _named(state).items():
        if name in loaded["callbacks"]:
            try:
                callback.load_state_dict(loaded["callbacks"][name])
            except Exception as error:
                raise CheckpointError(
                    f"callbacks: load_state_dict of {type(callback).__name__} fails: {type(error).__name__}: "
                    f"{said(error)}; have it take what its state_dict returned, or choose another folder"
                ) from error


def read_state(found: Path) -> dict[str, Any]:
    """Return the state in a checkpoint whose files are all what they were when written.  Raises CorruptFileError."""
    try:
        sums = json.loads((found / "checksums.json").read_text())
        for name in FILES:
            content = (found / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != sums[name]:
                raise _damaged(found / name)
        return dict(torch.load(found / "state.pt", weights_only=True, map_location="cpu"))
    except (*UNREADABLE, *LACKING) as error:
        if isinstance(error, CorruptFileError):
            raise
        raise _damaged(found) from error


def _damaged(path: Path) -> CorruptFileError:
    return CorruptFileError(f"{path} is damaged; delete {path if path.is_dir() else path.parent} to start again")


def _check_shapes(saved: dict[str, Any], optimizer: Optimizer) -> None:
    """Raise CorruptFileError for a state whose tensors do not fit: torch's fused optimizers write past their ends."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    by_number = dict(zip(numbers, parameters, strict=True))
    if type(optimizer).__name__ == "Adafactor":
        return
    for number, kept in saved["state"].items():
        for name, value in kept.items():
            if isinstance(value, torch.Tensor) and value.dim() and value.shape != by_number[number].shape:
                raise CorruptFileError(
                    f"the checkpoint's optimizer state {name} has shape {tuple(value.shape)}, its parameter "
                    f"{tuple(by_number[number].shape)}; delete the checkpoint to start again"
                )


def _state_bytes(state: State) -> bytes:
    """As bytes, since torch does not raise OSError when the disk is full."""
    scheduler = None if state.scheduler is None else state.scheduler.state_dict()
    kept = {
        "epoch": state.epoch,
        "step": state.step,
        "history": state.history,
        "order_seed": state.order_seed,
        "optimizer": state.optimizer.state_dict(),
        "scheduler": scheduler,
        "random": all_random_states(generators_of(state.train.source)),
        "callbacks": {name: callback.state_dict() for name, callback in _named(state).items()},
    }
    stream = io.BytesIO()
    torch.save(kept, stream)
    content = stream.getvalue()
    try:
        torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "a scheduler, optimizer or callback has a state that is not made of numbers, strings, lists, dictionaries "
            "and tensors; have its state_dict() return such"
        ) from error
    return content


def _named(state: State) -> dict[str, Callback]:
    """Return the other callbacks by the name of their class and how many of it came before."""
    named: dict[str, Callback] = {}
    for callback in state.callbacks:
        if not isinstance(callback, Checkpoint):
            kind = type(callback).__name__
            named[f"{kind}.{sum(key.startswith(f'{kind}.') for key in named)}"] = callback
    return named


def _checked(module: nn.Module, place: str) -> dict[str, torch.Tensor]:
    for name, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(f"{place} keeps {name}, a {type(value).__name__}; a checkpoint holds tensors only")
    return tensors_of(module)
