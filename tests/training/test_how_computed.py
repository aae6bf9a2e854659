"""Options that change how a step is computed, and nothing else beyond rounding."""

import shutil

import pytest
import torch

from infohebb import Backprop, ConvNet, FeedbackAlignment, KernelizedBottleneck, LayerwiseClassification, train
from infohebb.data import random_like
from infohebb.functional.convolution import channels_lie_together
from processes import start

RULES = {
    "kernelized bottleneck": lambda: KernelizedBottleneck("cosine"),
    "feedback alignment": FeedbackAlignment,
    "layer-wise": lambda: LayerwiseClassification(projection=16),
    "backprop": Backprop,
}
every_rule = pytest.mark.parametrize("make_rule", RULES.values(), ids=RULES)
OPTIMIZERS = [{"name": "sgd", "lr": 0.01, "momentum": 0.9}, {"name": "adamw", "lr": 1e-3}]


def trained(make_rule, optimizer, **options):
    torch.manual_seed(0)
    network = ConvNet((2, 8, 8), 3, (8, 4), (1,), (12,), norm="batch", divisive_norm={"groups": 4}, dropout=0.1)
    data = random_like((2, 8, 8), 3, 24)
    curves = train(
        network, make_rule(), data, epochs=2, batch=8, optimizer=optimizer, progress=False, device="cpu", **options
    )
    return network, curves


@every_rule
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "adamw"])
def test_channels_last_changes_rounding_only(make_rule, optimizer):
    plain, expected = trained(make_rule, optimizer)
    network, curves = trained(make_rule, optimizer, channels_last=True)
    assert channels_lie_together(network.blocks[1].weight)
    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4)
    assert curves["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-3)


def test_every_gradient_lies_in_memory_as_its_weight_does():
    """Torch's fused optimizers step wrongly otherwise, without a word."""
    for make_rule in RULES.values():
        network, _ = trained(make_rule, OPTIMIZERS[0], channels_last=True)
        rule = make_rule()
        rule.attach(network)
        rule.learn(network, torch.randn(4, 2, 8, 8), torch.arange(4) % 3)
        assert all(parameter.grad.stride() == parameter.stride() for parameter in network.parameters())


COMPILED = """
import functools, torch
from infohebb import *
from infohebb.data import random_like
compile_, graphs = torch.compile, torch._dynamo.utils.counters["stats"]
torch.compile = functools.partial(compile_, backend="aot_eager")  # needs no compiler on the machine
found = []
for compiled in (False, True):
    torch.manual_seed(0)
    network = ConvNet((2, 8, 8), 3, (8, 4), (1,), (12,), norm="batch", divisive_norm={"groups": 4}, dropout=0.1)
    data = random_like((2, 8, 8), 3, 24)
    options = {"epochs": 2, "batch": 8, "progress": False, "device": "cpu", "compiled": compiled}
    train(network, KernelizedBottleneck("cosine"), data, **options)
    found.append(list(network.parameters()))
    print(graphs["unique_graphs"])
for one, other in zip(*found, strict=True):
    torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4)
"""


def test_a_compiled_step_changes_rounding_only(tmp_path):
    """In a process of its own: the shape checks of the tests cannot be compiled."""
    process = start(COMPILED, tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, err
    without, with_graphs = map(int, out.split())
    assert without == 0 < with_graphs


DROPOUT = """
import torch
from infohebb.functional.dropout import dropout
from infohebb.training.loop import SAME_DRAWS
found = []
for drop in (dropout, torch.compile(dropout, options=SAME_DRAWS)):
    torch.manual_seed(0)
    found.append(drop(torch.ones(50, 40), 0.3))
assert torch.equal(*found), "a compiled step drops other units"
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's own compiler needs a C++ compiler")
def test_a_compiled_step_drops_the_same_units(tmp_path):
    process = start(DROPOUT, tmp_path)
    _, err = process.communicate()
    assert process.returncode == 0, err
