import copy
import inspect
import math

import pytest
import torch

from functional import oracles
from functional.oracles import assert_close, normal
from infohebb.errors import GroupingError, MismatchError, UnknownNameError
from infohebb.functional import kernels
from infohebb.functional.dropout import alpha_dropout, dropout
from infohebb.networks import MLP
from infohebb.rules import KernelizedBottleneck
from networks.plain_torch import FUNCTIONS, make_network
from rules.walk import (
    LABELS,
    X,
    assert_learned_locally,
    assert_only_blocks_round_their_updates,
    dropout_masks,
    local_gradients,
)

Y = oracles.label_gram(LABELS, 3)
GROUPED = {"groups": 4, "power": 0.7, "delta": 0.6, "sigma": 0.4}
# name: (what the kernel sees, what the rule is given, what the network is given)
MODES = {
    "plain": ({"sigma": 1.5}, {"sigma": 1.5}, {}),
    "centred": ({"sigma": 1.5, "centre": True}, {"sigma": 1.5, "centre": True}, {}),
    "grouped": (GROUPED, GROUPED, {}),
    "divisive": (GROUPED, {"sigma": 0.4}, {"divisive_norm": {"groups": 4, "power": 0.3, "delta": 0.6}}),
}
OBJECTIVES = list(oracles.TERMS)


def check(mode, *, rtol=1e-9, masks=None, targets=LABELS, Y=Y, given=None, **choices):
    """One call of `learn` on two blocks against autograd, block by block."""
    seen, told, network_options = MODES[mode]
    rule_choices = {key: choices.pop(key) for key in ("kernel", "objective", "gamma") if key in choices}
    network = make_network(**choices, **network_options)
    rule = KernelizedBottleneck(**told, **rule_choices, **(given or {}))
    rule.attach(network)
    found, x = local_gradients(network, Y, seen | rule_choices, masks, **choices, **network_options)
    torch.manual_seed(0)
    diagnostics = rule.learn(network, X, targets)
    assert_learned_locally(network, diagnostics, found, x, targets, rtol)


every_mode = pytest.mark.parametrize("mode", MODES)


@every_mode
@pytest.mark.parametrize("kernel", oracles.GRAMS)
def test_gradients_of_every_kernel(mode, kernel):
    check(mode, kernel=kernel)


@every_mode
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("gamma", [2.0, 5.0])
def test_gradients_of_every_objective(mode, objective, gamma):
    check(mode, objective=objective, gamma=gamma, rtol=1e-3 if objective == "nhsic_bottleneck" else 1e-9)


@every_mode
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("nonlinearity", FUNCTIONS)
def test_gradients_through_every_nonlinearity_and_norm(mode, norm, nonlinearity):
    check(mode, norm=norm, nonlinearity=nonlinearity, bias=True)


@every_mode
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_gradients_without_bias_of_another_kernel_and_objective(mode, norm):
    check(mode, norm=norm, nonlinearity="tanh", kernel="cosine", objective="hsic")


@pytest.mark.parametrize("mode", ["plain", "divisive"])
@pytest.mark.parametrize(("nonlinearity", "drop"), [("leaky_relu", dropout), ("selu", alpha_dropout)])
def test_dropout_reaches_what_the_next_block_and_the_readout_receive(mode, nonlinearity, drop):
    check(mode, nonlinearity=nonlinearity, dropout=0.3, masks=dropout_masks(drop, (8, 12), 0.3))


def test_dropout_changes_what_is_learned_and_not_what_is_predicted():
    network = make_network(dropout=0.5)
    predicted = network(X)
    gradients = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        KernelizedBottleneck().learn(network, X, LABELS)
        gradients.append([p.grad for p in network.parameters()])
    below, above, _, _ = (torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert below and not above
    assert torch.equal(network(X), predicted)


@pytest.mark.parametrize(
    ("target_kernel", "gram"),
    [
        ("labels", Y),
        ("gaussian", oracles.GRAMS["gaussian"](oracles.one_hot(LABELS, 3), 1.5)),
        ("linear", oracles.GRAMS["linear"](oracles.one_hot(LABELS, 3), 1.5)),
        (kernels.gaussian(0.8), oracles.GRAMS["gaussian"](oracles.one_hot(LABELS, 3), 0.8)),
        (
            "frequency_centred_labels",
            oracles.GRAMS["linear"](oracles.one_hot(LABELS, 3) - torch.tensor([1, 2, 4], dtype=torch.float64) / 7, 1.5),
        ),
    ],
    ids=["labels", "gaussian", "linear", "a kernel", "frequency_centred_labels"],
)
def test_the_kernel_of_the_labels(target_kernel, gram):
    check("plain", given={"target_kernel": target_kernel}, Y=gram)


def test_labels_weighted_by_inverse_frequency():
    p = torch.tensor([1, 2, 4], dtype=torch.float64) / 7
    gram = torch.tensor([[((a == b) / p[a] - 1) / 2 for b in LABELS] for a in LABELS])
    check("plain", given={"target_kernel": "inverse_frequency_labels"}, Y=gram)


def test_continuous_targets_have_a_gaussian_kernel_of_median_width_and_a_squared_loss():
    targets = normal(7, 3, seed=9)
    check("grouped", targets=targets, Y=oracles.GRAMS["gaussian_median"](targets, 1.0))


def test_continuous_targets_can_have_a_kernel_by_name():
    targets = normal(7, 3, seed=9)
    check("plain", targets=targets, Y=oracles.GRAMS["cosine"](targets, 1.5), given={"target_kernel": "cosine"})


@pytest.mark.parametrize(("input_kernel", "oracle"), [("linear", "linear"), (kernels.cosine(), "cosine")])
def test_the_kernel_of_the_input_may_be_another_one(input_kernel, oracle):
    network = make_network()
    settings = {"sigma": 1.5, "objective": "hsic_bottleneck"}
    found, x = local_gradients(network, Y, settings | {"input_kernel": oracle})
    diagnostics = KernelizedBottleneck(**settings, input_kernel=input_kernel).learn(network, X, LABELS)
    assert_learned_locally(network, diagnostics, found, x, LABELS, 1e-9)


def test_a_kernel_object_is_taken_as_it_is():
    check("plain", given={"kernel": kernels.gaussian(1.5)})


def test_defaults_are_the_papers():
    network, options = make_network(), {"groups": 4, "power": 0.5, "delta": 1.0}
    found, x = local_gradients(network, Y, options)
    diagnostics = KernelizedBottleneck(groups=4).learn(network, X, LABELS)
    assert_learned_locally(network, diagnostics, found, x, LABELS, 1e-7)


def test_the_rules_own_power_and_delta_hold_where_no_divisive_norm_has_them():
    block = make_network(divisive_norm={"groups": 4, "power": 0.3, "delta": 0.6}).blocks[0]
    plain = make_network().blocks[0]
    assert KernelizedBottleneck().grouping(plain) is None
    assert KernelizedBottleneck(groups=2).grouping(plain) == (2, 0.5, 1.0)
    assert KernelizedBottleneck(groups=2, power=0.9, delta=0.0).grouping(plain) == (2, 0.9, 0.0)
    assert KernelizedBottleneck().grouping(block) == (4, 0.7, 0.6)


def gradients_of(network, rule, labels=LABELS):
    rule.learn(network, X, labels)
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def test_nothing_flows_down():
    """Weights above may change as they like: what is below learns the same."""
    network = make_network(divisive_norm={"groups": 4}, norm="batch")
    changed = copy.deepcopy(network)
    for parameter in (*changed.blocks[1].parameters(), *changed.readout.parameters()):
        parameter.data.mul_(-3)
    before, after = (gradients_of(each, KernelizedBottleneck(sigma=0.4)) for each in (network, changed))
    for name in before:
        assert torch.equal(before[name], after[name]) == name.startswith("blocks.0")


def test_the_next_block_sees_activity_from_before_the_update():
    network = make_network(divisive_norm={"groups": 4})
    output = network.blocks[0](X)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    signals = KernelizedBottleneck(sigma=0.4).learn(network, X, LABELS, record=True).signals
    optimizer.step()
    assert_close(signals["blocks.1"]["pre"], output, 1e-13)
    assert not torch.allclose(network.blocks[0](X), output)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equal_labels_leave_only_the_compression(mode, objective):
    _, told, options = MODES[mode]
    results = []
    for gamma in (0.0, 7.0):
        rule = KernelizedBottleneck(**told, objective=objective, gamma=gamma)
        network = make_network(**options)
        results.append(gradients_of(network, rule, torch.ones_like(LABELS)))
    for name in results[0]:
        assert_close(results[1][name], results[0][name], 1e-12, name)
    assert results[0]["blocks.0.weight"].abs().max() > 1e-8


@pytest.mark.parametrize("mode", MODES)
def test_neither_the_order_of_the_batch_nor_the_names_of_the_classes_matter_to_the_blocks(mode):
    _, told, options = MODES[mode]
    network, rule = make_network(**options), KernelizedBottleneck(**told)
    before = gradients_of(network, rule)
    renamed = gradients_of(network, rule, torch.tensor([2, 0, 1])[LABELS])
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    rule.learn(network, X[order], LABELS[order])
    for name, parameter in network.blocks.named_parameters():
        assert torch.equal(renamed[f"blocks.{name}"], before[f"blocks.{name}"])
        assert_close(parameter.grad, before[f"blocks.{name}"], 1e-10)


def test_the_readout_and_the_answers():
    network = make_network()
    diagnostics = KernelizedBottleneck().learn(network, X, LABELS)
    assert diagnostics.correct.tolist() == (network(X).argmax(1) == LABELS).tolist()
    assert diagnostics.signals == {}
    assert KernelizedBottleneck().learn(network, X, normal(7, 3)).correct is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("nonlinearity", ["leaky_relu", "identity"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_signals_recorded_make_the_update(mode, norm, nonlinearity, dropout):
    _, told, options = MODES[mode]
    network = make_network(**options, norm=norm, nonlinearity=nonlinearity, dropout=dropout)
    rule = KernelizedBottleneck(**told)
    signals = rule.learn(network, X, LABELS, record=True).signals
    assert list(signals) == ["blocks.0", "blocks.1", "readout"]
    for layer, recorded in signals.items():
        update = rule.update(recorded)
        for name, parameter in network.get_submodule(layer).named_parameters():
            assert torch.equal(update[name], parameter.grad)


def test_a_third_factor_is_a_number_per_sample_and_group():
    network = make_network(divisive_norm={"groups": 4})
    signals = KernelizedBottleneck().learn(network, X, LABELS, record=True).signals
    assert [signals[f"blocks.{i}"]["third_factor"].shape for i in (0, 1)] == [(7, 4), (7, 4)]


@pytest.mark.parametrize("groups", [None, 8])
def test_bf16_reaches_the_updates_of_the_blocks_and_not_the_readouts(groups):
    assert_only_blocks_round_their_updates(KernelizedBottleneck(groups=groups))


DIVISIVE = {"groups": 4, "power": 0.2, "delta": 1.0}


@pytest.mark.parametrize(
    ("told", "kind", "message"),
    [
        ({"kernel": "gausian"}, UnknownNameError, "unknown kernel 'gausian'; did you mean 'gaussian'"),
        ({"target_kernel": "label"}, UnknownNameError, "unknown kernel 'label'"),
        ({"input_kernel": "cosin", "objective": "hsic_bottleneck"}, UnknownNameError, "did you mean 'cosine'"),
        ({"sigma": 0.0}, MismatchError, "sigma 0.0: give a width above 0"),
        ({"sigma": math.nan}, MismatchError, "sigma nan: give a width above 0"),
        ({"gamma": math.nan}, MismatchError, "gamma nan: give a finite number"),
        ({"groups": 4, "power": math.nan}, MismatchError, "power nan: give a finite number"),
        ({"groups": 4, "delta": -1000.0}, MismatchError, "delta -1000.0: give a number of at least 0"),
        ({"power": 0.3}, MismatchError, "blocks.0 has no groups for power and delta to act on; give groups too, or"),
        ({"delta": 1.0}, MismatchError, "blocks.0 has no groups"),
        ({"groups": 0}, GroupingError, "0 groups .* 8 neurons .*possible: 2, 4$"),
        ({"groups": 5}, GroupingError, "5 groups .* 8 neurons .*possible: 2, 4$"),
        ({"groups": 1}, GroupingError, "possible: 2, 4$"),
    ],
)
def test_settings_that_cannot_be_right_are_refused_by_attach(told, kind, message):
    with pytest.raises(kind, match=message):
        KernelizedBottleneck(**told).attach(make_network())


@pytest.mark.parametrize(
    ("name", "value", "kind", "message"),
    [
        ("objective", "phsik", UnknownNameError, "unknown objective 'phsik'; did you mean 'phsic'"),
        ("objective", None, UnknownNameError, "unknown objective 'None'; known: hsic, "),
        ("sigma", "a", MismatchError, "sigma 'a': give a width above 0"),
        ("gamma", None, MismatchError, "gamma None: give a finite number"),
    ],
)
def test_settings_of_the_wrong_type_are_refused_by_attach(name, value, kind, message):
    rule = KernelizedBottleneck()
    setattr(rule, name, value)  # as a constructor that only stores leaves it
    with pytest.raises(kind, match=message):
        rule.attach(make_network())


@pytest.mark.parametrize(
    ("name", "gram", "got"),
    [
        *((name, lambda V: V[:, :2], r"\[7, 2\]") for name in ("kernel", "target_kernel", "input_kernel")),
        ("kernel", lambda V: None, "NoneType"),
    ],
)
def test_a_kernel_whose_gram_is_not_square_is_named_at_the_first_batch(name, gram, got):
    rule = KernelizedBottleneck(objective="hsic_bottleneck", **{name: kernels.linear()._replace(gram=gram)})
    network = make_network()
    rule.attach(network)
    with pytest.raises(MismatchError, match=rf"^{name}: its gram gave {got} for 7 samples; it must give \[7, 7\]"):
        rule.learn(network, X, LABELS)


@pytest.mark.parametrize("told", [{"groups": 2}, {"power": 0.5}, {"delta": 2.0}])
def test_a_grouping_at_odds_with_the_divisive_norm_is_refused_by_attach(told):
    with pytest.raises(MismatchError, match=r"blocks.0: .*\(4, 0.8, 1.0\).*leave them out of the rule"):
        KernelizedBottleneck(**told).attach(make_network(divisive_norm=DIVISIVE))


def test_groups_that_do_not_cut_a_block_are_refused_by_its_name():
    with pytest.raises(GroupingError, match=r"blocks.1: 3 groups do not cut a layer of 4"):
        KernelizedBottleneck(groups=3).attach(MLP(8, 3, (6, 4)))


@pytest.mark.parametrize("told", [{}, {"groups": 4, "power": 0.8, "delta": 1.0}, {"power": 0.8}])
def test_a_grouping_that_agrees_with_the_divisive_norm_is_let_through(told):
    KernelizedBottleneck(**told).attach(make_network(divisive_norm=DIVISIVE))


def test_another_kind_of_network_is_refused_by_attach():
    with pytest.raises(MismatchError, match="KernelizedBottleneck trains a Layered network, not a Linear"):
        inspect.unwrap(KernelizedBottleneck.attach)(KernelizedBottleneck(), torch.nn.Linear(3, 3))
