"""What the contract suite is tested on, and a process of its own that runs it: unhooked, it is five times as fast.

python -c "from testing.outcomes import main; main()"
"""

import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from infohebb import (
    Backprop,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    HSICBottleneck,
    HSICMemory,
    KernelizedBottleneck,
    KernelizedBottleneckOnline,
    LayerwiseClassification,
    Locality,
    SignSymmetry,
    check_rule,
)
from infohebb.networks.plain import MLP, LeakyMLP
from infohebb.testing.checks import check_promise
from infohebb.testing.contract import PROMISES, check_with_learner
from infohebb.testing.contract.cases import build_case
from infohebb.testing.contract.downstream import PROMISES as DOWNSTREAM
from infohebb.testing.contract.networks import CLASSES, IMAGE, SAMPLES, WIDTHS, Example, example_networks
from infohebb.testing.contract.neurons import neurons_do_not_mix
from testing import broken_rules as cheats

NAMES = {promise.__name__.replace("_", " ") for promise in PROMISES}
ON_TWO = ["MLP, divisive norm", "residual"]
RULES: dict[str, tuple[Callable[[], Any], list[str] | None]] = {  # that keep the contract, and networks: None is all
    "grouped, cosine": (partial(KernelizedBottleneck, kernel="cosine", groups=4), ON_TWO),
    "grouped, Gaussian": (partial(KernelizedBottleneck, groups=4), ["sequence", "convolution, batch norm"]),
    "centred": (partial(KernelizedBottleneck, centre=True), ["MLP", "residual"]),
    "bottleneck": (partial(KernelizedBottleneck, objective="hsic_bottleneck"), ["MLP", "sequence"]),
    "random feedback": (partial(LayerwiseClassification, feedback="random"), ON_TWO),
    "sign feedback": (partial(LayerwiseClassification, feedback="sign"), ON_TWO),
    "feedback alignment": (FeedbackAlignment, [*ON_TWO, "sequence"]),
    "sign symmetry": (SignSymmetry, ["MLP, layer norm", "convolution, batch norm"]),
    "gradient signs": (partial(SignSymmetry, gradient_signs=True), ["convolution, divisive norm"]),
    "Honest": (cheats.Honest, None),
    "ThreeFactor": (cheats.ThreeFactor, None),
    "OneByOne": (cheats.OneByOne, None),
    "SubtractsMean": (cheats.SubtractsMean, ["MLP, layer norm", "residual"]),
    "Waits": (cheats.Waits, ["MLP", "convolution, batch norm"]),
    "online": (KernelizedBottleneckOnline, ["MLP, divisive norm"]),
    "memory": (HSICMemory, ["LeakyMLP"]),
    "Remembers": (cheats.Remembers, ["MLP, dropout", "sequence"]),
}
ONE_SLOT = Example(partial(LeakyMLP, IMAGE, CLASSES, WIDTHS, slots=1))
SMALL = Example(partial(MLP, IMAGE, CLASSES, (8,)))
RESERVOIR = {"source": "reservoir", "window": SAMPLES, "auxiliary_units": 5, "pretraining": 12}
STREAMS: dict[str, tuple[Callable[[], Any], str | Example]] = {  # that keep the promises, on a network
    "Synapses": (cheats.Synapses, "MLP"),
    "plain eligibility": (partial(KernelizedBottleneckOnline, "eligibility"), "MLP"),
    "eligibility": (partial(KernelizedBottleneckOnline, "eligibility", groups=4, power=0.8), "MLP"),
    "mean activity": (partial(KernelizedBottleneckOnline, "mean_activity"), "MLP"),
    "traces": (partial(KernelizedBottleneckOnline, "trace", gate=False), "MLP, divisive norm"),
    "objective": (partial(HSICMemory, "pub", objective=True), "sequence"),
    "stale": (partial(HSICMemory, "row", memory="stale"), "convolution, divisive norm"),
    "stale, leaky": (partial(HSICMemory, memory="stale"), ONE_SLOT),
    "reservoir": (partial(HSICMemory, "head", **RESERVOIR), SMALL),
}
BROKEN = {  # which promises each breaks: these, and no other
    cheats.NeedsArgument: {"builds without arguments"},
    cheats.HalfWritten: {"builds without arguments"},
    cheats.FailsToBuild: {"builds without arguments"},
    cheats.NoRule: {"is a learning rule"},
    cheats.RefusesAll: {"trains some network"},
    cheats.FailsToSetUp: {"sets up for the network", "trains some network"},
    cheats.Crashes: {*NAMES, "learns blobs"},
    cheats.AllocatesFloat32: NAMES,
    cheats.Reseeds: {"does not reseed"},
    cheats.LosesState: {"state round trips"},
    cheats.CountsSamples: {"batch order does not matter"},
    cheats.HidesBuffer: {"changes no state"},
    cheats.KeepsGraph: {"keeps no graph"},
    cheats.LeavesHook: {"leaves the model alone"},
    cheats.ForgetsGradient: {"fills gradients", "loss gives the same gradients"},
    cheats.TrainsUnasked: {"fills gradients", "loss gives the same gradients", "learns blobs"},
    cheats.KeepsErrorsToItself: {
        "error is third factor times post",
        "gradient is pre times post times third factor",
        "neurons do not mix",
    },
    cheats.MixesNeurons: {
        "error is third factor times post",
        "gradient is pre times post times third factor",
        "neurons do not mix",
    },
    cheats.RollsThirdFactors: {
        "error is third factor times post",
        "gradient is pre times post times third factor",
        "neurons do not mix",
    },
    cheats.LateralMixer: {"neurons do not mix"},
    cheats.RollsNeurons: {"neurons do not mix"},
    cheats.MixesUnderOneFactor: {"neurons do not mix"},
    cheats.MixesTwoNeurons: {"neurons do not mix"},
    cheats.MixesLastBatch: {"neurons do not mix"},
    cheats.KnowsTheMean: {"neurons do not mix"},
    cheats.ReadsOthersTraces: {"neurons do not mix"},
    cheats.ReadsNeighboursPast: {"neurons do not mix"},
    cheats.ReadsNeighboursSlope: {"neurons do not mix"},
    cheats.ReadsWeightsAbove: {"weights are not transported", "errors are not global"},
    cheats.InventsInputs: {"rows are what layers received"},
    cheats.StatesNoFactors: {"units learn from local errors"},
    cheats.SharesInSecret: {"shared signals are declared and small"},
    cheats.SecretSignal: {"shared signals are declared and small"},
    cheats.WideThirdFactor: {"shared signals are declared and small"},
    cheats.HidesError: {"units learn from local errors", "learning does not wait"},
    cheats.TransportsWeights: {"weights are not transported", "errors are not global"},
    cheats.RemembersWeights: {"weights are not transported", "errors are not global"},
    cheats.TransportsOwnWeights: {"weights are not transported"},
    cheats.SendsThroughWeights: {"weights are not transported"},
    cheats.ClaimsTransport: {"weights are not transported"},
    cheats.ClaimsGlobalError: {"errors are not global"},
    cheats.RemembersLoss: {"errors are not global", "state round trips"},
    cheats.ClaimsUpdateLocking: {"learning does not wait"},
    cheats.WaitsForEver: {*NAMES, "learns blobs"},
    cheats.FillsWhileWaiting: NAMES,
}


TAMPERS = [  # with gradients, behind the learner's back: with it, learner(x, y).backward() gives others
    (cheats.HidesSignal, "gradient is input times error", "MLP"),
    (cheats.MixesInputs, "gradient is input times error", "MLP"),
    (cheats.MixesBiases, "gradient is input times error", "MLP"),
    (cheats.MixesKernels, "gradient is input times error", "convolution, divisive norm"),
    (cheats.MixesBatchNorms, "gradient is the units own derivative", "convolution, batch norm"),
    (cheats.Unlearns, "learns blobs", "MLP"),
]


MORE = [  # which break more than what they are named for
    (cheats.RollsDice, "same seed same gradient", "MLP"),
    (cheats.ChangesWeight, "changes no state", "MLP"),
    (cheats.ListensToLoss, "errors are not global", "MLP"),
    (cheats.ListensToLoss, "learning does not wait", "MLP"),
    (cheats.LearnsAtTheEnd, "learning does not wait", "MLP"),
    (cheats.MixesChannels, "neurons do not mix", "convolution, divisive norm"),
]


class SilentBackprop(Backprop):
    """Backpropagation that declares nothing."""

    locality = Locality()


class SilentFeedback(DirectFeedbackAlignment):
    """Direct feedback alignment that declares nothing."""

    locality = Locality()


class UndeclaredMean(KernelizedBottleneck):
    """A centred kernel that does not declare the mean."""

    locality = Locality(shared=frozenset({"samples", "groups"}))

    def __init__(self):
        super().__init__(centre=True)


BROKEN[UndeclaredMean] = {"neurons do not mix"}
ELSEWHERE = {  # what each breaks on every network, of the promises on other units and on other neurons
    SilentBackprop: {"weights are not transported", "errors are not global", "learning does not wait"},
    SilentFeedback: {"errors are not global", "learning does not wait"},
    cheats.TransportsOwnWeights: {"weights are not transported"},
    cheats.RollsNeurons: {"neurons do not mix"},
    HSICBottleneck: set(),
}
ON_BOTH_CONTRACTS = (UndeclaredMean, cheats.TransportsOwnWeights, cheats.TrainsUnasked)
EVERYWHERE = [name for name in example_networks() if name != "MLP, dropout"]


def outcomes() -> Iterator[tuple[str, list[list[str | None]]]]:
    """Yield the name of what was checked, and promise, network and what is broken for each check."""
    for name, (rule, networks) in RULES.items():
        yield name, _rows(check_with_learner(rule, networks))
    tried = [*((rule, "MLP") for rule in BROKEN), *((rule, network) for rule, _, network in (*TAMPERS, *MORE))]
    for rule, network in dict.fromkeys(tried):
        whole = not BROKEN.get(rule, NAMES) <= NAMES or rule is cheats.Unlearns
        checks = _whole(rule, network) if whole else _promises(rule, network, PROMISES)
        yield f"{rule.__name__} on {network}", _rows(checks)
    for name, (rule, network) in STREAMS.items():
        yield f"stream: {name}", _rows(_promises(rule, network, PROMISES))
    for network in EVERYWHERE:
        for rule in ELSEWHERE:
            checks = _promises(rule, network, (*DOWNSTREAM, neurons_do_not_mix))
            yield f"{rule.__name__}, others, on {network}", _rows(checks)


def _whole(rule, network):
    """All checks on one network, blobs included: they take half of the time."""
    if rule in ON_BOTH_CONTRACTS:
        return check_with_learner(rule, [network])
    return check_rule(rule, strict=False, networks=[network])


def _promises(rule, network, promises):
    """Checks on copies of one case, for some rules take long to set up."""
    example = example_networks()[network] if isinstance(network, str) else network
    case = build_case(rule, example)
    return [check_promise(promise, partial(copy.deepcopy, case), str(network)) for promise in promises]


def _rows(checks):
    return [[check.promise, check.network, check.broken] for check in checks]


def main():
    """Print all outcomes."""
    print(json.dumps(dict(outcomes())))  # noqa: T201
