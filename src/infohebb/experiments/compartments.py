"""Pictures' raw material of neurons with compartments: what a few of them hold along two phases, for one sample."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from infohebb.experiments.pictures import Samples
from infohebb.functional.settling_objective import hidden_objective, output_objective
from infohebb.networks import CorInfoMaxNetwork
from infohebb.rules import CorInfoMax
from infohebb.rules.contract import LearningRule

PARTS = "basal", "apical", "soma", "rate"
FEW = 3  # neurons of each layer
BYTES = 30_000  # for all of one run; of longer phases every second sweep is kept, or every third, …


class Phases(NamedTuple):
    """One sample's free phase, then its nudged one, sweep by sweep."""

    potentials: list[dict[str, Tensor]]  # of each layer: basal, apical, soma and rate, each (sweeps × neurons)
    objective: Tensor  # sweeps × layers
    onset: int  # the first nudged sweep
    target: int | None  # which output the sample's label is


@torch.no_grad()
def follow(network: nn.Module, rule: LearningRule, samples: Samples) -> Phases | None:
    """The first of the samples, nudged as the rule nudges to its own side; None of a network without compartments.

    Raises MismatchError for settings of the rule that make no phases.
    """
    if not isinstance(network, CorInfoMaxNetwork) or not isinstance(rule, CorInfoMax):
        return None
    rule.setup_model(network)
    x, target = network.receive(samples.inputs[:1]), samples.targets[:1]
    continuous = target.is_floating_point()
    wanted = (target if continuous else rule.encode_targets(target, network.outputs, x.dtype)).to(x)
    sweeps = network.compartments(x, wanted, rule.nudge, rule.nudged_steps)
    potentials = []
    for place, one in enumerate(zip(*sweeps, strict=True)):
        found = {name: torch.cat([getattr(each, name) for each in one]) for name in PARTS[:3]}
        sparse = network.multiplier_rates[place] is not None
        found["rate"] = found["soma"].clamp(0, None if sparse else 1)
        potentials.append(found)
    objective = _objective(network, rule, x, wanted, [found["rate"] for found in potentials])
    return Phases(potentials, objective, network.steps, None if target.is_floating_point() else int(target))


def compartment_arrays(before: Phases | None, after: Phases | None) -> dict[str, np.ndarray]:
    """What pictures need of both: nothing of a network without compartments.

    Of each layer the three most active neurons where the free phase ends after training, but for those that are cut off
    at 1; of the output the target first. `compartments_before_basal` and the like (sweeps × neurons);
    `compartments_neuron`, their names, and `compartments_layer`, the place of each one's layer; `compartments_sweep`,
    and `compartments_onset`, the first nudged sweep; `objective_before` and `objective_after` (sweeps × layers).
    """
    if before is None or after is None:
        return {}
    chosen, sweeps = _choose(after), len(after.objective)
    layers = [place for place, neurons in enumerate(chosen) for _ in neurons]
    each = 2 * 4 * (4 * len(layers) + len(chosen))
    kept = slice(None, None, math.ceil(sweeps * each / BYTES))
    arrays = {
        "compartments_neuron": np.array(_names(chosen, after.target)),
        "compartments_layer": np.array(layers, dtype=np.int16),
        "compartments_sweep": np.arange(1, sweeps + 1, dtype=np.int32)[kept],
        "compartments_onset": np.array(after.onset + 1, dtype=np.int32),
    }
    for when, phases in (("before", before), ("after", after)):
        for name in PARTS:
            some = [of[name][kept, neurons] for of, neurons in zip(phases.potentials, chosen, strict=True)]
            arrays[f"compartments_{when}_{name}"] = torch.cat(some, 1).float().cpu().numpy()
        arrays[f"objective_{when}"] = phases.objective[kept].float().cpu().numpy()
    return arrays


def _choose(phases: Phases) -> list[list[int]]:
    """A few neurons of each layer: the most active of those whose rates are not cut off at 1, as far as there are."""
    ranks = []
    for of in phases.potentials:
        soma, rate = (of[name][phases.onset - 1] for name in ("soma", "rate"))
        ranks.append(torch.where((soma > rate) & (rate > 0), -rate, rate))
    if phases.target is not None:
        ranks[-1][phases.target] = math.inf
    return [rank.topk(min(FEW, len(rank))).indices.tolist() for rank in ranks]


def _names(chosen: list[list[int]], target: int | None) -> list[str]:
    hidden = [f"layers.{place}, neuron {i}" for place, neurons in enumerate(chosen[:-1]) for i in neurons]
    return hidden + [f"output, neuron {i}{', the target' if i == target else ''}" for i in chosen[-1]]


def _objective(network: CorInfoMaxNetwork, rule: CorInfoMax, x: Tensor, wanted: Tensor, rates: list[Tensor]) -> Tensor:
    """Of each layer after each sweep (sweeps × layers): the rows that the objectives take for samples are sweeps."""
    layers, constants = list(network.compartmental()), {"epsilon": network.epsilon, "gain": network.entropy_gain}
    states, found = [x.expand(len(rates[0]), -1), *rates], []
    for place, (layer, below, own) in enumerate(zip(layers, states, rates, strict=False), 1):
        forward, inverse = layer.feedforward.weight, layer.inverse_correlation
        if layer.feedback is not None:
            back = (states[place + 1], layer.feedback.weight, inverse)
            found.append(hidden_objective(own, below, forward, *back, **constants))
            continue
        free, told = (slice(None, network.steps), None), (slice(network.steps, None), wanted.expand_as(own))
        parts = [
            output_objective(
                own[at], below[at], forward, inverse, y if y is None else y[at], nudge=rule.nudge, **constants
            )
            for at, y in (free, told)
        ]
        found.append(torch.cat(parts))
    return torch.stack(found, 1)
