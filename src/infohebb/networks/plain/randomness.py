"""Random generators of a training step: what is drawn depends on (seed, unit, how many draws the unit has made).

    with draws(seed):            # one step
        enter_unit("layers.0")   # what follows is drawn for this unit
        ...

So a unit draws the same numbers whichever process computes it, and whatever the other units have drawn before.

    with restored_random_state():    # whatever is drawn here, torch's global generators are afterwards as before
        ...
"""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch

SEEDS = 2**63 - 1  # one more than the largest seed


lock = threading.RLock()  # of torch's global generators: they belong to the process, not to a thread


def _renew_lock() -> None:
    """Give a forked process a lock of its own: the thread that held the inherited one does not exist there."""
    global lock
    lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def restored_random_state(devices: Sequence[torch.device | str] | None = None) -> Iterator[None]:
    """Give torch's global generators, of the CPU and these CUDA devices (default: all), their state back at the end.

    One thread at a time may be inside, since the generators belong to the process; a thread that is may enter again.
    """
    with lock, torch.random.fork_rng(devices):
        yield


class Draws:
    """The state of one `draws` context: its seed, the unit entered last and how many generators it has asked for."""

    def __init__(self, seed: int | None):
        self._seed, self._unit = seed, ""
        self._counts: dict[str, int] = {}  # of draws, by the unit: one that is called twice goes on
        self._generators: dict[torch.device, torch.Generator] = {}

    @property
    def seed(self) -> int:
        """The seed; where none was given, one number of torch's global generator, drawn when it is first needed."""
        if self._seed is None:
            self._seed = int(torch.randint(SEEDS, (), dtype=torch.int64, device="cpu"))
        return self._seed

    def enter(self, unit: str) -> None:
        """Draw for that unit from now on, from where it was."""
        self._unit = unit

    @property
    def unit(self) -> str:
        """The unit for which is drawn now."""
        return self._unit

    def generator(self, device: torch.device) -> torch.Generator:
        """Return a generator of that device, seeded for the next draw; a later call seeds the same one anew."""
        if device not in self._generators:
            self._generators[device] = torch.Generator(device)
        count = self._counts.get(self._unit, 0)
        self._counts[self._unit] = count + 1
        seed = mix(self.seed, self._unit, count)
        return self._generators[device].manual_seed(seed)


_current: ContextVar[Draws | None] = ContextVar("infohebb_draws", default=None)


@contextmanager
def draws(seed: int | None = None) -> Iterator[Draws]:
    """Make all of our modules draw by (seed, unit entered last, number of the draw) inside the context.

    `seed` None takes one number of torch's global CPU generator, so that torch.manual_seed governs what is drawn. That
    happens at the first draw: a step that draws nothing leaves the global generator alone. Contexts may be nested; the
    innermost one counts.
    """
    state = Draws(seed)
    token = _current.set(state)
    try:
        yield state
    finally:
        _current.reset(token)


def enter_unit(name: str) -> None:
    """Draw for the unit of that name from now on, from where it was; outside `draws` nothing happens."""
    current = _current.get()
    if current is not None:
        current.enter(name)


def current_unit() -> str:
    """Return the unit for which is drawn now; "" outside `draws`."""
    current = _current.get()
    return "" if current is None else current.unit


def generator(device: torch.device) -> torch.Generator | None:
    """Return the generator of the next draw on that device; None stands for torch's global one.

    It is None outside `draws`, on the meta device, and while a CUDA graph is captured: a graph knows only the global
    generator, whose numbers differ at each replay.
    """
    current = _current.get()
    if current is None or device.type == "meta":
        return None
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return None
    return current.generator(device)


def mix(seed: int, unit: str, count: int) -> int:
    """Return a seed that is the same in every process: 63 bits of the BLAKE2 hash of the three."""
    digest = hashlib.blake2b(f"{seed}/{count}/{unit}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % SEEDS
