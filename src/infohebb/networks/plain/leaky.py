"""LeakyMLP: fully connected layers of leaky integrators, whose potentials go on from time step to time step.

u  potential of each neuron, for each slot of a window      k = dt / tau, the share of the way that a time step goes

    u ← u + k (W z + b - u),  z = layer norm(f(u)) of hidden layers;  the readout's u are the logits      [WMH 7.1]
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import MismatchError, is_number
from infohebb.functional.leaky import leaky_step
from infohebb.networks.parts import check_sizes, initialise
from infohebb.networks.plain.layered import LayeredNetwork
from infohebb.networks.plain.layers import LayerFactory, Nonlinearity


class Held(threading.local):
    """The potentials of leaky integrators in eval mode while samples are held in this thread; None if they are not."""

    potentials: dict[nn.Module, Tensor] | None = None


_held = Held()


class LeakyIntegrator(nn.Module):
    """Return the potential after one time step of its input.

    In train mode it goes on from `potential` (slots × neurons), a buffer, and keeps what comes of it: one slot for each
    sample of a batch, which must have as many. In eval mode it starts from rest, and nothing is kept but inside
    `holding`, where one call goes on from the last. Raises MismatchError for another number of samples than slots.
    """

    potential: Tensor

    def __init__(self, neurons: int, slots: int, step_fraction: float):
        super().__init__()
        self.step_fraction = step_fraction
        self.register_buffer("potential", torch.zeros(slots, neurons))

    def forward(self, drive: Float[Tensor, "m *neurons"]) -> Float[Tensor, "m *neurons"]:
        """Return u + k (drive - u), in the precision of the potential."""
        drive = drive.to(self.potential.dtype)
        if not self.training:
            return self._from_rest(drive)
        if len(drive) != len(self.potential):
            raise MismatchError(
                f"a window of {len(drive)} samples for a network of {len(self.potential)} slots: give both one length "
                "(slots of the network, batch of the training)"
            )
        u = leaky_step(self.potential.clone(), drive, self.step_fraction)
        self.potential.copy_(u.detach())
        return u

    def _from_rest(self, drive: Tensor) -> Tensor:
        held = _held.potentials
        start = None if held is None else held.get(self)
        u = leaky_step(torch.zeros_like(drive) if start is None else start, drive, self.step_fraction)
        if held is not None:
            held[self] = u.clone()  # what follows may overwrite it
        return u

    def extra_repr(self) -> str:
        """Return sizes and settings as text."""
        return f"{tuple(self.potential.shape)}, step_fraction={self.step_fraction}"


@contextmanager
def holding() -> Iterator[None]:
    """Have leaky integrators in eval mode go on from call to call inside, from rest: in this thread alone."""
    before, _held.potentials = _held.potentials, {}
    try:
        yield
    finally:
        _held.potentials = before


class LeakyMLP(LayeredNetwork):
    """Fully connected leaky integrators for a stream of windows, each of which is presented for some time steps.

    In train mode a call is one time step of `dt` seconds from the potentials as they are, and returns the logits
    (slots × outputs) after it. In eval mode each sample is held for `steps` time steps from rest, and the logits
    (m × outputs) are the mean of the last half of them.

    Args:
        inputs: number of features of a sample, or its shape; samples are flattened.
        outputs: number of classes, or of predicted numbers.
        widths: neurons of each hidden layer.
        slots: number of samples in a window; each slot has potentials of its own, which are never reset.
        steps: time steps for which a sample is held in eval mode.
        tau: time constant in seconds.
        dt: length of a time step in seconds, at most tau.
        nonlinearity: as in MLP. Layer norm follows it; all layers have biases, and weights start as a truncated normal
            of variance 1/inputs.
        norm_epsilon: added to the variances of layer norm.

    Raises:
        UnknownNameError: for a nonlinearity that does not exist.
        MismatchError: for any other value that is not allowed, and for samples of another size.
    """

    def __init__(
        self,
        inputs: int | Sequence[int] = 2,
        outputs: int = 2,
        widths: Sequence[int] = (10, 4),
        slots: int = 10,
        steps: int = 20,
        tau: float = 5e-3,
        dt: float = 1e-3,
        nonlinearity: Nonlinearity = "relu",
        norm_epsilon: float = 1e-6,
    ):
        shape = inputs if isinstance(inputs, Sequence) else (inputs,)
        check_sizes(inputs=shape, outputs=(outputs,), widths=widths, slots=(slots,), steps=(steps,))
        sizes = [int(torch.Size(shape).numel()), *widths]
        if min(*sizes, outputs, slots, steps) < 1:
            raise MismatchError(f"layers {sizes}, {outputs} outputs, {slots} slots, {steps} steps: all take at least 1")
        for name, seconds in (("tau", tau), ("dt", dt)):
            if not is_number(seconds) or seconds <= 0:
                raise MismatchError(f"{name} {seconds!r}: give seconds, a number above 0, such as 1e-3")
        if dt > tau:
            raise MismatchError(
                f"a time step dt = {dt} s beyond the time constant tau = {tau} s overshoots; take dt from 0 to tau"
            )
        factory = LayerFactory(nonlinearity, 0.01, "layer", None, 0.0, True, norm_epsilon)
        layers = [
            factory.linear(place, *each, LeakyIntegrator(each[1], slots, dt / tau))
            for place, each in enumerate(pairwise(sizes))
        ]
        readout = nn.Sequential(nn.Linear(sizes[-1], outputs), LeakyIntegrator(outputs, slots, dt / tau))
        super().__init__(layers, readout)
        self.features, self.slots, self.steps = sizes[0], int(slots), int(steps)
        initialise(self, "lecun")

    def forward(self, inputs: Float[Tensor, "m *features"]) -> Float[Tensor, "m *outputs"]:
        """Return the logits: after one time step in train mode, as an average over time in eval mode."""
        x = self.rows(inputs)
        if self.training:
            return super().forward(x)
        with holding():
            late = [super(LeakyMLP, self).forward(x) for _ in range(self.steps)][self.steps // 2 :]
        return torch.stack(late).mean(0)
