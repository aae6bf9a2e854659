import inspect

import pytest
import torch

from functional.oracles import assert_close, normal
from infohebb import rules
from infohebb.errors import EmptyBatchError, LabelError, MismatchError
from infohebb.networks import MLP
from infohebb.rules.base import check_batch, right_answers
from rules.walk import LABELS, X

RULES = [rules.Backprop, rules.KernelizedBottleneck, rules.LastLayer]


@pytest.mark.parametrize(
    ("inputs", "targets", "kind", "message"),
    [
        (X[:0], LABELS[:0], EmptyBatchError, "an empty batch"),
        (X, LABELS[:3], MismatchError, "7 inputs but 3 targets"),
        (X, torch.full((7,), 3), LabelError, "labels run from 3 to 3, .* classes 0 to 2"),
        (X, LABELS - 1, LabelError, "labels run from -1 to 1"),
        (X, normal(7, 2), MismatchError, r"continuous targets \(7, 2\) do not fit a readout of 3"),
    ],
)
@pytest.mark.parametrize("rule", RULES)
def test_a_batch_that_no_rule_could_learn_from_is_refused_by_learn(rule, inputs, targets, kind, message):
    network = MLP(5, 3, (8,)).double()
    with pytest.raises(kind, match=message):
        inspect.unwrap(rule.learn)(rule(), network, inputs, targets)  # without the shape checks of the tests
    assert all(parameter.grad is None for parameter in network.parameters())


def test_continuous_targets_in_one_dimension_are_refused():
    with pytest.raises(MismatchError, match=r"\(7,\) do not fit a readout of 7"):
        check_batch(X, normal(7), 7)


def test_every_label_of_the_readout_is_let_through():
    check_batch(X, torch.tensor([0, 1, 2, 0, 1, 2, 2]), 3)
    check_batch(X, normal(7, 3), 3)


def test_right_answers_are_those_with_the_largest_logit():
    logits = torch.tensor([[0.1, 0.9], [0.8, 0.2], [-5.0, -4.0]])
    assert right_answers(logits, torch.tensor([1, 1, 1])).tolist() == [True, False, True]
    assert right_answers(logits, logits) is None


@pytest.mark.parametrize("rule", [rules.Backprop, rules.LastLayer])
def test_another_kind_of_network_is_refused_by_attach(rule):
    with pytest.raises(MismatchError, match=f"{rule.__name__} trains a Layered network, not a Linear"):
        rule().attach(torch.nn.Linear(3, 3))


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_of_one_teaches_the_readout_and_has_no_pair_to_teach_a_local_block(rule):
    network = MLP(5, 3, (8,), divisive_norm={"groups": 4}).double()
    rule().learn(network, X[:1], LABELS[:1])
    error = torch.softmax(network(X[:1]), 1)[0] - torch.eye(3)[LABELS[0]]
    assert_close(network.readout.bias.grad, error.detach(), 1e-12)
    gradient = network.blocks[0].weight.grad
    assert (gradient is not None and bool(gradient.any())) == (rule is rules.Backprop)


def test_the_registry_names_every_rule_that_can_be_built():
    registry = rules.registry()
    assert {rule.__name__: rule for rule in RULES}.items() <= registry.items()
    assert all(name == rule.__name__ for name, rule in registry.items())
    assert not any(rule.__abstractmethods__ for rule in registry.values())
    assert set(registry) | {"Diagnostics", "LearningRule", "LayeredRule"} == set(rules.__all__)
