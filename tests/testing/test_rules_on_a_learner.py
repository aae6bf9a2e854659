"""The contract suite of rules that a Learner drives: the six rules keep it, and it notices each way to break it."""

from functools import partial

import pytest

from infohebb import (
    Backprop,
    DirectFeedbackAlignment,
    HSICBottleneck,
    KernelizedBottleneck,
    LastLayer,
    LayerwiseClassification,
    Locality,
    check_rule,
)
from infohebb.errors import UnknownNameError
from infohebb.testing import import_rule
from infohebb.testing.contract import PROMISES, check_with_learner
from infohebb.testing.contract.networks import example_networks
from testing import broken_rules as cheats

RULES = {
    "KernelizedBottleneck": KernelizedBottleneck,
    "grouped, cosine": partial(KernelizedBottleneck, kernel="cosine", groups=4),
    "grouped, Gaussian": partial(KernelizedBottleneck, groups=4),
    "centred": partial(KernelizedBottleneck, centre=True),
    "bottleneck": partial(KernelizedBottleneck, objective="hsic_bottleneck"),
    "HSICBottleneck": HSICBottleneck,
    "LayerwiseClassification": LayerwiseClassification,
    "random feedback": partial(LayerwiseClassification, feedback="random"),
    "sign feedback": partial(LayerwiseClassification, feedback="sign"),
    "LastLayer": LastLayer,
    "Backprop": Backprop,
    "DirectFeedbackAlignment": DirectFeedbackAlignment,
}
HONEST = (cheats.Honest, cheats.ThreeFactor, cheats.SubtractsMean, cheats.Waits, cheats.OneByOne, cheats.Remembers)
NAMES = {promise.__name__.replace("_", " ") for promise in PROMISES}


def broken(rule, network="MLP"):
    return {check.promise for check in check_rule(rule, strict=False, networks=[network]) if check.broken}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_rules_keep_the_contract(rule):
    checks = list(check_with_learner(rule))
    assert [str(check) for check in checks if check.broken] == []
    assert {check.promise for check in checks} == {*NAMES, "trains some network", "learns blobs"}
    assert {check.network for check in checks} == {f"learner: {name}" for name in (*example_networks(), "blobs")} | {
        "learner"
    }


@pytest.mark.parametrize("rule", HONEST, ids=lambda rule: rule.__name__)
def test_honest_rules_hold_wherever_they_are_not_refused(rule):
    checks = check_rule(rule)
    assert all(str(check).startswith("holds  ") for check in checks)
    refused = {check.network for check in checks if check.promise.startswith("refused: batch norm needs a batch")}
    assert len(refused) == (2 if rule is cheats.OneByOne else 0)


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
    cheats.SecretSignal: {"shared signals are declared and small"},
    cheats.WideThirdFactor: {"shared signals are declared and small"},
    cheats.HidesError: {"units learn from local errors", "learning does not wait"},
    cheats.TransportsWeights: {"weights are not transported", "errors are not global"},
    cheats.RemembersWeights: {"weights are not transported", "errors are not global"},
    cheats.TransportsOwnWeights: {"weights are not transported"},
    cheats.ClaimsTransport: {"weights are not transported"},
    cheats.ClaimsGlobalError: {"errors are not global"},
    cheats.RemembersLoss: {"errors are not global", "state round trips"},
    cheats.ClaimsUpdateLocking: {"learning does not wait"},
    cheats.WaitsForEver: {*NAMES, "learns blobs"},
    cheats.FillsWhileWaiting: NAMES,
}


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_the_suite_notices_each_way_to_break_it(rule):
    assert broken(rule) == BROKEN[rule]


TAMPERS = [  # with gradients, behind the learner's back: with it, learner(x, y).backward() gives others
    (cheats.HidesSignal, "gradient is input times error", "MLP"),
    (cheats.MixesInputs, "gradient is input times error", "MLP"),
    (cheats.MixesBiases, "gradient is input times error", "MLP"),
    (cheats.MixesKernels, "gradient is input times error", "convolution, divisive norm"),
    (cheats.MixesBatchNorms, "gradient is the units own derivative", "convolution, batch norm"),
    (cheats.Unlearns, "learns blobs", "MLP"),
]


@pytest.mark.parametrize(("rule", "promise", "network"), TAMPERS, ids=lambda value: getattr(value, "__name__", ""))
def test_gradients_that_are_changed_afterwards_are_noticed(rule, promise, network):
    assert {promise, "loss gives the same gradients"} <= broken(rule, network)


MORE = [  # which break more than what they are named for
    (cheats.RollsDice, "same seed same gradient", "MLP"),
    (cheats.ChangesWeight, "changes no state", "MLP"),
    (cheats.ListensToLoss, "errors are not global", "MLP"),
    (cheats.ListensToLoss, "learning does not wait", "MLP"),
    (cheats.LearnsAtTheEnd, "learning does not wait", "MLP"),
    (cheats.MixesChannels, "neurons do not mix", "convolution, divisive norm"),
]


@pytest.mark.parametrize(("rule", "promise", "network"), MORE, ids=lambda value: getattr(value, "__name__", ""))
def test_other_ways_to_break_it_are_noticed(rule, promise, network):
    assert promise in broken(rule, network)


def test_every_promise_has_a_rule_that_breaks_it():
    few = [expected for expected in BROKEN.values() if not expected >= NAMES]
    named = set().union(*few, *({promise} for _, promise, _ in (*TAMPERS, *MORE)), {"loss gives the same gradients"})
    assert named >= {*NAMES, "trains some network", "learns blobs"}


class SilentBackprop(Backprop):
    """Backpropagation that declares nothing."""

    locality = Locality()


class SilentFeedback(DirectFeedbackAlignment):
    """Direct feedback alignment that declares nothing."""

    locality = Locality()


@pytest.mark.parametrize("network", [name for name in example_networks() if name != "MLP, dropout"])
def test_on_every_network_the_suite_shows_what_a_rule_needs(network):
    needs = {"weights are not transported", "errors are not global", "learning does not wait"}

    def learner_checks(rule):
        return {check.promise for check in check_with_learner(rule, [network]) if check.broken}

    hidden = {"units learn from local errors"}
    assert learner_checks(SilentBackprop) == needs | hidden
    assert learner_checks(SilentFeedback) == needs - {"weights are not transported"} | hidden
    assert learner_checks(cheats.TransportsOwnWeights) == {"weights are not transported"}
    assert learner_checks(cheats.RollsNeurons) - {"learns blobs"} == {"neurons do not mix"}


def test_a_strict_check_raises_what_is_broken():
    with pytest.raises(AssertionError, match=r"FAILS  changes no state \[learner: MLP\]: a step changes rule.trace"):
        check_rule(cheats.HidesBuffer, networks=["MLP"])


def test_a_centred_kernel_that_does_not_declare_the_mean_is_noticed():
    class Undeclared(KernelizedBottleneck):
        locality = Locality(shared=frozenset({"samples", "groups"}))

    checks = check_with_learner(partial(Undeclared, centre=True), ["MLP"])
    assert {check.promise for check in checks if check.broken} == {"neurons do not mix"}


def test_networks_of_the_suite_are_known_by_name():
    with pytest.raises(UnknownNameError, match="unknown network of the contract suite 'MPL'; did you mean 'MLP'"):
        check_rule(cheats.Honest, networks=["MPL"])


def test_rules_on_either_contract_are_imported():
    assert import_rule("testing.broken_rules:Honest") is cheats.Honest
    assert import_rule("infohebb.rules.backprop:Backprop") is Backprop


def test_the_command_line_checks_them(command):
    answer = command("check", "testing.broken_rules:HidesBuffer")
    assert answer.status == 1
    assert "FAILS  changes no state [learner: residual]: a step changes rule.trace" in answer.out
