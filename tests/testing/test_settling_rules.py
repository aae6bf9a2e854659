"""The contract suite on settling networks by a Learner: rules keep it, and it notices each way to break it.

It runs in one process of its own, without the shape checks of the tests: these make it five times as slow.
"""

import json
from pathlib import Path

import pytest

from infohebb import check_rule, rules
from infohebb.errors import MismatchError, UnknownNameError
from infohebb.rules import contract
from infohebb.testing.contract import check_with_learner
from infohebb.testing.contract.suite import ON_OWN_NETWORKS
from processes import start
from rules.own_settling import ON_A_LEARNER, Contrast, SecretSignal

CODE = "import sys; sys.path.insert(0, {!r}); from testing.test_settling_rules import main; main()"
DEEP = {
    "CorInfoMax": ["CorInfoMaxNetwork, deep", "CorInfoMaxNetwork, shallow, sparse multiplier_rates entropy_gain"],
    "EquilibriumPropagation": ["EquilibriumNetwork, deep"],
    "ContrastiveSimilarityMatching": ["EquilibriumNetwork, deep, lateral"],
    "PredictiveCoding": ["PredictiveCodingNetwork, deep"],
    "PredictiveCodingNudge": ["PredictiveCodingNetwork, deep, nonlinearity"],
}
LIBRARY = {name: (getattr(rules, name), networks) for name, networks in DEEP.items()}
ON_ITS_OWN = (Contrast, *ON_A_LEARNER, SecretSignal)
NAMES = {promise.__name__.replace("_", " ") for promise in ON_OWN_NETWORKS}


def main():
    """Print promise, network and what is broken of each check, by the rule's name."""
    tried = {**LIBRARY, **{rule.__name__: (rule, _networks(rule)) for rule in ON_ITS_OWN}}
    found = {name: [vars(check) for check in check_with_learner(*each)] for name, each in tried.items()}
    print(json.dumps(found))  # noqa: T201


def _networks(rule):
    return ["CorInfoMaxNetwork, deep"] if issubclass(rule, rules.CorInfoMax) else None


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    process = start(CODE.format(str(Path(__file__).parents[1])), tmp_path_factory.mktemp("outcomes"))
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return json.loads(out)


def broken(checks):
    return {check["promise"] for check in checks if check["broken"]}


@pytest.mark.parametrize("name", [*LIBRARY, "Contrast"])
def test_rules_keep_the_contract(name, outcomes):
    checks = outcomes[name]
    assert [check for check in checks if check["broken"]] == []
    assert {check["promise"] for check in checks} == {*NAMES, "trains some network", "learns blobs"}
    networks = LIBRARY[name][1] if name in LIBRARY else ["Leaky, shallow", "Leaky, deep"]
    assert {check["network"] for check in checks} == {f"learner: {each}" for each in (*networks, "blobs")} | {"learner"}


@pytest.mark.parametrize("rule", ON_A_LEARNER, ids=lambda rule: rule.__name__)
def test_a_rule_that_cheats_is_noticed(rule, outcomes):
    assert broken(outcomes[rule.__name__]) == ON_A_LEARNER[rule]


def test_signals_of_no_known_kind_are_refused_by_name(outcomes):
    (reason,) = {check["broken"] for check in outcomes["SecretSignal"] if check["promise"] == "fills gradients"}
    assert reason == (
        "raises MismatchError: SecretSignal gives layers.0 the signals error, pre, secret; give pre and error, whose "
        "product is the gradient"
    )


def test_a_network_that_lacks_what_the_rule_trains_is_refused_and_others_checked(outcomes):
    del outcomes
    checks = check_with_learner(rules.ContrastiveSimilarityMatching, ["EquilibriumNetwork, shallow"])
    assert [check.promise for check in checks] == [
        "refused: ContrastiveSimilarityMatching trains lateral weights, and the network has none; build "
        "EquilibriumNetwork(..., lateral=True)",
        "trains some network",
    ]


def test_networks_of_the_suite_are_known_by_name():
    with pytest.raises(UnknownNameError, match="unknown network of the contract suite 'MLP'; known: CorInfoMaxNetwork"):
        list(check_with_learner(rules.CorInfoMax, ["MLP"]))


class OnStrings(contract.LearningRule):
    """A rule of networks that the suite cannot make."""

    own_network, needs_units = contract.LearningRule, False

    def backward(self, walk, inputs, targets):
        raise NotImplementedError


def test_own_networks_that_do_not_settle_are_named():
    with pytest.raises(MismatchError, match=r"no example of a LearningRule network; derive it from infohebb\.networks"):
        check_rule(OnStrings)
