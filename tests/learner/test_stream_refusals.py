"""What rules of streams are refused for by name: units, networks, samples and settings that do not fit them."""

import pytest
import torch
from torch import nn

from infohebb import (
    Backprop,
    HSICBottleneck,
    HSICMemory,
    KernelizedBottleneck,
    KernelizedBottleneckOnline,
    LastLayer,
    Learner,
    networks,
)
from infohebb.errors import GroupingError, MismatchError
from infohebb.networks.plain import MLP, ConvNet, LeakyMLP, stack_networks
from learner.stream_cases import (
    CLASSES,
    LABELS,
    MAPS,
    NORM,
    NUMBERS,
    ONLINE,
    RESERVOIR,
    SLOTS,
    X,
    gradients_of,
    of_torch,
    online,
    stream,
)


def sequential(*after, width=8):
    """A unit of a Linear and what follows it, and a head."""
    return nn.Sequential(nn.Sequential(nn.Linear(6, 8), *after), nn.Linear(width, CLASSES)).double()


class Doubles(nn.Linear):
    """A Linear with a forward of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


class Twice(nn.Module):
    """Calls its only unit twice."""

    def __init__(self):
        super().__init__()
        self.unit, self.out = nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.out(self.unit(self.unit(x)))


def learn_online(model, **settings):
    """Two steps of the online rule, given to what `settings` name."""
    of_rule = {key: settings.pop(key) for key in ("form", "groups", "power") if key in settings}
    return gradients_of(Learner(model, online(**of_rule), **settings), stream(ONLINE["two points"], 2)[::2])


def learn_window(model, memory="recompute", source="computed", samples=SLOTS, inputs=X, targets=LABELS, **settings):
    """One step of HSICMemory, given to what `settings` name."""
    rule = HSICMemory(memory=memory, **(RESERVOIR if source == "reservoir" else {}))
    return Learner(model, rule, **settings).backward(inputs[:samples], targets[:samples])


def plain(make=MLP, **settings):
    return make(6, CLASSES, (8,), **settings).double()


def stacked(make=MLP):
    return stack_networks([plain(make) for _ in range(2)])


ON_MAPS = {"inputs": MAPS, "units": "3:5", "example": MAPS}
REFUSED = {
    # the online rule: a unit is one Linear and an elementwise activation
    "convolution": (lambda: learn_online(ConvNet((1, 2, 3), CLASSES, (4,), (), ()).double()), "no Linear and a Conv2d"),
    "batch norm": (lambda: learn_online(plain(norm="batch")), "holds 1 Linear and a BatchNorm1d; it learns from"),
    "layer norm": (lambda: learn_online(plain(norm="layer")), "holds 1 Linear and a LayerNorm"),
    "norm without weights": (lambda: learn_online(sequential(nn.BatchNorm1d(8, affine=False))), "and a BatchNorm1d"),
    "two layers": (lambda: learn_online(sequential(nn.Tanh(), nn.Linear(8, 8))), "unit 0 holds 2 Linear; it learns"),
    "PReLU": (lambda: learn_online(sequential(nn.PReLU())), "holds 1 Linear and a PReLU"),
    "softmax": (lambda: learn_online(sequential(nn.Softmax(1))), "in unit 0 an activity depends on other neurons"),
    "GLU": (lambda: learn_online(sequential(nn.GLU(), width=4)), "an activity depends on other neurons"),
    "winner takes all": (lambda: learn_online(sequential(Function(lambda a: a * (a == a.max())))), "on other neurons"),
    "neighbours": (lambda: learn_online(sequential(Function(lambda a: a + 0.1 * a.roll(1, 1)))), "on other neurons"),
    "no derivative": (lambda: learn_online(sequential(Function(lambda a: a.detach()))), "unit 0 has no activity, or"),
    "own forward": (lambda: learn_online(nn.Sequential(Doubles(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()), "Doubles"),
    "weight norm": (lambda: learn_online(weight_normed()), "unit 0:2 holds 1 Linear and a ParametrizationList"),
    "sequences": (lambda: learn_online(sequential(nn.Tanh()), example=(5, 6), head=False, classes=3), r"\(8, 5\)"),
    "twice": (lambda: learn_online(Twice().double(), units="unit"), "unit unit was called twice in one step"),
    "form for groups": (lambda: learn_online(plain(**NORM), form="mean_activity"), "layers.0 is grouped, .*'trace'"),
    "form without": (lambda: learn_online(plain(), form="trace"), "layers.0 has no groups, .*'mean_activity'"),
    "other groups": (lambda: learn_online(plain(**NORM), groups=2), "leave them out of the rule"),
    "groups do not fit": (lambda: learn_online(plain(), groups=3), "3 groups do not cut a layer of 8 neurons"),
    "no classes": (lambda: learn_online(sequential(nn.Tanh()), head=False), "needs the number of classes: give"),
    "two samples": (lambda: Learner(plain(), online()).backward(X[:2], LABELS[:2]), "2 samples at once: the online"),
    "numbers": (lambda: Learner(plain(), online()).backward(X[:1], NUMBERS[:1]), "targets are numbers, .*class labels"),
    # windows
    "batch norm of a window": (lambda: learn_window(plain(norm="batch")), "norm is a BatchNorm1d, which a current"),
    "dropout of a window": (lambda: learn_window(plain(dropout=0.1)), "dropout is a Dropout, which a current sample"),
    "torch's dropout": (lambda: learn_window(sequential(nn.Dropout(0.1))), "0.1 is a Dropout, which a current sample"),
    "held, of another length": (lambda: hold_another_window(), "a window of 3 samples is held .* last one had 4: p"),
    "sigma of a stream": (lambda: change_sigma(), r"sigma was 0\.5 when the Learner was made and is 1\.0: what is"),
    "window of one": (lambda: learn_window(plain(), samples=1), "a window of one sample remembers none"),
    "no outputs": (lambda: learn_window(sequential(nn.Tanh()), head=False), "needs the number of outputs: give"),
    "stale slots": (lambda: learn_window(plain(LeakyMLP), "stale"), r"memory 'stale' .* slots = 1, not 10"),
    "stale head": (lambda: learn_window(sequential(nn.Tanh()), "stale", units="0.0", head=["0.1", "1"]), "single nn.L"),
    "stale, scaled": (lambda: learn_window(Scaled().double(), "stale", units="unit"), "whose output the network"),
    "stale, twice": (lambda: learn_window(Twice().double(), "stale", units="unit"), "keeps something of each step"),
    "reservoir, maps": (lambda: learn_window(ConvNet((2, 6, 6), 3, (4,), (), ()), source="reservoir"), "rows of num"),
    "reservoir, leak": (lambda: learn_window(plain(LeakyMLP), source="reservoir"), "a LeakyMLP, which has leak; take"),
    "reservoir, stacked": (lambda: learn_window(stacked(), source="reservoir"), "does not train stacked networks"),
    "reservoir, window": (lambda: learn_window(plain(), source="reservoir", samples=5), "a window of 5 samples for"),
    "reservoir, numbers": (lambda: learn_window(plain(), source="reservoir", targets=NUMBERS), "targets are numbers"),
    "reservoir, stem": (lambda: learn_window(stemmed(), source="reservoir", **ON_MAPS), "72 numbers, and .* takes 36"),
    "slots": (lambda: learn_window(plain(LeakyMLP, slots=3)), "a window of 4 samples for a network of 3 slots"),
    "eval mode": (lambda: learn_window(plain(LeakyMLP, slots=4).eval()), r"is in eval mode, .*model.train\(\)"),
    # rules and networks that do not fit
    "batches of one": (lambda: Learner(plain(), LastLayer()).backward(X, LABELS, onset=False), "batches, which"),
    "loss of one": (lambda: Learner(plain(), Backprop())(X, LABELS, onset=False), "onset=False: Backprop learns"),
    **{f"{rule.__name__}, leak": (lambda rule=rule: Learner(plain(LeakyMLP), rule()), f"{rule.__name__} does not lea")
       for rule in (KernelizedBottleneck, KernelizedBottleneckOnline, HSICBottleneck, Backprop, LastLayer)},
    **{f"{rule.__name__}, stacked": (lambda rule=rule: Learner(stacked(), rule()), f"{rule.__name__} trains one ne")
       for rule in (KernelizedBottleneck, KernelizedBottleneckOnline, Backprop)},
    "a settling network": (lambda: Learner(networks.PredictiveCodingNetwork(6, 3, (4,)), online()), "Network settles"),
    "a record of several": (lambda: Learner(stacked(), HSICMemory()).record(X[:4], LABELS[:4]), "a record is of one"),
    "what stands for a Linear": (lambda: gives(pre=X[:1, :5]), r"0 is given pre \(1, 5\) and error \(1, 8\)"),
    "twice the same": (lambda: gives(times=2), "0 is given gradients twice in one step; give all of its rows at once"),
}  # fmt: skip


def hold_another_window():
    learner = Learner(plain(), HSICMemory())
    learner.backward(X[:4], LABELS[:4])
    learner.zero_grad()
    learner.backward(X[:3], LABELS[:3], onset=False)


def change_sigma():
    learner = Learner(plain(), online())
    learner.rule.sigma = 1.0
    learner.backward(X[:1], LABELS[:1])


def weight_normed():
    model = of_torch()
    nn.utils.parametrizations.weight_norm(model[0])
    return model.double()


def stemmed():
    """Maps that a frozen convolution makes, and a Linear of fewer numbers than a sample has."""
    model = nn.Sequential(
        nn.Conv2d(2, 1, 1), nn.Tanh(), nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, CLASSES)
    )
    model[0].requires_grad_(False)
    return model.double()


class Scaled(nn.Module):
    """Returns half of what its head gives."""

    def __init__(self):
        super().__init__()
        self.unit, self.out = nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.out(self.unit(x)) / 2


def gives(times=1, **changed):
    """One step of a rule that gives a layer other rows than it should, or gives them several times."""

    class Gives(KernelizedBottleneckOnline):
        def backward(self, walk, inputs, targets):
            for _ in range(times):
                walk.give("0", **{"pre": inputs, "error": torch.ones(1, 8, dtype=inputs.dtype), **changed})

    Learner(of_torch().double(), Gives()).backward(X[:1], LABELS[:1])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_by_name(name):
    step, message = REFUSED[name]
    torch.manual_seed(0)
    with pytest.raises((MismatchError, GroupingError), match=message) as caught:
        step()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300
