"""Options that change how a step is computed, and nothing else beyond rounding."""

import shutil

import pytest
import torch

from infohebb import Backprop, ConvNet, FeedbackAlignment, KernelizedBottleneck, LayerwiseClassification, train
from infohebb.data import random_like
from infohebb.errors import MismatchError
from infohebb.functional.convolution import channels_lie_together
from infohebb.rules import Diagnostics
from infohebb.training.compiling import kept
from processes import start

pytestmark = pytest.mark.slow

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
from infohebb.training.compiling import compile_learning
rule, x, y = KernelizedBottleneck("cosine"), torch.randn(8, 2, 8, 8), torch.arange(8) % 3
rule.attach(network)
seen = []
for learn in (rule.learn, compile_learning(rule, cuda_graphs=True)):
    torch.manual_seed(0)
    seen.append((learn(network, x, y).loss, network.blocks[0].weight.grad))
for one, other in zip(*seen, strict=True):
    torch.testing.assert_close(one, other)
"""


def test_a_compiled_step_changes_rounding_only(tmp_path):
    """In a process of its own: the shape checks of the tests cannot be compiled."""
    process = start(COMPILED, tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, err
    without, with_graphs = map(int, out.split())
    assert without == 0 < with_graphs


def test_cuda_graphs_want_compiled_steps_and_a_gpu():
    for options in ({"cuda_graphs": True}, {"cuda_graphs": True, "compiled": True}):
        with pytest.raises(MismatchError, match="give compiled = true, and cuda, not cpu"):
            trained(RULES["backprop"], OPTIMIZERS[0], **options)


def test_what_a_replay_would_write_over_is_kept():
    seen = Diagnostics(torch.ones(()), torch.ones(3, dtype=torch.bool), {"blocks.0": {"objective": torch.ones(())}})
    held = kept(seen)
    for given in (seen.loss, seen.correct, seen.objectives["blocks.0"]["objective"]):
        given.zero_()
    assert (held.loss, held.correct.all(), held.objectives["blocks.0"]["objective"]) == (1, True, 1)
    assert kept(Diagnostics(torch.ones(()), None)).correct is None


STREAMED = """
import copy, functools, torch
from infohebb import *
from infohebb.training import make_optimizer
from infohebb.training.compiling import WholeStep, compile_step, every_shape_compiled
from infohebb.training.epoch import plain_step
from infohebb.training.optimizers import scale_rates
compile_ = torch.compile
torch.compile = functools.partial(compile_, backend="eager")
torch.manual_seed(0)
torch.set_default_dtype(torch.float64)  # Adam's first steps make as much of a gradient of mere rounding as of any
x, y = torch.randn(12, 6), torch.arange(12) % 3
normed = MLP(6, 3, (8, 6), "relu", norm="layer", bias=True)
leaky = side_by_side([LeakyMLP(6, 3, (8, 4), slots=4) for _ in range(2)])
grouped = MLP(6, 3, (8, 8), divisive_norm={"groups": 2})
sgd = {"name": "sgd", "lr": 0.1}
momentum = {**sgd, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}
adam = {"name": "adam", "lr": 1e-2, "amsgrad": True, "weight_decay": 1e-2}
adamw = {"name": "adamw", "lr": 1e-2, "weight_decay": 0.1}
rmsprop = {"name": "rmsprop", "lr": 1e-3}
for make, network, size, options in (
    (Backprop, normed, 4, adamw),
    (SignSymmetry, grouped, 4, momentum),
    (HSICMemory, normed, 4, adam),
    (HSICMemory, leaky, 4, adamw),
    (functools.partial(HSICMemory, memory="stale"), normed, 4, sgd),
    (KernelizedBottleneckOnline, grouped, 1, momentum),
    (KernelizedBottleneckOnline, grouped, 1, rmsprop),
):
    found = []
    for compiled in (False, True):
        trained, rule = copy.deepcopy(network), make()
        rule.attach(trained)
        optimizer = make_optimizer(rule.groups(trained), **options)
        step = compile_step(rule, optimizer, whole=True) if compiled else plain_step(rule, optimizer)
        with every_shape_compiled(trained):
            for first in range(12 - size):
                scale_rates(optimizer, 1 + first, (6,), 0.1)
                for time_step in range(2 if network is leaky else 1):
                    onset = {"onset": time_step == 0} if rule.order_matters else {}
                    step(trained, x[first : first + size], y[first : first + size], **onset)
        if compiled:
            whole = isinstance(step, WholeStep)
            assert whole == (options is not rmsprop)
            assert not whole or step.step not in (None, step.apart)
            assert all((parameter.grad is None) == whole for parameter in trained.parameters())
        found.append(list(trained.parameters()))
    for one, other, drawn in zip(*found, network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert not torch.equal(one, drawn)
"""


def test_compiled_steps_of_a_stream_change_rounding_only(tmp_path):
    process = start(STREAMED, tmp_path)
    _, err = process.communicate()
    assert process.returncode == 0, err


ONE_AFTER_THE_OTHER = """
import functools, torch
from infohebb import *
from infohebb.training import compiling
torch.compile = functools.partial(torch.compile, backend="eager")
compiling.PER_LAYER = 1  # what three trainings would use up together
stats, made = torch._dynamo.utils.counters["stats"], []
for sigma in range(1, 4):
    network = MLP(6, 3, (8,), divisive_norm={"groups": 2})
    options = {"epochs": 3, "batch": 1, "milestones": [1, 2], "compiled": True, "device": "cpu"}
    rule = KernelizedBottleneckOnline(sigma=float(sigma))
    before = stats["unique_graphs"]
    train(network, rule, (torch.randn(6, 6), torch.arange(6) % 3), **options, progress=False)
    made.append(stats["unique_graphs"] - before)
assert len(set(made)) == 1 and made[0] > 0, made
"""


def test_trainings_in_one_process_do_not_share_what_may_be_compiled(tmp_path):
    process = start(ONE_AFTER_THE_OTHER, tmp_path)
    _, err = process.communicate()
    assert process.returncode == 0, err


IN_ONE_GRAPH = """
import copy, torch
from infohebb import *
found, breaks = [], torch._dynamo.utils.counters["graph_break"]
torch.manual_seed(0)
drawn = MLP(6, 3, (8, 8), divisive_norm={"groups": 2})
data = (torch.randn(20, 6), torch.arange(20) % 3)
for compiled in (False, True):
    network = copy.deepcopy(drawn)
    options = {"epochs": 2, "batch": 1, "optimizer": {"lr": 1e-2, "momentum": 0.9}, "progress": False, "device": "cpu"}
    train(network, KernelizedBottleneckOnline(), data, compiled=compiled, **options)
    found.append(list(network.parameters()))
assert not breaks, breaks
for one, other in zip(*found, strict=True):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
"""


FALLING = """
import copy, functools, torch
from infohebb import *
torch.compile = functools.partial(torch.compile, backend="eager")
torch.manual_seed(0)
drawn, stats, found = MLP(6, 3, (8,), divisive_norm={"groups": 2}), torch._dynamo.utils.counters["stats"], []
data = (torch.randn(12, 6), torch.arange(12) % 3)
options = {"epochs": 6, "batch": 1, "progress": False, "device": "cpu", "factor": 0.5}
options |= {"factor_every": 5, "powers": [[1, 0.9], [3, 0.8]], "optimizer": {"lr": 0.1, "momentum": 0.9}}
for compiled in (False, True):
    network = copy.deepcopy(drawn)
    train(network, KernelizedBottleneckOnline(), data, compiled=compiled, **options)
    found.append(list(network.parameters()))
assert 0 < stats["unique_graphs"] < 10, stats
for one, other, first in zip(*found, drawn.parameters(), strict=True):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert not torch.equal(one, first)
"""


def test_rates_that_change_often_change_in_a_compiled_training_and_need_no_code_of_their_own(tmp_path):
    process = start(FALLING, tmp_path)
    _, err = process.communicate()
    assert process.returncode == 0, err


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's own compiler needs a C++ compiler")
def test_a_stream_learns_in_one_graph(tmp_path):
    process = start(IN_ONE_GRAPH, tmp_path)
    _, err = process.communicate()
    assert process.returncode == 0, err


NO_COMPILER = """
import infohebb, torch
from infohebb import *
network, data = MLP(6, 3, (8,)), (torch.randn(20, 6), torch.arange(20) % 3)
try:
    train(network, KernelizedBottleneckOnline(), data, batch=1, epochs=1, compiled=True, device="cpu", progress=False)
except infohebb.errors.MismatchError as error:
    print(error)
"""


def test_compiled_steps_want_a_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    out, err = start(NO_COMPILER, tmp_path).communicate()
    assert "torch finds no C++ compiler" in out, err


DROPOUT = """
import torch
from infohebb.functional.dropout import dropout
from infohebb.training.compiling import SAME_DRAWS
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
