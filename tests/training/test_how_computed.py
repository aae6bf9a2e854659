"""Options of train that change how a step is computed, and nothing else beyond rounding."""

import shutil

import pytest
import torch

from infohebb import Backprop, FeedbackAlignment, KernelizedBottleneck, LayerwiseClassification, Learner, train
from infohebb.data import random_like
from infohebb.learner.compiled import owned
from infohebb.networks.plain import ConvNet
from processes import start

pytestmark = pytest.mark.slow

RULES = {
    "kernelized bottleneck": lambda: KernelizedBottleneck("cosine"),
    "feedback alignment": FeedbackAlignment,
    "layer-wise": lambda: LayerwiseClassification(projection=16),
    "backprop": Backprop,
}
OPTIMIZERS = [{"name": "sgd", "lr": 0.01, "momentum": 0.9}, {"name": "adamw", "lr": 1e-3}]


@pytest.mark.parametrize("make_rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "adamw"])
def test_channels_last_changes_rounding_only(make_rule, optimizer):
    found = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        network = ConvNet((2, 8, 8), 3, (8, 4), (1,), (12,), norm="batch", divisive_norm={"groups": 4}, dropout=0.1)
        options = {"epochs": 2, "batch": 8, "optimizer": optimizer, "progress": False, "device": "cpu"}
        curves = train(network, make_rule(), random_like((2, 8, 8), 3, 24), channels_last=channels_last, **options)
        found.append((network, curves))
    (plain, expected), (network, curves) = found
    assert network.layers[1].activity.conv.weight.is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4)
    assert curves["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-3)
    learner = Learner(network, make_rule())
    learner.bind(torch.optim.SGD(learner.param_groups(), lr=0.1))
    learner.zero_grad()
    learner.backward(torch.randn(4, 2, 8, 8), torch.arange(4) % 3)
    strides = [parameter.grad.stride() == parameter.stride() for parameter in network.parameters()]
    assert all(strides), "torch's fused optimizers step wrongly, without a word"


def test_what_a_replay_would_write_over_is_owned():
    loss, logits, term = torch.ones(()), torch.ones(3, 2), torch.ones(())
    kept = owned((loss, logits, {"layers.0": {"objective": term}}, False))
    for given in (loss, logits, term):
        given.zero_()
    assert (kept[0], kept[1].all(), kept[2]["layers.0"]["objective"], kept[3]) == (1, True, 1, False)
    assert owned((None, None, {}, True)) == (None, None, {}, True)


SHARED = """
import copy, warnings
import torch
from torch._dynamo.utils import counters
from infohebb import *
from infohebb.data import random_like
from infohebb.networks.plain import MLP, ConvNet, LeakyMLP, stack_networks
warnings.simplefilter("error")
torch.set_num_threads(1)
compile_ = Learner.compile
Learner.compile = lambda self, **options: compile_(self, backend="aot_eager", **options)  # needs no compiler here

def graphs():
    return counters["stats"]["unique_graphs"]

def compared(name, network, rule, data, rtol=2e-3, atol=2e-4, **options):
    found, options = [], {"epochs": 3, "progress": False, "device": "cpu", **options}
    for compiled in (False, True):
        trained, before = copy.deepcopy(network), graphs()
        found.append((trained, train(trained, rule(), data, compiled=compiled, **options)))
        assert (graphs() > before) == compiled, name
    (plain, expected), (trained, curves) = found
    first = network.state_dict()
    for (key, one), other in zip(plain.state_dict().items(), trained.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol, msg=lambda text: f"{name}, {key}: {text}")
    assert any(not torch.equal(first[key], one) for key, one in trained.state_dict().items()), name
    assert curves.keys() == expected.keys() and curves["objective"].keys() == expected["objective"].keys(), name
    losses = [torch.tensor(each["train_loss"]) for each in (curves, expected)]
    torch.testing.assert_close(*losses, rtol=1e-2, atol=1e-3)
    assert curves["learning_rate"] == expected["learning_rate"], name
    return graphs() - before

torch.manual_seed(0)
images = random_like((2, 8, 8), 3, 24)
samples = (torch.randn(12, 6), torch.arange(12) % 3)
grouped = MLP(6, 3, (8, 8), divisive_norm={"groups": 2})
"""

COMPILED = (
    SHARED
    + """
conv = ConvNet((2, 8, 8), 3, (8, 4), (1,), (12,), norm="batch", divisive_norm={"groups": 4}, dropout=0.1)
leaky = stack_networks([LeakyMLP(6, 3, (8, 4), slots=4) for _ in range(2)])
adamw = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.1}
plain_sgd = {"name": "sgd", "lr": 0.1}  # has no state, so that no step but the first leaves gradients
for optimizer in ({"name": "sgd", "lr": 0.01, "momentum": 0.9}, adamw, {"name": "rmsprop", "lr": 1e-4}, plain_sgd):
    options = {"batch": 8, "optimizer": optimizer}
    compared(f"batches, {optimizer}", conv, lambda: KernelizedBottleneck("cosine"), images, **options)
online = {"batch": 1, "optimizer": plain_sgd}
compared("samples, of which the first waits", grouped, KernelizedBottleneckOnline, samples, **online)
compared("windows", MLP(6, 3, (8, 6), norm="layer"), lambda: HSICMemory(objective=True), samples, batch=4)
compared("leaky", leaky, HSICMemory, samples, batch=4, steps_per_sample=2, optimizer=plain_sgd)
"""
)

FALLING = (
    SHARED
    + """
options = {"batch": 1, "epochs": 5, "optimizer": {"lr": 0.05, "momentum": 0.9}}
falling = {"factor_every": {"factor_every": 5, "factor": 0.5}, "powers": {"powers": [[1, 0.9], [3, 0.8]]}}
for name, asked in falling.items():
    made = compared(name, grouped, KernelizedBottleneckOnline, samples, **options, **asked)
    assert made < 5, (name, made)
few = [compared("milestones", grouped, KernelizedBottleneckOnline, samples, **options, milestones=[2, 4]) for _ in "ab"]
assert few[0] == few[1], few  # trainings in one process do not share what may be compiled
"""
)

IN_ONE_GRAPH = (
    SHARED
    + """
Learner.compile = compile_
compared("torch's own compiler", grouped, KernelizedBottleneckOnline, samples, batch=1, rtol=1e-4, atol=1e-6)
assert not counters["graph_break"], counters["graph_break"]
"""
)


@pytest.mark.parametrize(
    "script",
    [
        COMPILED,
        FALLING,
        pytest.param(IN_ONE_GRAPH, marks=pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")),
    ],
    ids=["same numbers", "falling rates", "in one graph"],
)
def test_compiled_trainings_change_rounding_only_and_warn_of_nothing(script, tmp_path):
    """In processes of their own: the shape checks of the tests cannot be compiled."""
    process = start(script, tmp_path)
    _, err = process.communicate()
    assert process.returncode == 0, err[-3000:]


NO_COMPILER = """
import infohebb, torch
from infohebb.networks.plain import MLP
network, data = MLP(6, 3, (8,)), (torch.randn(20, 6), torch.arange(20) % 3)
options = {"batch": 1, "epochs": 1, "compiled": True, "device": "cpu", "progress": False}
try:
    infohebb.train(network, infohebb.KernelizedBottleneckOnline(), data, **options)
except infohebb.errors.MismatchError as error:
    print(error)
"""


def test_compiled_steps_want_a_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    out, err = start(NO_COMPILER, tmp_path).communicate()
    assert "torch finds no C++ compiler" in out, err
