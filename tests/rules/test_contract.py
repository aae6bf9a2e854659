"""The contract: every registered rule keeps it, and the suite notices each way to break it."""

from functools import partial

import pytest

from infohebb import HSICMemory, KernelizedBottleneck, KernelizedBottleneckOnline, rules
from infohebb.errors import MismatchError, UnknownNameError, UsageError
from infohebb.networks import MLP, ConvNet, LeakyMLP, Settling
from infohebb.rules import LearningRule, SettlingRule
from infohebb.testing import (
    PROMISES,
    SETTLING,
    build_case,
    check_rule,
    example_networks,
    import_rule,
    locality,
    manners,
)
from infohebb.testing.cases import leaky_networks
from rules.broken_rules import BROKEN, SEEN_ON, FailsToBuild, Honest, NoRule, OneByOne, Remembers, Waits
from rules.own_settling import CHEATS, Contrast
from rules.settling_cheats import ReadsItsNeighbour, Transport

pytestmark = pytest.mark.slow

WORDS_ONCE = {"trains some network", "learns blobs"}
WORDS = {promise.__name__.replace("_", " ") for promise in PROMISES} | WORDS_ONCE
WORDS_SETTLING = {promise.__name__.replace("_", " ") for promise in SETTLING} | WORDS_ONCE


def on_layers(checks):
    """The checks of the suite of version 1: those of the suite that a Learner drives name its networks."""
    return [check for check in checks if not check.network.startswith("learner")]


def broken(rule):
    return {check.promise for check in on_layers(check_rule(rule, strict=False)) if check.broken}


@pytest.mark.parametrize("name", rules.registry())
def test_every_registered_rule_keeps_the_contract(name):
    checks = check_rule(rules.registry()[name])
    settles = issubclass(rules.registry()[name].network_type, Settling)
    made = {check.promise for check in on_layers(checks) if not check.promise.startswith("refused")}
    assert made == (WORDS_SETTLING if settles else WORDS)
    assert not [check for check in checks if check.broken]
    on_leaky = {check.promise for check in checks if check.network == "leaky"}
    assert on_leaky == (WORDS - WORDS_ONCE if name == "HSICMemory" else set())  # the others hear of no time steps


@pytest.mark.parametrize(
    ("rule", "promise"),
    [
        [Transport, "weights that are elsewhere do not matter"],
        [ReadsItsNeighbour, "what the first layer is given is the input"],
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_cheats_on_three_compartments_are_noticed(rule, promise, monkeypatch):
    deep = "CorInfoMaxNetwork, deep"
    seen_on = {deep: example_networks(rule.network_type)[deep]}
    monkeypatch.setattr("infohebb.testing.example_networks", lambda kind: seen_on)
    assert promise in broken(rule)


def test_the_registry_holds_rules_that_can_be_built():
    assert {"Backprop", "KernelizedBottleneck", "LastLayer"} <= set(rules.registry())
    for name, rule in rules.registry().items():
        assert rule.__name__ == name
        assert isinstance(rule(), LearningRule)
        assert rule.__doc__


CONFIGURATIONS = {
    "cosine": {"kernel": "cosine"},
    "linear": {"kernel": "linear"},
    "hsic": {"objective": "hsic"},
    "hsic_bottleneck": {"objective": "hsic_bottleneck"},
    "centre": {"centre": True},
    "groups": {"groups": 4},
    "groups and power": {"groups": 4, "power": 0.5},
}


@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_configurations_of_the_kernelized_bottleneck_keep_the_contract(options):
    checks = check_rule(lambda: KernelizedBottleneck(**options), strict=False)
    assert [str(check) for check in checks if check.broken] == []
    refused = {check.network for check in on_layers(checks) if check.promise.startswith("refused")}
    normalised = {"divisive norm", "dropout", "convolution, divisive norm"}
    assert refused == (normalised if "power" in options else set())  # its norm has another power


@pytest.mark.parametrize("rule", [Honest, Waits], ids=lambda rule: rule.__name__)
def test_an_honest_rule_holds_on_every_network(rule):
    checks = check_rule(rule)
    assert {check.network for check in checks} == {*example_networks(rule.network_type), "-", "blobs"}
    assert all(str(check).startswith("holds  ") for check in checks)


@pytest.mark.parametrize("rule", [OneByOne, Remembers], ids=lambda rule: rule.__name__)
def test_an_honest_rule_that_learns_from_a_stream_holds_where_it_is_not_refused(rule):
    checks = check_rule(rule)
    refused = {check.network for check in checks if check.promise.startswith("refused")}
    assert refused < {name for name in example_networks(rule.network_type) if "conv" in name or name != "plain"}
    assert {check.promise for check in checks if check.network == "plain"} == WORDS - WORDS_ONCE


STREAMED = [
    {},
    {"form": "eligibility"},
    {"form": "mean_activity"},
    {"form": "trace", "groups": 4, "power": 0.8},
    {"form": "trace", "groups": 4, "power": 0.8, "gate": False},
    {"form": "eligibility", "groups": 4, "power": 0.8},
]


@pytest.mark.parametrize("options", STREAMED, ids=str)
def test_configurations_of_the_online_rule_keep_the_contract(options):
    checks = check_rule(lambda: KernelizedBottleneckOnline(**options), strict=False)
    assert [str(check) for check in checks if check.broken] == []
    refused = {check.network for check in checks if check.promise.startswith("refused")}
    normalised = {"divisive norm", "dropout"} if options.get("form") == "mean_activity" else set()
    of_blocks = {"residual", "layer norm", "batch norm, biases"} | normalised
    of_modules = {"residual", "sequence", "MLP, layer norm"} | {f"MLP, {name}" for name in normalised}
    wanted = of_blocks | {f"learner: {name}" for name in of_modules}
    assert {name for name in refused if "conv" not in name} == wanted


MEMORIES = [
    ({"memory": "stale"}, ["divisive norm", "layer norm"]),
    ({"modulator": "row"}, ["layer norm", "leaky"]),
    ({"modulator": "pub"}, ["layer norm", "leaky"]),
    ({"modulator": "head"}, ["layer norm", "leaky"]),
]


@pytest.mark.parametrize(("options", "names"), MEMORIES, ids=[str(options) for options, _ in MEMORIES])
def test_configurations_of_the_working_memory_keep_the_contract(options, names):
    """The promises on networks; HSICMemory as it is made without a word is tried on all of them, and on blobs."""
    make = partial(HSICMemory, **options)
    networks = {**example_networks(HSICMemory.network_type), **leaky_networks(make())}
    for name in names:
        for promise in PROMISES:
            promise(partial(build_case, make, networks[name]))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_the_working_memory_keeps_the_contract_on_maps_that_are_averaged(promise):
    options = {"pooling": "average", "norm": "layer", "nonlinearity": "relu", "bias": True}
    promise(partial(build_case, HSICMemory, partial(ConvNet, (2, 4, 4), 3, (8, 4), (1,), (12,), **options)))


ONE_SLOT = (
    *(promise for promise in manners.PROMISES if promise is not manners.batch_order_does_not_matter),
    *(
        locality.update_follows_from_signals,
        locality.update_is_local,
        locality.postsynaptic_signals_are_the_neurons_own,
    ),
)  # those that do not ask what all samples of the window bring to each layer: one slot has room for one


@pytest.mark.parametrize("promise", ONE_SLOT, ids=lambda promise: promise.__name__)
def test_a_stale_memory_of_a_leaky_network_keeps_the_contract(promise):
    network = partial(LeakyMLP, (2, 4, 4), 3, (24, 20, 16), slots=1)
    promise(partial(build_case, partial(HSICMemory, memory="stale"), network))


def test_a_window_is_followed_by_another_while_a_rule_waits():
    """A memory of one sample over and over has nothing that is unlike the current one."""
    case = build_case(partial(HSICMemory, memory="stale"), partial(MLP, (2, 4, 4), 3, (24, 20)))
    memory = case.learn(record=True).signals["blocks.0"]["memory"]
    assert (memory.abs().amax(1) > 0).all()
    assert len(memory.unique(dim=0)) == len(memory) == len(case.inputs) - 1


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_the_suite_notices_each_way_to_break_it(rule, monkeypatch):
    name = SEEN_ON.get(rule, "plain")
    seen_on = {name: example_networks(Honest.network_type)[name]}
    monkeypatch.setattr("infohebb.testing.example_networks", lambda kind: seen_on)
    assert broken(rule) == BROKEN[rule]


def test_every_promise_has_a_rule_that_breaks_it():
    assert set().union(*BROKEN.values()) == WORDS | {"builds without arguments", "attaches to the network"}


def test_a_strict_check_raises_what_is_broken():
    liar = next(rule for rule in BROKEN if rule.__name__ == "ForgetsGradient")
    with pytest.raises(AssertionError, match=r"FAILS  fills gradients \[plain\]: no gradient for a parameter"):
        check_rule(liar)


def test_a_rule_that_cannot_be_built_gets_one_line():
    (check,) = check_rule(FailsToBuild, strict=False)
    assert str(check) == "FAILS  builds without arguments [-]: raises ValueError: boom and bang"


def test_rules_with_arguments_are_checked_as_what_makes_them():
    every = check_rule(lambda: KernelizedBottleneck(groups=5), strict=False)  # 5 do not divide layers of 24, 20, 16
    checks = on_layers(every)
    assert [check.promise for check in checks if check.broken] == ["trains some network"]
    words = "refused: blocks.0: 5 groups do not cut a layer of"
    refused = [check for check in checks if check.promise.startswith(words)]
    assert {check.network for check in refused} == set(example_networks(KernelizedBottleneck.network_type))


def test_rules_are_imported_by_module_and_class():
    assert import_rule("infohebb.rules.backprop:Backprop").__name__ == "Backprop"
    assert import_rule("rules.broken_rules:Honest") is Honest
    for path in ("infohebb.rules", ":Backprop", "infohebb.rules:", ""):
        with pytest.raises(UsageError, match="not of the form module:Class"):
            import_rule(path)
    with pytest.raises(UnknownNameError, match="cannot import 'no_such_module'"):
        import_rule("no_such_module:Rule")
    with pytest.raises(UnknownNameError, match=r"rules\.broken_rules has no Nothing; give the name of a class"):
        import_rule("rules.broken_rules:Nothing")
    for name in (NoRule.__name__, "BROKEN"):
        with pytest.raises(UsageError, match=r"no class derived from infohebb.LearningRule"):
            import_rule(f"rules.broken_rules:{name}")


def test_networks_without_examples_are_named():
    import torch

    with pytest.raises(MismatchError, match="no example of a Conv2d network"):
        example_networks(torch.nn.Conv2d)


def test_a_users_own_rule_on_a_settling_network_of_their_own_keeps_the_contract():
    checks = on_layers(check_rule(Contrast))
    assert {check.promise for check in checks} == WORDS_SETTLING
    assert {check.network for check in checks} == {"Leaky, shallow", "Leaky, deep", "-", "blobs"}


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda rule: rule.__name__)
def test_a_settling_rule_that_cheats_is_noticed(cheat):
    assert broken(cheat) == {CHEATS[cheat]}


class AnyNetwork(SettlingRule):
    """Says of no network that it trains it."""

    def experience(self, network, x, wanted):
        raise NotImplementedError


def test_a_settling_rule_without_a_network_is_told_to_make_one():
    with pytest.raises(MismatchError, match=r"^AnyNetwork trains any Settling network; give it"):
        AnyNetwork().make_network(5, 3, (8,))
