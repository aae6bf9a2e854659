import inspect

import pytest
import torch

from functional.oracles import assert_close, normal
from infohebb import rules
from infohebb.errors import EmptyBatchError, LabelError, MismatchError
from infohebb.networks import MLP
from infohebb.rules.base import check_batch, right_answers
from networks.plain_torch import make_network
from rules.walk import LABELS, X

RULES = [rules.Backprop, rules.KernelizedBottleneck, rules.LastLayer]


@pytest.mark.parametrize(
    ("inputs", "targets", "kind", "message"),
    [
        (X[:0], LABELS[:0], EmptyBatchError, "an empty batch"),
        (X, LABELS[:3], MismatchError, "7 inputs but 3 targets"),
        (X, torch.full((7,), 3), LabelError, "labels run from 3 to 3, .* classes 0 to 2; take y - y.min"),
        (X, 2 * LABELS, LabelError, "labels run from 0 to 4, .* takes a network of 5 outputs"),
        (X, LABELS - 1, LabelError, "labels run from -1 to 1, .*; take y - y.min"),
        (
            X,
            normal(7, 2),
            MismatchError,
            r"continuous targets \(7, 2\) do not fit a readout of 3; give \(samples, 3\) numbers, or",
        ),
        (X, LABELS.double(), MismatchError, r"integers if they are class labels \(y\.long\(\)\)"),
        (X[:, 0], LABELS, MismatchError, r"inputs have shape \(7,\); give \(samples, features\)"),
        (X.float(), LABELS, MismatchError, r"inputs are torch.float32; give x.to\(torch.float64\)"),
        (X.half(), LABELS, MismatchError, "inputs are torch.float16; give"),
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


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("frozen", ["blocks", "blocks.0", "blocks.1", "readout", ""])
def test_frozen_weights_get_no_gradient_and_leave_the_others_theirs(rule, frozen):
    network, whole = (make_network(norm="layer", nonlinearity="tanh") for _ in range(2))
    network.get_submodule(frozen).requires_grad_(False)
    rule().learn(whole, X, LABELS)
    rule().learn(network, X, LABELS)
    for (name, parameter), other in zip(network.named_parameters(), whole.parameters(), strict=True):
        if name.startswith(frozen):
            assert parameter.grad is None
        elif other.grad is not None:
            assert torch.equal(parameter.grad, other.grad)


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
    others = {"Diagnostics", "LearningRule", "LayeredRule", "SettlingRule", "TransportRule"}
    assert set(registry) | others == set(rules.__all__)
