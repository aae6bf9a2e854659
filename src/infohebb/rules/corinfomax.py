"""Correlative information maximisation, Bozkurt, Pehlevan & Erdogan 2023: two predictions meet in each neuron.

a   [x, r_1, …, r_L] at the end of the free phase (or of a third one)     b   the same at the end of the nudged phase
β   nudge     m   samples     λ   forgetting factor of the inverse correlations
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from infohebb.errors import DivergenceError, MismatchError, is_number, unknown_name
from infohebb.functional.alignment import angle
from infohebb.functional.correlation import (
    captured_information,
    correlative_information,
    exact_running_inverse,
    running_inverse,
)
from infohebb.networks.corinfomax import CorInfoMaxNetwork, Presented
from infohebb.networks.settling import check_counts
from infohebb.rules.base import Signals
from infohebb.rules.settling import (
    UNINVERTED,
    Experience,
    SettlingRule,
    check_nudge,
    learning_in,
    named_states,
    refuse_sameness,
    with_sign,
    without_empty,
)

INDEFINITE = 1e-3  # of the largest eigenvalue: more than rounding
RECURSIONS = {"published": running_inverse, "exact": exact_running_inverse}


class CorInfoMax(SettlingRule):
    """Each synapse lowers its layer's error of prediction where the output is nudged, and raises it where it is not.

    The nudge's sign is drawn for each batch if `random_sign`; with `phases` 3 the nudged phase is compared with one of
    the other sign, which follows it, in place of the free one. `forgetting` is that of the inverse correlations, per
    batch; their recursion is the `published` one or the `exact` one. The gain with which they act is the network's
    `entropy_gain`.
    """

    own_network = CorInfoMaxNetwork
    advances = ("inverse_correlation",)
    updated_buffers: ClassVar[frozenset[str]] = frozenset({"inverse_correlation"})

    def __init__(
        self,
        nudge: float = 1.0,
        random_sign: bool = True,
        nudged_steps: int = 10,
        phases: Literal[2, 3] = 2,
        forgetting: float = 0.99999,
        recursion: Literal["published", "exact"] = "published",
    ):
        super().__init__()
        self.nudge, self.random_sign, self.nudged_steps = nudge, random_sign, nudged_steps
        self.phases, self.forgetting, self.recursion = phases, forgetting, recursion

    def setup_model(self, model: Any, /) -> None:
        """Check settings."""
        super().setup_model(model)
        check_nudge(self.nudge)
        check_counts(nudged_steps=self.nudged_steps)
        if self.phases not in (2, 3):
            raise MismatchError(f"phases {self.phases!r}: give 2, or 3 for a nudge to each side")
        if not is_number(self.forgetting) or not 0 < self.forgetting < 1:
            raise MismatchError(f"forgetting {self.forgetting!r}: give a number between 0 and 1, such as 0.99999")
        if self.recursion not in RECURSIONS:
            raise unknown_name("recursion", str(self.recursion), RECURSIONS)

    def groups(self, network: CorInfoMaxNetwork) -> dict[str, list[Parameter]]:
        """`forward` weights from the first layer up, and `feedback` weights from the first hidden layer up."""
        layers = list(network.compartmental())
        forward = [layer.feedforward.weight for layer in layers]
        feedback = [layer.feedback.weight for layer in layers if layer.feedback is not None]
        kinds = {"forward": forward, "feedback": feedback}
        return {kind: [p for p in listed if p.requires_grad] for kind, listed in kinds.items() if listed}

    def roles(self, model: CorInfoMaxNetwork, /) -> Mapping[str, Sequence[Mapping[str, Parameter]]]:
        """Return `forward` weights from the first layer up, and `feedback` weights from the first hidden layer up."""
        layers = [(f"layers.{place}", layer) for place, layer in enumerate(model.compartmental())]
        forward = [learning_in(f"{name}.feedforward", layer.feedforward) for name, layer in layers]
        back = [learning_in(f"{name}.feedback", layer.feedback) for name, layer in layers if layer.feedback is not None]
        return without_empty({"forward": forward, "feedback": back})

    @torch.no_grad()
    def monitor(self, model: CorInfoMaxNetwork, inputs: Tensor, targets: Tensor) -> dict[str, dict[str, float]]:
        """Return measures by layer where the free phase ends: rates, what is left to settle, angles and information.

        `inverse_least` and `inverse_most` are eigenvalues of its inverse correlation.

        `angle` (degrees) lies between the weights that read a hidden layer and those that feed it back. `information`
        (nats) is the information that a layer and the one below it have about each other, `forward` and `backward` how
        much of that the weights in that direction capture. `residual` is the mean of |dr|/dt there.
        Raises DivergenceError with the layer's name.
        """
        del targets
        x = model.receive(inputs)
        shown = Presented(model, x)
        layers = list(model.compartmental())
        named = named_states(model, model.split(shown.settle(model.steps)))
        names, found = [*named], {}
        for name, layer in zip(names, layers, strict=True):
            for measure, value in spectrum(name, layer.inverse_correlation).items():
                found.setdefault(measure, {})[name] = value
        refuse_sameness(named)
        found["rate"] = {name: float(state.mean()) for name, state in named.items()}
        found["residual"] = dict(zip(names, shown.residuals(), strict=True))
        found["angle"] = {name: float(angle(forward, back.mT)) for name, forward, back in model.both_ways()}
        for place, (below, above) in enumerate(pairwise(state.double() for state in (x, *named.values()))):
            weights, back = layers[place].feedforward.weight.double(), layers[place - 1].feedback if place else None
            measured = {
                "information": correlative_information(below, above, model.epsilon),
                "forward": captured_information(below, above, weights, model.epsilon),
            }
            if back is not None:
                measured["backward"] = captured_information(above, below, back.weight.double(), model.epsilon)
            for measure, value in measured.items():
                found.setdefault(measure, {})[names[place]] = float(value)
        return found

    def experience(self, network: CorInfoMaxNetwork, x: Tensor, target: Tensor, /) -> Experience:
        """Settle free, nudged and perhaps nudged to the other side; then the inverse correlations are updated."""
        nudge = with_sign(self.nudge, drawn=self.random_sign)
        presented = Presented(network, x)
        free = presented.settle(network.steps)
        nudged = presented.settle(self.nudged_steps, target, nudge)
        other, apart = free, nudge
        if self.phases == 3:
            other, apart = presented.settle(self.nudged_steps, target, -nudge), 2 * nudge
        signals = contrast(network, x, other, nudged, 1 / (apart * len(x)))
        recursion = RECURSIONS[self.recursion]
        for layer, rates in zip(network.compartmental(), network.split(nudged), strict=True):
            inverse = layer.inverse_correlation
            recursion(inverse, rates, self.forgetting, out=inverse)
        return Experience(free[:, network.columns[-1]], signals)


def spectrum(name: str, inverse: Tensor) -> dict[str, float]:
    """The least and the largest eigenvalue of an inverse correlation, which has none below 0.

    Raises DivergenceError with the layer's name for one that has, as where the published recursion overshoots.
    """
    finite = bool(inverse.isfinite().all())
    values = torch.linalg.eigvalsh(inverse.double()) if finite else inverse.new_full((1,), -math.inf)
    least, most = float(values[0]), float(values[-1])
    if not least >= -INDEFINITE * max(most, 1.0):
        raise DivergenceError(f"{name}: its inverse_correlation is none any more, eigenvalue {least:.3g}; {UNINVERTED}")
    return {"inverse_least": least, "inverse_most": most}


def contrast(network: CorInfoMaxNetwork, x: Tensor, a: Tensor, b: Tensor, share: float) -> dict[str, Signals]:
    """Signals of each layer's synapses: what came in, and errors of its prediction, times ∓1/(β m).  [CIM 5.1]

    Rows are the samples of phase a, then of phase b. The weights onto the first layer receive x in both: one row for
    each sample does, with the difference of its errors, in which the prediction cancels.
    """
    layers, found = list(network.compartmental()), {}
    states = network.split(torch.cat((a, b)))
    signs = torch.full((len(states[0]), 1), share, dtype=x.dtype, device=x.device)
    signs[len(x) :].neg_()
    first, after = states[0].split(len(x))
    found["layers.0.feedforward"] = {"pre": x, "error": (first - after).mul_(share)}
    for place, (below, above) in enumerate(pairwise(states)):
        forward, feedback = layers[place + 1].feedforward.weight, layers[place].feedback
        found[f"layers.{place + 1}.feedforward"] = {"pre": below, "error": (above - below @ forward.mT).mul_(signs)}
        if feedback is not None:
            error = (below - above @ feedback.weight.mT).mul_(signs)
            found[f"layers.{place}.feedback"] = {"pre": above, "error": error}
    return found
