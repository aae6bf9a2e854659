"""The contract suite of rules that a Learner drives: rules keep it, and it notices each way to break it.

Nearly all of it runs in one process of its own, without the shape checks of the tests: these make it five times as
slow. tests/rules/test_contract.py runs it with them, on the registered rules.
"""

import json
from pathlib import Path

import pytest

from infohebb import Backprop, check_rule
from infohebb.errors import UnknownNameError
from infohebb.testing import import_rule
from infohebb.testing.contract.networks import example_networks
from processes import start
from testing import broken_rules as cheats
from testing.outcomes import BROKEN, ELSEWHERE, EVERYWHERE, MORE, NAMES, RULES, STREAMS, TAMPERS

CODE = "import sys; sys.path.insert(0, {!r}); from testing.outcomes import main; main()"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Checks by the name of what was checked: promise, network and what is broken."""
    process = start(CODE.format(str(Path(__file__).parents[1])), tmp_path_factory.mktemp("outcomes"))
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return json.loads(out)


def broken(checks):
    return {promise for promise, _, reason in checks if reason}


@pytest.mark.parametrize("name", RULES)
def test_rules_keep_the_contract(name, outcomes):
    checks = outcomes[name]
    assert [check for check in checks if check[2]] == []
    kept = [check for check in checks if not check[0].startswith("refused: batch norm needs a batch")]
    assert {promise for promise, _, _ in kept} == {*NAMES, "trains some network", "learns blobs"}
    networks = RULES[name][1] or example_networks()
    assert {network for _, network, _ in checks} == {f"learner: {each}" for each in (*networks, "blobs")} | {"learner"}
    assert len(checks) - len(kept) == (2 if name == "OneByOne" else 0)


@pytest.mark.parametrize("name", STREAMS)
def test_rules_of_streams_keep_the_promises(name, outcomes):
    checks = outcomes[f"stream: {name}"]
    assert {promise for promise, _, _ in checks} == NAMES
    assert [check for check in checks if check[2]] == []


@pytest.mark.slow
@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_the_suite_notices_each_way_to_break_it(rule, outcomes):
    assert broken(outcomes[f"{rule.__name__} on MLP"]) == BROKEN[rule]


@pytest.mark.parametrize(("rule", "promise", "network"), TAMPERS, ids=lambda value: getattr(value, "__name__", ""))
def test_gradients_that_are_changed_afterwards_are_noticed(rule, promise, network, outcomes):
    assert {promise, "loss gives the same gradients"} <= broken(outcomes[f"{rule.__name__} on {network}"])


@pytest.mark.parametrize(("rule", "promise", "network"), MORE, ids=lambda value: getattr(value, "__name__", ""))
def test_other_ways_to_break_it_are_noticed(rule, promise, network, outcomes):
    assert promise in broken(outcomes[f"{rule.__name__} on {network}"])


def test_every_promise_has_a_rule_that_breaks_it():
    few = [expected for expected in BROKEN.values() if not expected >= NAMES]
    named = set().union(*few, *({promise} for _, promise, _ in (*TAMPERS, *MORE)), {"loss gives the same gradients"})
    assert named >= {*NAMES, "trains some network", "learns blobs"}


@pytest.mark.parametrize("network", EVERYWHERE)
@pytest.mark.parametrize("rule", ELSEWHERE, ids=lambda rule: rule.__name__)
def test_on_every_network_the_suite_shows_what_a_rule_needs(rule, network, outcomes):
    assert broken(outcomes[f"{rule.__name__}, others, on {network}"]) == ELSEWHERE[rule]


def test_a_strict_check_raises_what_is_broken():
    with pytest.raises(AssertionError, match=r"FAILS  trains some network \[learner\]: setup refuses every example"):
        check_rule(cheats.RefusesAll, networks=["MLP"])


def test_networks_of_the_suite_are_known_by_name():
    with pytest.raises(UnknownNameError, match="unknown network of the contract suite 'MPL'; did you mean 'MLP'"):
        check_rule(cheats.Honest, networks=["MPL"])


def test_rules_on_either_contract_are_imported():
    assert import_rule("testing.broken_rules:Honest") is cheats.Honest
    assert import_rule("infohebb.rules.backprop:Backprop") is Backprop


def test_the_command_line_checks_them(command):
    answer = command("check", "testing.broken_rules:RefusesAll")
    assert answer.status == 1
    assert "FAILS  trains some network [learner]: setup refuses every example" in answer.out
