"""Compiled steps: the same bits but for rounding, one graph, and no compilation from step to step.

In processes of their own: the shape checks of the tests cannot be compiled.
"""

import pytest

from processes import start

pytestmark = pytest.mark.slow

SHARED = """
import copy, functools, warnings
import torch
from torch import nn
from torch._dynamo.utils import counters
from infohebb import *
from infohebb.errors import LabelError, MismatchError
from infohebb.networks.plain import MLP, ConvNet, LeakyMLP, stack_networks
warnings.simplefilter("error")
torch.set_default_dtype(torch.float64)

def graphs():
    return counters["stats"]["unique_graphs"]

def trained(model, rule, steps, compiled, optimizer=torch.optim.SGD, options=None, hold=1, **given):
    torch.manual_seed(0)
    learner = Learner(copy.deepcopy(model), rule(), **given)
    if compiled:
        learner.compile(backend="aot_eager")
    stepped = optimizer(learner.param_groups(), **(options or {"lr": 0.05, "momentum": 0.9}))
    step = learner.make_step(stepped)
    for x, y in steps:
        for again in range(hold):
            last = step(x, y, **({"onset": again == 0} if hold > 1 else {}))
    assert not compiled or not learner._compilation.failed
    return learner, last

def compared(name, model, rule, steps, **options):
    plain, last = trained(model, rule, steps, False, **options)
    before = graphs()
    compiled, other = trained(model, rule, steps, True, **options)
    assert graphs() > before, name
    for (key, one), two in zip(plain.state_dict().items(), compiled.state_dict().values(), strict=True):
        exact = one.dtype != torch.float32
        near = {"rtol": 1e-9, "atol": 1e-12} if exact else {"rtol": 1e-4, "atol": 1e-6}
        torch.testing.assert_close(one, two, **near, msg=lambda text: f"{name}, {key}: {text}")
    torch.testing.assert_close(last.loss, other.loss)
    torch.testing.assert_close(last.logits, other.logits)
    assert last.terms.keys() == other.terms.keys() and last.waiting == other.waiting, name

def refused(kind, words, call):
    try:
        call()
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)
"""

SAME = (
    SHARED
    + """
torch.manual_seed(1)
images = [(torch.randn(m, 2, 8, 8), torch.arange(m) % 3) for m in (6, 6, 6, 4, 6, 6)]
conv = ConvNet((2, 8, 8), 3, (8, 4), (1,), (12,), norm="batch", divisive_norm={"groups": 4}, dropout=0.2)
for name, rule in (
    ("kernelized bottleneck", lambda: KernelizedBottleneck("cosine")),
    ("layer-wise", lambda: LayerwiseClassification(projection=16)),
    ("last layer", LastLayer),
    ("backprop", Backprop),
):
    compared(name, conv, rule, images)
adamw = {"optimizer": torch.optim.AdamW, "options": {"lr": 1e-2, "weight_decay": 0.1}}
compared("adamw", conv, lambda: KernelizedBottleneck("gaussian"), images, **adamw)
rmsprop = {"optimizer": torch.optim.RMSprop, "options": {"lr": 1e-3}}
compared("an optimizer that stays apart", conv, lambda: KernelizedBottleneck("gaussian"), images, **rmsprop)

windows = [(x, y) for x, y in zip(torch.randn(9, 4, 6), torch.arange(36).view(9, 4) % 3)]
normed = MLP(6, 3, (8, 6), "relu", norm="layer", bias=True)
leaky = stack_networks([LeakyMLP(6, 3, (8, 4), slots=4) for _ in range(2)])
compared("window", normed, HSICMemory, windows, **adamw)
compared("window, objective", normed, lambda: HSICMemory("pub", objective=True), windows)
compared("stale", normed, lambda: HSICMemory(memory="stale"), windows)
compared("leaky, stacked", leaky, HSICMemory, windows, hold=2, **adamw)
compared("stacked", stack_networks([normed, copy.deepcopy(normed)]), HSICBottleneck, windows)

for activation in ("tanh", "relu", "identity"):  # code of one learner is not another's
    compared(activation, MLP(6, 3, (8, 8), activation), lambda: KernelizedBottleneck("cosine"), windows)

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in "ab"])
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        for block in self.blocks:
            x = x + block(x)
        return self.fc(self.norm(x))

units = {"units": ["stem", "blocks.*"], "head": ["norm", "fc"]}
compared("a module of one's own", Own(), lambda: KernelizedBottleneck("cosine"), windows, **units)

class Tokens(nn.Module):  # the last row of a product is not the last sample
    def __init__(self, first):
        super().__init__()
        self.unit, self.fc = nn.Sequential(first, nn.Linear(6, 8), nn.ReLU()), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(self.unit(x[:, None] * torch.ones(5, 1)).mean(1))

class Numbered(nn.Module):
    def forward(self, x):
        return x * torch.arange(1.0, 6.0)[:, None]

class Mixing(nn.Module):
    def forward(self, x):
        return x - x.mean(0)

units = {"units": "unit", "head": "fc"}
compared("a window of tokens", Tokens(Numbered()), HSICMemory, windows, **units)
for mixer in (Mixing(), nn.LayerNorm((4, 8))):
    mixing = nn.Sequential(nn.Sequential(nn.Linear(6, 8), mixer, nn.ReLU()), nn.Linear(8, 3))
    compared(f"a window whose samples are mixed by {mixer}", mixing, HSICMemory, windows, units="0", head="1")

torch.set_default_dtype(torch.float32)  # torch loses changes of single float64 numbers in compiled code
stimuli = [(x, y) for x, y in zip(torch.randn(9, 1, 6), torch.arange(9).view(9, 1) % 3)]
grouped = MLP(6, 3, (8, 8), divisive_norm={"groups": 2}, dropout=0.2)
for form in ("two_point", "trace", "eligibility"):
    compared(form, grouped, lambda: KernelizedBottleneckOnline(form), stimuli, hold=2)

"""
)

COUNTED = (
    SHARED
    + """
torch.manual_seed(1)
images = [(torch.randn(16, 2, 8, 8), torch.arange(16) % 3) for _ in range(12)]
for alpha in ("selu", "relu"):
    model = ConvNet((2, 8, 8), 3, (8, 4), (1,), (12,), nonlinearity=alpha, divisive_norm={"groups": 4}, dropout=0.1)
    learner = Learner(model, KernelizedBottleneck("cosine"))
    learner.compile(backend="aot_eager")
    step = learner.make_step(torch.optim.SGD(learner.param_groups(), lr=0.01, momentum=0.9))
    for x, y in images[:4]:
        step(x, y)
    made = graphs()
    for x, y in images[4:]:
        step(x, y)
    assert graphs() == made, (made, graphs())
"""
)

FALLS_BACK = (
    SHARED
    + """
warnings.simplefilter("always")

class AsksForNumbers(KernelizedBottleneck):
    def error(self, z, signal, context, unit):
        found = super().error(z, signal, context, unit)
        return found if float(found.error.abs().max()) > 0 else None

x, y = torch.randn(8, 6), torch.arange(8) % 3
normed = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 3))
for model, rule in ((MLP(6, 3, (8,)), AsksForNumbers), (normed, KernelizedBottleneck)):
    learner = Learner(model, rule())
    learner.backward(x, y)
    want = [p.grad.clone() for p in learner.parameters()]
    learner.compile(backend="aot_eager")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            learner.zero_grad()
            learner.backward(x, y)
    assert sum("cannot be compiled as one graph" in str(each.message) for each in caught) == 1, caught
    for one, two in zip(learner.parameters(), want, strict=True):
        torch.testing.assert_close(one.grad, two)

learner = Learner(MLP(6, 3, (8, 8)), KernelizedBottleneckOnline())
learner.compile(backend="aot_eager")
with warnings.catch_warnings(record=True) as caught:
    for _ in range(3):
        learner.zero_grad()
        learner.backward(x[:1], y[:1])
assert "loses changes of single float64 numbers" in str(caught[-1].message) and learner.rule.teaching.stimuli == 3

learner = Learner(MLP(6, 3, (8, 8)), KernelizedBottleneck("gaussian"))
learner.compile(backend="aot_eager")
for frozen in (False, True, False):
    learner.model.layers[0].requires_grad_(not frozen)
    for _ in range(2):
        learner.zero_grad()
        learner.backward(x, y)
    assert [p.grad is None for p in learner.model.layers[0].parameters()] == [frozen]
for bad, words in ((y + 2, "labels run from 2 to 4"), (y[:3], "8 inputs but 3 targets")):
    learner.zero_grad()
    refused((LabelError, MismatchError), words, lambda: learner.backward(x, bad))
assert all("forward" not in vars(module) for module in learner.modules())
"""
)


CHANGES_BETWEEN = (
    SHARED
    + """
torch.manual_seed(1)
x, y = torch.randn(8, 6), torch.arange(8) % 3

# Compiled steps leave the weights that plain ones do, whatever changes.
def kept(model, rule, change, steps=6, dtype=None, options={"lr": 0.05, "momentum": 0.9}, **given):
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        learner = Learner(copy.deepcopy(model), rule(), **given)
        if compiled:
            learner.compile(backend="aot_eager")
        optimizer = torch.optim.SGD(learner.param_groups(), **options)
        step = learner.make_step(optimizer)
        for number in range(steps):
            if number == 3:
                change(learner, optimizer)
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                step(x[:given_rows], y[:given_rows])
        assert not compiled or not learner._compilation.failed
        found.append(learner.state_dict())
    near = {"rtol": 1e-4, "atol": 1e-6} if dtype is None else {"rtol": 2**-6, "atol": 1e-3}  # bf16: 8 bits
    for key, one in found[0].items():
        torch.testing.assert_close(one, found[1][key], **near, msg=lambda text: f"{key}: {text}")

def without_dropout(learner, optimizer):
    for module in learner.model.modules():
        if type(module).__name__ == "Dropout":
            module.eval()

def without_momentum(learner, optimizer):
    state = copy.deepcopy(optimizer.state_dict())
    for each in state["state"].values():
        each["momentum_buffer"].zero_()
    optimizer.load_state_dict(state)

def momentum(learner, optimizer):
    for group in optimizer.param_groups:
        group["momentum"] = 0.9

def fresh_buffers(learner, optimizer):
    for state in optimizer.state.values():
        state["momentum_buffer"] = torch.zeros_like(state["momentum_buffer"])

def clear(learner, optimizer):
    optimizer.state.clear()

def other_activation(learner, optimizer):
    learner.model.activation = torch.tanh

def emptied(learner, optimizer):
    learner.rule.layers[0]._buffers.clear()
    learner.rule.layers[1]._buffers.clear()
    learner.rule.remembered._buffers.clear()

class Chooses(nn.Module):
    def __init__(self):
        super().__init__()
        self.unit, self.fc, self.activation = nn.Linear(6, 8), nn.Linear(8, 3), torch.relu

    def forward(self, x):
        return self.fc(self.activation(self.unit(x)))

class Backwards(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.unit = nn.Linear(8, 3), nn.LayerNorm(8), nn.Linear(6, 8)

    def forward(self, x):
        return self.fc(input=self.norm(self.unit(x).relu()))

torch.set_default_dtype(torch.float32)
x = x.float()
nothing = lambda learner, optimizer: None
given_rows = 8
kernelized = lambda: KernelizedBottleneck("gaussian")
kept(MLP(6, 3, (8, 8), dropout=0.3), kernelized, without_dropout)
for change in (without_momentum, fresh_buffers, clear):
    kept(MLP(6, 3, (8, 8)), kernelized, change)
kept(MLP(6, 3, (8, 8)), kernelized, momentum, options={"lr": 0.05})
kept(Chooses(), kernelized, other_activation, units=["unit"], head="fc")
kept(MLP(6, 3, (8, 8), norm="layer"), lambda: HSICMemory(memory="stale"), emptied, steps=24)
kept(Backwards(), kernelized, nothing, units=["unit"], head=["fc", "norm"])
kept(MLP(6, 3, (8, 8)), kernelized, nothing, dtype=torch.bfloat16)
given_rows = 1
normed = MLP(6, 3, (8, 8), divisive_norm={"groups": 2})
kept(normed, KernelizedBottleneckOnline, nothing, dtype=torch.bfloat16)

for rule, rows in ((KernelizedBottleneck, 8), (KernelizedBottleneckOnline, 1)):
    learner = Learner(MLP(6, 3, (8, 8)), rule())
    learner.compile(backend="aot_eager")
    for number in range(6):
        if number == 3:  # a mask of the gradient, which compiled code would not call: steps are plain from now on
            weight = learner.model.layers[1].activity.linear.weight
            weight.register_hook(lambda gradient: 0 * gradient)
        learner.zero_grad()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            learner.backward(x[:rows], y[:rows])
        assert any("has a hook on its gradient" in str(each.message) for each in caught) == (number == 3), caught
        assert number < 3 or not weight.grad.any()

for rule in (Backprop, LastLayer):  # inputs that were the targets once are not for ever
    learner = Learner(MLP(6, 6, (8,)), rule())
    learner.compile(backend="aot_eager")
    for targets in (x, x, x, 2 * x):
        learner.zero_grad()
        loss = learner.backward(x, targets).loss
        torch.testing.assert_close(loss, ((learner.model(x) - targets) ** 2).mean())

learner = Learner(MLP(6, 3, (6, 6)), KernelizedBottleneck("cosine"))
learner.compile(backend="aot_eager")
weights = [layer.activity.linear.weight for layer in learner.model.layers]
step = learner.make_step(torch.optim.SGD([weights[0]], lr=0.1, momentum=0.9))
step(x, y)
refused(MismatchError, "holds a gradient from before", lambda: step(x, y))
learner.zero_grad()
learner.model.layers[1].activity.linear.weight = weights[0]
refused(MismatchError, "is shared by", lambda: step(x, y))
"""
)


SCRIPTS = {"same numbers": SAME, "compilations": COUNTED, "fallback": FALLS_BACK, "changes": CHANGES_BETWEEN}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_compiled_steps(script, tmp_path):
    process = start(script, tmp_path)
    _, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
