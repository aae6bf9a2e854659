"""Does the online rule go where the batch rule does? Updates of one layer with fixed weights, added up over a stream.

40 points of 4 classes in turn: class centres and noise N(0, 1) in 12 dimensions. 32 neurons, leaky ReLU of slope 0.1,
weights N(0, 1/12); 8 groups, p = 0.2, delta = 1. Stimuli are drawn uniformly, with replacement; those of forms with
traces are held for 8 time steps, and the traces' constant is 2 of them.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from infohebb.errors import MismatchError
from infohebb.learner import Learner
from infohebb.networks.plain import MLP
from infohebb.rules import KernelizedBottleneck, KernelizedBottleneckOnline
from infohebb.training.seeding import seeded

POINTS, CLASSES, FEATURES, NEURONS = 40, 4, 12, 32
SIGMA = {True: 0.3, False: 3.0}  # grouped, plain
GROUPED: dict[str, Any] = {"groups": 8, "power": 0.8, "delta": 1.0}
WITH_TRACES = ("mean_activity", "trace")
LAYER = "layers.0.activity.linear"
HOLD, SHOWN = 8, 6  # time steps of a stimulus where there are traces, and stimuli of which time steps are shown


class World(NamedTuple):
    """A network of one layer, its points and labels, and minus the batch rule's update of its weight."""

    network: MLP
    inputs: Tensor
    labels: Tensor
    batch: Tensor

    @property
    def weight(self) -> Tensor:
        """The weight of the layer."""
        return self.network.get_parameter(f"{LAYER}.weight")


def agreement(
    form: str = "two_point",
    grouped: bool = True,
    gated: bool = True,
    stimuli: int | None = None,
    hold: int | None = None,
    seed: int = 0,
) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Cosine and scale of the online rule's update, added up over a stream, against the batch rule's.

    Without `stimuli` there are 30,000, or 10,000 where they are held. `final`: `cosine` and `scale` at the end,
    `cosine_after_n` at a hundredth, a tenth and all of the stream. `curves`: both against `stimuli`. `arrays`, of one
    synapse, time step by time step around a few onsets: `trace_time` (ms, one for a step), `trace_onset`, `trace_pre`,
    `trace_post`, `trace_third_factor` (0 where nothing is learned). Raises UnknownNameError, MismatchError.
    """
    held = (HOLD if form in WITH_TRACES else 1) if hold is None else hold
    count = (10_000 if held > 1 else 30_000) if stimuli is None else stimuli
    if count < 100 or held < 1:
        raise MismatchError(f"stimuli {count}, hold {held}: give 100 or more, each for a time step or more")
    settings = {"sigma": SIGMA[grouped], **(GROUPED if grouped else {})}
    with seeded(seed):
        world = make_world(settings)
        rule = KernelizedBottleneckOnline(form, gate=gated, trace_steps=2.0, **settings)  # pyright: ignore[reportArgumentType]
        learner = Learner(world.network, rule)
        order = torch.randint(POINTS, (count + SHOWN,))
        curves = add_up(learner, world, order[:count], held)
        arrays = show(learner, world, order[count:], max(held, HOLD))
    at = dict(zip(curves["stimuli"], curves["cosine"], strict=True))
    final = {f"cosine_after_{n}": at[n] for n in (count // 100, count // 10, count)}
    return {"cosine": at[count], "scale": curves["scale"][-1], **final}, curves, arrays


def make_world(settings: dict[str, Any]) -> World:
    """Draw points and weights."""
    labels = torch.arange(POINTS) % CLASSES
    centres = torch.randn(CLASSES, FEATURES, dtype=torch.float64)
    inputs = centres[labels] + torch.randn(POINTS, FEATURES, dtype=torch.float64)
    network = MLP(FEATURES, CLASSES, (NEURONS,), slope=0.1).double()
    weight = network.get_parameter(f"{LAYER}.weight")
    with torch.no_grad():
        weight.normal_(std=FEATURES**-0.5)
    Learner(network, KernelizedBottleneck(**settings)).backward(inputs, labels)
    assert weight.grad is not None
    return World(network, inputs, labels, weight.grad)


def add_up(learner: Learner, world: World, order: Tensor, held: int) -> dict[str, list]:
    """Cosine and scale of the sum of updates, some of the way."""
    weight, total = world.weight, torch.zeros_like(world.batch)
    count = len(order)
    looks = {count // 100, count // 10, *(round(count ** (k / 20)) for k in range(10, 21)), count}
    curves: dict[str, list] = {"stimuli": [], "cosine": [], "scale": []}
    for place, index in enumerate(order.tolist(), 1):
        for step in range(held):
            learner.zero_grad(set_to_none=True)
            if not learner.backward(*one_of(world, index), onset=step == 0).waiting:
                assert weight.grad is not None
                total += weight.grad
        if place in looks:
            cosine = torch.cosine_similarity(total.flatten(), world.batch.flatten(), 0)
            curves["stimuli"].append(place)
            curves["cosine"].append(float(cosine))
            curves["scale"].append(float(total.norm() / place / world.batch.norm()))
    return curves


def one_of(world: World, index: int) -> tuple[Tensor, Tensor]:
    """One stimulus and its label."""
    return world.inputs[index : index + 1], world.labels[index : index + 1]


def show(learner: Learner, world: World, order: Tensor, held: int) -> dict[str, np.ndarray]:
    """What the first synapse of the first neuron is given, while some stimuli come and go."""
    rows: dict[str, list[float]] = {name: [] for name in ("time", "onset", "pre", "post", "third_factor")}
    for index in order.tolist():
        x, label = one_of(world, index)
        for step in range(held):
            local = learner.record(x, label, onset=step == 0)[LAYER].local
            learner.zero_grad(set_to_none=True)
            learner.backward(x, label, onset=step == 0)
            factor = 0.0 if local is None or local.third_factor is None else local.third_factor[0, 0]
            post = learner.activities(x)["layers.0"][0, 0]
            for name, value in zip(rows, (len(rows["time"]), step == 0, x[0, 0], post, factor), strict=True):
                rows[name].append(float(value))
    types = {name: bool if name == "onset" else np.float32 for name in rows}
    return {f"trace_{name}": np.array(values, dtype=types[name]) for name, values in rows.items()}
