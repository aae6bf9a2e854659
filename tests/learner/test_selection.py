"""Which units and head a user's names, patterns, types and modules stand for; and what is refused by name."""

import pytest
import torch
from torch import nn

from infohebb import (
    Backprop,
    HSICBottleneck,
    KernelizedBottleneck,
    LastLayer,
    LayerwiseClassification,
    Learner,
    LocalError,
    LocalRule,
    suggest_units,
)
from infohebb.errors import EmptyBatchError, GroupingError, LabelError, MismatchError, UsageError
from infohebb.networks import plain
from learner.nets import Basic, ResNet, gradients, images, rows, sequential


class Zero(LocalRule):
    """No error at all."""

    def error(self, z, signal, context, unit):
        return LocalError(None, torch.zeros_like(z), torch.zeros_like(z), {"objective": z.new_zeros(())})


def names(model, units=None, head=None):
    learner = Learner(model, Zero(), units=units, head=head)
    return [unit.name for unit in learner.units], list(learner.head)


BLOCKS = ["stem", "layers.0", "layers.1", "layers.2"]


@pytest.mark.parametrize(
    "units",
    [
        BLOCKS,
        ["stem", "layers.*"],
        ["*", "layers.*"],
        lambda model: ["stem", Basic],
        lambda model: [model.stem, *model.layers],
        lambda model: [model.stem, "layers.0", model.layers[1], "layers.2"],
        lambda model: suggest_units(model),
    ],
)
def test_units_by_name_pattern_type_and_module(units):
    model = ResNet()
    if units == ["*", "layers.*"]:  # * stands for `layers` too, which lies around the others
        with pytest.raises(MismatchError, match=r"unit layers\.0 lies inside unit layers; name one of them, not both"):
            names(model, units)
        return
    assert names(model, units(model) if callable(units) else units) == (BLOCKS, ["fc"])


def test_units_of_a_sequential_begin_with_each_weight_layer():
    layers = [nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1)]
    layers += [nn.Flatten(), nn.Linear(36, 8), plain.DivisiveNorm(2), nn.Tanh(), Basic(1, 2), nn.Linear(8, 10)]
    model = nn.Sequential(*layers)
    assert names(model) == (["0", "1:5", "7", "10"], ["11"])
    assert suggest_units(model) == ["0", "1:5", "7", "10"]
    learner = Learner(model, Zero())
    assert [unit.divisive_norm is model[8] for unit in learner.units] == [False, False, True, False]


def test_runs_of_children_by_slice():
    model = sequential()
    assert names(model, ["0:2", "2:4"]) == (["0:2", "2:4"], ["4"])
    assert names(model, [model[0:2], model[2:4]]) == (["0:2", "2:4"], ["4"])
    nested = nn.ModuleDict({"body": sequential(), "head": nn.Linear(10, 3)})
    assert names(nested, ["body.0:2", "body.2:"])[0] == ["body.0:2", "body.2:5"]


def test_an_activation_that_several_units_share():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(64, 16), relu, nn.Linear(16, 16), relu, nn.Linear(16, 10))
    assert names(model) == (["0:2", "2:4"], ["4"])
    assert names(model, [model[0:2], model[2:4]])[0] == ["0:2", "2:4"]
    apart = nn.Sequential(model[0], nn.ReLU(), model[2], nn.ReLU(), model[4])
    found = []
    for each in (model, apart):
        each.zero_grad()
        Learner(each, KernelizedBottleneck()).backward(*rows(dtype=torch.float32))
        found.append(gradients(each))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_networks_of_ours_name_their_own_units():
    model = plain.ConvNet((1, 8, 8), 10, (8, 8), (2,), (16,), divisive_norm={"groups": 4})
    assert names(model) == (["layers.0", "layers.1", "layers.2"], ["readout"])
    learner = Learner(model, LayerwiseClassification(projection=16))
    assert [unit.shape for unit in learner.units] == [(8, 8, 8), (8, 4, 4), (16,)]
    assert all(isinstance(unit.divisive_norm, plain.DivisiveNorm) for unit in learner.units)


def test_an_example_shows_shapes_norms_and_classes():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.unit, self.norm = nn.Linear(64, 16), plain.DivisiveNorm(4, power=0.3)
            self.out = nn.Conv1d(16, 10, 1)

        def forward(self, x):
            return self.out(self.norm(self.unit(x))[..., None])[..., 0]

    model, state = Normed().train(), torch.get_rng_state()
    learner = Learner(model, KernelizedBottleneck(), units="unit", head="out", example=torch.zeros(3, 64))
    assert learner.units[0].shape == (16,)
    assert learner.units[0].divisive_norm is model.norm
    assert learner.classes == 10
    assert model.norm.training
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(MismatchError, match="a divisive norm follows unit unit"):
        Learner(model, KernelizedBottleneck(), units="unit", head="out", classes=10).backward(
            *rows(dtype=torch.float32)
        )


class RootParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.unit, self.fc, self.pos = nn.Linear(64, 16), nn.Linear(16, 10), nn.Parameter(torch.zeros(16))

    def forward(self, x):
        return self.fc(self.unit(x) + self.pos)


REFUSED = {
    "no units": (
        ResNet,
        {},
        r"give the units of this ResNet, for example units=\['stem', 'layers\.\*'\]",
    ),
    "unknown name": (ResNet, {"units": ["stm"]}, r"unknown unit 'stm'; did you mean 'stem'\?"),
    "unknown pattern": (ResNet, {"units": ["blocks.*"]}, r"unknown unit 'blocks\.\*'"),
    "unknown head": (ResNet, {"units": BLOCKS, "head": "fcc"}, r"unknown head 'fcc'; did you mean 'fc'\?"),
    "nested units": (ResNet, {"units": [*BLOCKS, "layers.1.convs.0"]}, "lies inside unit layers.1; name one"),
    "head inside a unit": (
        ResNet,
        {"units": BLOCKS, "head": "layers.2.convs.3"},
        "the head .* lies inside unit layers",
    ),
    "unit inside the head": (ResNet, {"units": ["stem"], "head": ["layers"]}, "no unit holds fc.weight"),
    "unit is the head": (ResNet, {"units": [*BLOCKS, "fc"]}, "unit fc lies inside the head fc"),
    "missing parameters": (ResNet, {"units": ["stem", "layers.0"]}, r"no unit holds layers\.1\..* and \d+ more; add"),
    "a parameter of the model": (RootParameter, {"units": ["unit"]}, "pos is a parameter of the model itself"),
    "no parameters": (sequential, {"units": ["1"]}, "unit '1' has no parameters to train"),
    "no unit at all": (ResNet, {"units": []}, r"units=\[\] names no unit"),
    "a slice of no sequence": (ResNet, {"units": ["layers.0:2"]}, "only an nn.Sequential has runs of children"),
    "a foreign module": (ResNet, {"units": [nn.Linear(1, 1)]}, "this Linear is no submodule of the ResNet"),
    "another type": (ResNet, {"units": [nn.LSTM]}, "ResNet has no LSTM"),
    "bad classes": (ResNet, {"units": BLOCKS, "classes": 0}, "classes=0: give a whole number"),
    "activity of no unit": (ResNet, {"units": BLOCKS, "activity": {"fc": len}}, "unknown unit 'fc'; known: layers.0"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_by_name(what):
    make, options, message = REFUSED[what]
    with pytest.raises(UsageError, match=message) as caught:
        Learner(make(), Zero(), **options)
    assert len(str(caught.value)) <= 300


def test_shared_weights_are_refused_by_name():
    model = sequential()
    model[2].weight = nn.Parameter(torch.zeros(16, 16))
    model.append(nn.Linear(10, 10))
    model[4].weight, model[5].weight = model[5].weight, model[4].weight
    model[5].weight = model[4].weight
    with pytest.raises(MismatchError, match=r"4\.weight is shared by unit 4 and the head; a weight learns"):
        Learner(model, Zero())


MODELS = {
    "DataParallel": (nn.DataParallel, r"wrapped in DataParallel; give the model itself, and wrap the learner"),
    "a compiled model": (
        lambda m: torch.compile(m, backend="eager"),
        r"compiled as a whole.*call learner\.compile\(\)",
    ),
    "a lazy layer": (lambda m: nn.Sequential(nn.LazyLinear(3), m), "lazy layers without a shape"),
}


@pytest.mark.parametrize("what", MODELS)
def test_models_that_hooks_cannot_reach_are_refused_by_name(what):
    change, message = MODELS[what]
    with pytest.raises(MismatchError, match=message):
        Learner(change(sequential()), Zero())


def test_a_model_compiled_in_place_is_refused_by_name():
    model = sequential()
    model[0].compile(backend="eager")
    with pytest.raises(MismatchError, match=r"submodule 0 is compiled; give the plain module"):
        Learner(model, Zero())


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (KernelizedBottleneck(sigma=0.0), "sigma 0.0: give a width above 0"),
        (KernelizedBottleneck(groups=5), r"0:2: 5 groups do not cut a layer of 16 neurons"),
        (KernelizedBottleneck(kernel="gausian"), "unknown kernel 'gausian'; did you mean 'gaussian'"),
        (KernelizedBottleneck(power=0.5), "0:2 has no groups for power and delta to act on"),
        (HSICBottleneck(sigma_z=-1.0), "sigma_z -1.0: give a width above 0"),
        (LayerwiseClassification(), "needs the shape of unit 0:2's activity: give Learner"),
    ],
    ids=str,
)
def test_rules_that_do_not_fit_are_refused_by_name(rule, message):
    example = None if isinstance(rule, LayerwiseClassification) else (64,)
    with pytest.raises(UsageError, match=message):
        Learner(sequential(), rule, example=example)


def test_what_is_of_another_type_is_refused_by_name(python):
    """In a process of its own: here a wrong type is stopped before it arrives."""
    code = """
import torch
from torch import nn
import infohebb
from infohebb import Backprop, KernelizedBottleneck, Learner
net, x, y = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), torch.randn(6, 4), torch.tensor([0, 1] * 3)
learner = Learner(net, KernelizedBottleneck())
class Old(infohebb.rules.TransportRule):
    def feedback_weight(self, position, layer):
        return layer.weight
tries = [
    lambda: Learner(net, KernelizedBottleneck),
    lambda: Learner(net, Old()),
    lambda: Learner(net, None),
    lambda: Learner(net.state_dict(), KernelizedBottleneck()),
    lambda: Learner(net, KernelizedBottleneck(), units=[3]),
    lambda: Learner(net, Backprop(loss="hinge")),
    lambda: learner.backward(x, y.tolist()),
    lambda: learner.param_groups(units=True),
]
for call in tries:
    try:
        call()
    except infohebb.errors.UsageError as error:
        print(error)
"""
    answer = python(code)
    assert answer.status == 0, answer.err
    wanted = [
        "rule=KernelizedBottleneck is a class; give an instance",
        "Old does not work with a Learner",
        "NoneType does not work with a Learner",
        "give a torch.nn.Module",
        "3 is no name, pattern, module type or module",
        "unknown loss 'hinge'",
        "targets are a list; give a tensor",
        "units=True: give a learning rate",
    ]
    for line, part in zip(answer.out.splitlines(), wanted, strict=True):
        assert part in line
        assert len(line) <= 300


class Leaks(nn.Module):
    """Keeps what its first unit computed inside, and uses it in the second."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.fc = Keeps(), nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(self.first(x) + self.second(x[:, :16]))


class Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.kept = nn.Linear(64, 16), None

    def forward(self, x):
        self.kept = self.linear(x)
        return torch.tanh(self.kept)


class UsesKept(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.fc = Keeps(), UsesLinear(), nn.Linear(16, 10)

    def forward(self, x):
        z = self.first(x)
        return self.fc(self.second(z + 0, self.first))


class UsesLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, z, first):
        return torch.relu(self.linear(z)) + first.kept


class NoGradient(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 16)

    @torch.no_grad()
    def forward(self, x):
        return self.linear(x)


class Skips(nn.Module):
    def __init__(self, returns="logits"):
        super().__init__()
        self.used, self.unused, self.fc, self.returns = nn.Linear(64, 16), nn.Linear(64, 16), nn.Linear(16, 10), returns

    def forward(self, x):
        logits = self.fc(self.used(x))
        return {"logits": logits} if self.returns == "dict" else logits if self.returns == "logits" else logits[0]


class HeadFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.late = nn.Linear(64, 10), nn.Linear(10, 10)

    def forward(self, x):
        return self.late(self.fc(x))


STEPS = {
    "a feature kept on self": (UsesKept, ["first", "second"], "the graph of second reaches first.linear.weight"),
    "a unit that needs no gradient": (
        lambda: nn.Sequential(NoGradient(), nn.Linear(16, 10)),
        None,
        "the output of 0 needs no gradient, though it has parameters to train",
    ),
    "a unit that is not called": (Skips, ["used", "unused"], "unit unused was not called by the model's forward"),
    "a dictionary": (lambda: Skips("dict"), ["used"], r"the model returned a dict, not logits; give output="),
    "one sample's logits": (lambda: Skips("one"), ["used"], r"the model returned \(10,\) for a batch of 24"),
    "a unit after the head": (HeadFirst, ["late"], "unit late was called after the head fc"),
}


@pytest.mark.parametrize("what", STEPS)
def test_a_step_that_cannot_be_names_the_place(what):
    make, units, message = STEPS[what]
    model, (x, y) = make(), rows(dtype=torch.float32)
    if units == ["used"]:
        model.unused.requires_grad_(False)
    head = "fc" if hasattr(model, "fc") else None
    learner = Learner(model, Zero(), units=units, head=head)
    with pytest.raises(MismatchError, match=message) as caught:
        learner.backward(x, y)
    assert len(str(caught.value)) <= 300
    assert not [hook for m in model.modules() for hook in (*m._forward_hooks, *m._forward_pre_hooks)]
    assert torch.is_grad_enabled()


BATCHES = {
    "half-precision inputs": (lambda x, y: (x.half(), y), MismatchError, r"inputs are torch\.float16, the model's"),
    "double inputs": (lambda x, y: (x.double(), y), MismatchError, r"give x\.to\(torch\.float32\)"),
    "no samples": (lambda x, y: (x[:0], y[:0]), EmptyBatchError, "empty batch"),
    "labels out of range": (
        lambda x, y: (x, y + 1),
        LabelError,
        "labels run from 1 to 10, but the readout has classes",
    ),
    "labels of a column": (lambda x, y: (x, y[:, None]), LabelError, "give one int64 class index per sample"),
    "numbers of another size": (lambda x, y: (x, torch.zeros(24, 3)), MismatchError, r"continuous targets \(24, 3\)"),
    "fewer targets": (lambda x, y: (x, y[:3]), MismatchError, "24 inputs but 3 targets"),
    "no tensor": (lambda x, y: (x.tolist(), y), MismatchError, "inputs are a list without tensors"),
    "a vector": (lambda x, y: (x[:, 0], y), MismatchError, r"inputs have shape \(24,\); give \(samples, features\)"),
}


@pytest.mark.parametrize("what", BATCHES)
def test_batches_that_cannot_be_learned_from_are_refused(what):
    change, kind, message = BATCHES[what]
    with pytest.raises(kind, match=message):
        Learner(sequential(), KernelizedBottleneck()).backward(*change(*rows(dtype=torch.float32)))


def test_inference_mode_is_refused_by_name():
    with torch.inference_mode(), pytest.raises(MismatchError, match=r"leave torch\.inference_mode"):
        Learner(sequential(), KernelizedBottleneck()).backward(*rows(dtype=torch.float32))


def test_predictions_are_the_models():
    with pytest.raises(MismatchError, match=r"for predictions call learner\.model\(inputs\)"):
        Learner(sequential(), KernelizedBottleneck())(rows(dtype=torch.float32)[0])


def test_groups_that_do_not_fit_an_unknown_shape_are_named_at_the_first_step():
    learner = Learner(ResNet(), KernelizedBottleneck(groups=3), units=BLOCKS)
    with pytest.raises(GroupingError, match=r"stem: 3 groups do not cut"):
        learner.backward(*images(dtype=torch.float32))


def test_an_error_of_another_shape_names_rule_and_unit():
    class Wrong(LocalRule):
        def error(self, z, signal, context, unit):
            return LocalError(None, z, z[:, :3], {})

    with pytest.raises(MismatchError, match=r"Wrong gave unit 0:2 an error of shape \(24, 3\) for an activity of"):
        Learner(sequential(), Wrong()).backward(*rows(dtype=torch.float32))


def roles(groups):
    return {group["role"]: ({key: v for key, v in group.items() if key not in ("params", "role")}, len(group["params"]))
            for group in groups}  # fmt: skip


def test_parameter_groups_by_role_list_and_pattern():
    learner = Learner(ResNet(), LayerwiseClassification(projection=16), units=BLOCKS, example=(1, 8, 8))
    assert roles(learner.param_groups(units=1e-3, head={"lr": 0.1, "weight_decay": 0.0}, rule=1.0)) == {
        "units": ({"lr": 1e-3}, 23),
        "head": ({"lr": 0.1, "weight_decay": 0.0}, 2),
        "rule": ({"lr": 1.0}, 8),
    }
    assert roles(learner.param_groups(units=[1.0, 2.0, 3.0, {"lr": 4.0}]))["units.3"] == ({"lr": 4.0}, 6)
    found = roles(learner.param_groups(units=1.0, **{"**.bias": {"weight_decay": 0.0}, "layers.1": 0.5}))
    assert found["units **.bias"] == ({"lr": 1.0, "weight_decay": 0.0}, 6)
    assert found["units layers.1"] == ({"lr": 0.5}, 7)
    assert found["head **.bias"] == ({"weight_decay": 0.0}, 1)
    optimizer = torch.optim.AdamW(learner.param_groups(units=1e-3, head=1e-2, rule=1e-2))
    assert len({id(p) for group in optimizer.param_groups for p in group["params"]}) == 33


def test_units_and_head_mean_the_same_for_every_rule():
    for rule in (KernelizedBottleneck(), Backprop(), HSICBottleneck()):
        learner = Learner(ResNet(), rule, units=BLOCKS)
        assert {name: count for name, (_, count) in roles(learner.param_groups(units=1.0, head=1.0)).items()} == {
            "units": 23,
            "head": 2,
        }
    whole = Learner(ResNet(), Backprop())  # needs no units
    assert roles(whole.param_groups(units=1.0, head=1.0))["units"][1] == 23
    assert "units" not in roles(Learner(ResNet(), LastLayer()).param_groups(units=1.0, head=1.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"unit": 1.0}, "unknown role or parameter 'unit'; did you mean 'units'"),
        ({"units": -1.0}, "units=-1.0: give a learning rate of at least 0"),
        ({"units": [1.0, 2.0]}, "units: 2 values for 4 units"),
        ({"**.gain": 1.0}, r"unknown role or parameter '\*\*\.gain'"),
    ],
)
def test_parameter_groups_that_cannot_be_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        Learner(ResNet(), KernelizedBottleneck(), units=BLOCKS).param_groups(**values)


def test_a_rule_that_changes_gradients_must_be_bound():
    class Signs(Zero):
        def before_step(self, parameters):
            for parameter in parameters:
                parameter.grad.sign_()

    (x, y), learner = rows(dtype=torch.float32), Learner(sequential(), Signs())
    with pytest.raises(MismatchError, match=r"Signs changes gradients before the optimizer's step: call learner\.bind"):
        learner.backward(x, y)
    optimizer = learner.bind(torch.optim.SGD(learner.param_groups(units=1.0, head=1.0)))
    learner.backward(x, y)
    optimizer.step()
    assert gradients(learner)["model.4.weight"].unique().tolist() == [-1.0, 1.0]
