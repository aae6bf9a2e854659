"""LeakyMLP: fully connected blocks of leaky-integrator rate neurons, whose potentials follow what drives them.

u  potential of each neuron, for each slot of a window      k = dt / tau, the share of the way that a time step goes

    u ← u + k (W z + b - u),  z = layer norm(f(u)) of hidden layers;  the readout's u are the logits
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import MismatchError, is_number
from infohebb.functional.leaky import leaky_step
from infohebb.functional.nonlinearities import Nonlinearity
from infohebb.networks.blocks import Block, Response
from infohebb.networks.layered import Layered
from infohebb.networks.parts import LECUN, Parts, check_sizes, initialise


class LeakyBlock(Block):
    """A fully connected block with a potential: learning goes on from it, one time step at a time.

    `potential` (slots × outputs) stays with the slot of a window, not with a sample.
    """

    def __init__(self, synapses: nn.Linear, *args: Any, slots: int, share: float, **options: Any):
        super().__init__(synapses, *args, **options)
        self.share = share
        self.register_buffer("potential", torch.zeros(slots, synapses.out_features))

    def respond(self, x: Float[Tensor, "m *features"], *, learning: bool = False) -> Response:
        """One time step: while learning on from the potential, which advances, else from rest.

        Raises MismatchError for another number of samples than there are slots.
        """
        pre = x.flatten(1) if self.weight.dim() == 2 else x
        potential = self.get_buffer("potential")
        if not learning:
            return self.follow(pre, torch.zeros_like(potential[..., :1, :]))[1]
        check_slots(pre, potential)
        potential.lerp_(self._drive(pre), self.share)
        return self.activate(pre, potential.clone())

    def follow(self, pre: Tensor, potential: Tensor) -> tuple[Tensor, Response]:
        """The potential after a time step, and what the block then does.  [WMH 7.2]"""
        drive = self._drive(pre)
        moved = leaky_step(potential.expand_as(drive), drive, self.share)
        return moved, self.activate(pre, moved.clone())


class LeakyReadout(nn.Linear):
    """A linear readout that is leaky too: its `potential` (slots × outputs) are the logits."""

    def __init__(self, inputs: int, outputs: int, slots: int):
        super().__init__(inputs, outputs)
        self.register_buffer("potential", torch.zeros(slots, outputs))


class LeakyMLP(Layered):
    """Fully connected leaky-integrator neurons for a stream of windows, of which each is held for some time steps.

    `slots` is the number of samples in a window; each slot has potentials of its own, which are never reset. One
    `learn` is one time step of `dt` seconds; `tau` is the time constant. `network(x)` holds any number of samples for
    `steps` time steps from rest, and answers with the mean logits of the last half. Hidden layers have layer norm after
    the `nonlinearity`, all have biases, and weights start as a truncated normal of variance 1/inputs.
    Raises UnknownNameError, MismatchError, also for a time step longer than the time constant.
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
        nonlinearity: str | Nonlinearity = "relu",
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
        parts = Parts(nonlinearity, 0.01, "layer", None, 0.0, True, norm_epsilon)
        blocks = [
            LeakyBlock(
                nn.Linear(*each), parts.nonlinearity, layer_norm=parts.layer_norm(each[1]), slots=slots, share=dt / tau
            )
            for each in pairwise(sizes)
        ]
        super().__init__(blocks, LeakyReadout(sizes[-1], outputs, slots))
        self.share, self.steps = dt / tau, int(steps)
        initialise(self, LECUN)

    def forward(self, inputs: Float[Tensor, "m *features"]) -> Float[Tensor, "*nets m outputs"]:
        """Mean logits of the last half of the time steps, from rest.  [WMH 7.4]"""
        late = [logits for logits, _ in self.held(inputs)][self.steps // 2 :]
        return torch.stack(late).mean(0)

    def held(self, inputs: Float[Tensor, "m *features"]) -> Iterator[tuple[Tensor, list[Response]]]:
        """Logits and each block's response, time step by time step, while samples are held from rest."""
        blocks = [block for _, block in self.named_blocks() if isinstance(block, LeakyBlock)]
        potentials = [torch.zeros_like(layer.get_buffer("potential")[..., :1, :]) for layer in (*blocks, self.readout)]
        first = self.receive(inputs).flatten(1)
        for _ in range(self.steps):
            x, responses = first, []
            for place, block in enumerate(blocks):
                potentials[place], response = block.follow(x, potentials[place])
                responses.append(response)
                x = block.emit(response.activity)
            drive = self.weigh(x)
            potentials[-1] = leaky_step(potentials[-1].expand_as(drive), drive, self.share)
            yield potentials[-1], responses

    def read_out(self, x: Float[Tensor, "m *features"], *, learning: bool = False) -> Tensor:
        """One time step: while learning on from its potential, which advances, else from rest.  [WMH 7.3]"""
        potential, drive = self.readout.get_buffer("potential"), self.weigh(x)
        if not learning:
            return drive * self.share
        check_slots(drive, potential)
        return potential.lerp_(drive, self.share).clone()


def check_slots(x: Tensor, potential: Tensor) -> None:
    """Raise MismatchError for a window of another length than there are slots."""
    if x.shape[-2] != potential.shape[-2]:
        raise MismatchError(
            f"a window of {x.shape[-2]} samples for a network of {potential.shape[-2]} slots: give both one length "
            "(network.slots, training.batch)"
        )
