"""Promises on networks that settle, where each neuron's state depends on all others: what can be told apart there."""

import torch

from infohebb.networks import CorInfoMaxNetwork
from infohebb.rules.base import Signals
from infohebb.testing.cases import Build, Case, close, largest


def what_the_first_layer_is_given_is_the_input(build: Build) -> None:
    """Synapses that end on the first layer, and not laterally or from above, have the samples for their `pre`."""
    case = build()
    x = case.inputs.flatten(1)
    for name, signals in build().learn(record=True).signals.items():
        if not name.startswith("layers.0") or signals["pre"].shape[1] != x.shape[1]:
            continue
        for phase in signals["pre"].split(len(x)):
            assert close(phase, x, largest({"x": x})), f"{name}: signal 'pre' is not what the layer received"


def weights_that_are_elsewhere_do_not_matter(build: Build) -> None:
    """Of a neuron that is silent, weights by which others read it matter to nobody, itself included.

    Held on networks whose synapses are apart by direction, and for rules that do not declare `weight_transport`.
    """
    if build().rule.weight_transport or not isinstance(build().network, CorInfoMaxNetwork):
        return
    before, after = (_with_a_silent_neuron(build(), read_otherwise=otherwise) for otherwise in (False, True))
    for name, signals in before.items():
        scale = largest(signals)
        for key, signal in signals.items():
            same = close(after[name][key], signal, scale)
            assert same, f"{name}: signal {key!r} depends on weights that are not its neuron's own"


def _with_a_silent_neuron(case: Case, *, read_otherwise: bool) -> dict[str, Signals]:
    """Signals where the first hidden neuron receives nothing; `read_otherwise` by those that listen to it."""
    layers = list(case.network.compartmental())
    if len(layers) < 2 or layers[0].feedback is None:
        return {}
    with torch.no_grad():
        layers[0].feedforward.weight[0] = 0
        layers[0].feedback.weight[0] = 0
        layers[0].inverse_correlation[0] = 0
        layers[0].inverse_correlation[:, 0] = 0
        if read_otherwise:
            layers[1].feedforward.weight[:, 0] += 1
    return case.learn(record=True).signals


PROMISES = (what_the_first_layer_is_given_is_the_input, weights_that_are_elsewhere_do_not_matter)
