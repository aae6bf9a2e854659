"""What once went wrong without a word: each is honoured now, or refused by name."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from infohebb import (
    Backprop,
    DirectFeedbackAlignment,
    HSICBottleneck,
    KernelizedBottleneck,
    LayerwiseClassification,
    Learner,
)
from infohebb.errors import MismatchError
from infohebb.learner.selection import as_expression
from infohebb.networks import plain
from learner.nets import rows, sequential
from learner.test_steps import Square


class NormAfter(nn.Module):
    """A unit, an operation in place on what it returns or not, and a divisive norm."""

    def __init__(self, change):
        super().__init__()
        self.unit, self.norm, self.fc, self.change = nn.Linear(64, 16), plain.DivisiveNorm(4), nn.Linear(16, 10), change

    def forward(self, x):
        return self.fc(self.norm(self.change(self.unit(x))))


CHANGES = {"relu_": torch.relu_, "add_": lambda z: z.add_(x_of(z)), "mul": lambda z: z * 2, "none": lambda z: z}


def x_of(z):
    return torch.ones_like(z)


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_gives_the_logits_of_the_models_own_forward(change):
    torch.manual_seed(0)
    model, (x, y) = NormAfter(CHANGES[change]).double(), rows()
    learner = Learner(model, KernelizedBottleneck(groups=4, power=0.8), units="unit", example=(64,))
    assert (learner.units[0].divisive_norm is None) == (change != "none")
    torch.testing.assert_close(learner.backward(x, y).logits, model(x).detach(), rtol=1e-12, atol=1e-12)


def test_a_norm_follows_what_a_unit_returns_not_what_is_picked():
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(64, 16), plain.DivisiveNorm(4), nn.Linear(16, 10)).double(), rows()
    learner = Learner(model, KernelizedBottleneck(), activity={"*": torch.relu})
    torch.testing.assert_close(learner.backward(x, y).logits, model(x).detach(), rtol=1e-12, atol=1e-12)


def test_a_run_must_begin_and_end_at_modules_of_its_own():
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(64, 16), act, nn.Linear(16, 16), act, nn.Linear(16, 10))
    with pytest.raises(MismatchError, match="unit 0:4 holds the same ReLU twice"):
        Learner(model, Square(), units=["0:4"])


def test_a_unit_whose_last_module_is_skipped_is_named():
    class Skips(nn.Sequential):
        def forward(self, x):
            return self[3](self[0](x))

    model = Skips(nn.Linear(64, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 10))
    with pytest.raises(MismatchError, match="unit 0:2 began, but its last module 1 was not called"):
        Learner(model, Square(), units=["0:2"]).backward(*rows(dtype=torch.float32))


def test_recording_leaves_the_random_state_and_takes_pruned_models():
    model, (x, y) = nn.Sequential(nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 10)), rows(dtype=torch.float32)
    prune.random_unstructured(model[0], "weight", 0.3)
    learner = Learner(model, Square())
    learner.backward(x, y)
    state = torch.get_rng_state()
    assert learner.record(x, y).keys() == {"0", "2"}
    assert torch.equal(torch.get_rng_state(), state)


def test_a_rule_with_tensors_of_its_own_serves_one_learner():
    rule, (x, y) = LayerwiseClassification(), rows(dtype=torch.float32)
    first = Learner(sequential(), rule, example=(64,))
    second = Learner(sequential(), rule, example=(64,))
    with pytest.raises(MismatchError, match="this LayerwiseClassification was given to another model since"):
        first.backward(x, y)
    second.backward(x, y)
    copy.deepcopy(second).backward(x, y, accumulate=True)


def test_backprop_hands_out_all_that_it_trains():
    class Extended(plain.MLP):
        def __init__(self):
            super().__init__(64, 10, (16,))
            self.extra = nn.Linear(64, 64)

        def forward(self, inputs):
            return super().forward(self.extra(inputs))

    learner, (x, y) = Learner(Extended(), Backprop()), rows(dtype=torch.float32)
    learner.backward(x, y)
    handed = {id(p) for group in learner.param_groups(units=1.0, head=1.0) for p in group["params"]}
    assert handed == {id(p) for p in learner.model.parameters() if p.grad is not None}


def test_without_a_head_there_are_no_logits():
    model, (x, y) = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh()), rows(dtype=torch.float32)
    step = Learner(model, KernelizedBottleneck(), head=False, classes=10).backward(x.view(-1, 1, 8, 8), y)
    assert (step.loss, step.logits, step.correct) == (None, None, None)


def test_a_unit_called_twice_draws_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.unit = nn.Sequential(nn.Linear(64, 64), plain.Dropout(0.5))
            self.fc, self.seen = nn.Linear(64, 10), []

        def forward(self, x):
            self.seen = [self.unit(x), self.unit(x)]
            return self.fc(self.seen[0])

    learner = Learner(Twice(), Square(), units="unit")
    learner.backward(*rows(dtype=torch.float32))
    one, two = ((each == 0).nonzero().tolist() for each in learner.model.seen)
    assert one != two


def test_a_frozen_unit_leaves_its_classifier_learning():
    learner = Learner(sequential(), LayerwiseClassification(), example=(64,))
    learner.model[0].requires_grad_(False)
    learner.backward(*rows(dtype=torch.float32))
    assert learner.model[0].weight.grad is None
    assert learner.rule.classifiers[0].weight.grad.abs().max() > 0


def test_direct_feedback_reaches_the_activity_that_is_picked():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 16)

        def forward(self, x):
            z = self.linear(x)
            return z[:, :4], torch.tanh(z)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.unit, self.fc = Pair(), nn.Linear(16, 10)

        def forward(self, x):
            return self.fc(self.unit(x)[1])

    options = {"units": "unit", "activity": {"unit": lambda out: out[1]}, "example": (64,)}
    learner = Learner(Model(), DirectFeedbackAlignment(), **options)
    learner.backward(*rows(dtype=torch.float32))
    assert learner.rule.feedback[0].shape == (10, 16)


def test_a_unit_that_changes_its_input_in_place_is_named():
    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 64)

        def forward(self, x):
            x += torch.tanh(self.linear(x))
            return x

    learner = Learner(nn.Sequential(Adds(), nn.Linear(64, 10)), Square())
    with pytest.raises(MismatchError, match="0 changes in place what its derivative needs"):
        learner.backward(*rows(dtype=torch.float32))


def test_classes_that_are_not_the_models_are_refused():
    with pytest.raises(MismatchError, match="classes=7, but the model gives 10 outputs"):
        Learner(sequential(), KernelizedBottleneck(), classes=7)


def test_rules_that_compare_inputs_take_one():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.unit, self.fc = nn.Linear(64, 16), nn.Linear(16, 10)

        def forward(self, x, gain):
            return self.fc(self.unit(x) * gain)

    (x, y), gain = rows(dtype=torch.float32), torch.ones(24, 1)
    for rule in (HSICBottleneck(), KernelizedBottleneck(objective="hsic_bottleneck")):
        with pytest.raises(MismatchError, match=r"compares the model's inputs, of which there are 2 tensors"):
            Learner(Two(), rule, units="unit").backward((x, gain), y)
    Learner(Two(), KernelizedBottleneck(), units="unit").backward({"gain": gain, "x": x}, y)


def test_two_stars_stand_for_any_number_of_names():
    bias = as_expression("**.bias")
    assert all(bias.fullmatch(name) for name in ("bias", "fc.bias", "layers.0.fc.bias"))
    assert not bias.fullmatch("fc.weight")
    assert as_expression("layers.**.weight").fullmatch("layers.weight")
    assert as_expression("layers.*.weight").fullmatch("layers.0.weight")
    assert not as_expression("layers.*.weight").fullmatch("layers.0.fc.weight")


def test_settings_are_in_a_rules_repr():
    assert repr(KernelizedBottleneck("cosine", groups=4)) == "KernelizedBottleneck(kernel='cosine', groups=4)"
