"""What a rule of windows keeps of a stream: tensors of the last samples, or a network that has heard them."""

from typing import Any

import torch
from torch import Tensor, nn

from infohebb.errors import DivergenceError
from infohebb.networks.third_factor import ReservoirModulator


class Remembered(nn.Module):
    """The last samples' tensors by name, oldest first: buffers, which come and go with the state."""

    def push(self, name: str, now: Tensor, capacity: int, *, onset: bool, over: int = 0) -> Tensor:
        """All that is remembered, `now` at the end: a newcomer at its onset, else in its former place.  [WMH 4.3]"""
        kept = self._buffers.get(name)
        if kept is None:
            self.register_buffer(name, now.clone())
            return now
        first = max(0, kept.shape[over] + onset - capacity)
        older = kept.narrow(over, first, kept.shape[over] - first - (not onset))
        all_of_them = torch.cat([older.to(now), now], over)  # what was loaded lies where it was saved, in its precision
        if kept.shape == all_of_them.shape and kept.dtype == now.dtype and kept.device == now.device:
            kept.copy_(all_of_them)
        else:
            self._buffers[name] = all_of_them.clone()
        return all_of_them

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any, **more: Any) -> None:
        self._buffers.clear()
        for key in [key for key in state_dict if key.startswith(prefix)]:
            self.register_buffer(key.removeprefix(prefix), torch.empty_like(state_dict[key]))
        super()._load_from_state_dict(state_dict, prefix, *rest, **more)


class Auxiliary(nn.Module):
    """A layer's auxiliary network, its readout frozen, and the potential from which it heard the current sample."""

    start: Tensor

    def __init__(self, modulator: ReservoirModulator):
        super().__init__()
        self.modulator = modulator
        self.register_buffer("start", modulator.reservoir.potential.clone())

    def rest(self) -> None:
        """Forget the stream."""
        self.modulator.reservoir.rest()
        self.start.zero_()

    def say(self, x: Tensor, y: Tensor, z: Tensor, *, onset: bool) -> Tensor:
        """ξ (1 × D) of the current sample; one that is still there is heard once more in its former place.

        Raises DivergenceError.
        """
        potential = self.modulator.reservoir.potential
        if onset:
            self.start.copy_(potential)
        else:
            potential.copy_(self.start)
        try:
            return self.modulator.estimate(x, y, z)
        except DivergenceError as error:
            raise DivergenceError("what a layer's auxiliary network hears is not finite; lower the rate") from error
