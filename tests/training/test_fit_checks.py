"""What fit refuses, in one line that names the argument and a fix, and what it stops at."""

import numpy as np
import pytest
import torch
from fit_toys import arrays, learner, own_learner, sequential, weights
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import infohebb
from infohebb.callbacks import Checkpoint
from infohebb.errors import (
    EmptyBatchError,
    LabelError,
    MismatchError,
    NonFiniteDataError,
    NonFiniteLossError,
    UsageError,
    WrongTypeError,
)

X, Y = arrays()


def fit(learner, train=(X, Y), validation=None, **options):
    return infohebb.fit(learner, train, validation, **{"epochs": 1, "batch": 20, "progress": False, **options})


REFUSED = {
    "epochs": ({"epochs": 0}, WrongTypeError, "epochs=0: give a whole number of at least 1"),
    "check_every": ({"check_every": 0}, WrongTypeError, "check_every=0"),
    "clip_norm": ({"clip_norm": -1.0}, WrongTypeError, "clip_norm=-1.0: give a number above 0"),
    "class of a callback": ({"callbacks": [Checkpoint]}, WrongTypeError, "Checkpoint is a class; give an instance"),
    "dictionary": ({"train": [{"x": X, "y": Y}]}, MismatchError, "a dict of 2, not a pair .*give fit unpack="),
    "three parts": ({"train": [(X, Y, Y)]}, MismatchError, "a tuple of 3, not a pair .*unpack="),
    "list of arrays": ({"train": [X, Y]}, MismatchError, "a Tensor, not a pair"),
    "unpack of nothing": ({"train": [(X, Y)], "unpack": lambda b: None}, MismatchError, "gave a NoneType, not a pair"),
    "four arrays": ({"train": (X, Y, X, Y)}, MismatchError, "train has four parts; give fit"),
    "three arrays": ({"train": (X, Y, X)}, MismatchError, "train is a tuple of 3 arrays; give"),
    "a Dataset": ({"train": TensorDataset(X, Y)}, MismatchError, "goes in a DataLoader"),
    "an iterator": ({"train": iter([(X, Y)]), "epochs": 2}, MismatchError, "train is an iterator.*a DataLoader"),
    "no batches": ({"train": []}, EmptyBatchError, "the loader gave no batches"),
    "lengths": ({"train": (X, Y[:-1])}, MismatchError, "60 inputs and 59 targets"),
    "label": ({"train": (X, Y + 1)}, LabelError, "label 2; with 2 classes"),
    "labels one-hot": ({"train": [(X, torch.eye(2).long()[Y])]}, LabelError, "one label per sample"),
    "NaN in a loader": ({"train": [(X * torch.nan, Y)]}, NonFiniteDataError, "NaN or infinity in a batch"),
    "empty batch": ({"train": [(X[:0], Y[:0])]}, EmptyBatchError, "empty batch"),
    "no samples": ({"train": (X[:0], Y[:0])}, EmptyBatchError, "no samples"),
    "lengths in a loader": ({"train": [(X, Y[:4])]}, MismatchError, "60 inputs but 4 targets"),
    "numbers of another width": ({"train": (X, torch.rand(60, 3))}, MismatchError, r"continuous targets \(20, 3\)"),
    "label in a loader": ({"train": [(X, Y * 2)]}, LabelError, "labels run from 0 to 2.* a network of 3 outputs"),
    "negative label": ({"train": (X, Y - 1)}, LabelError, "label -1"),
    "negative label in a loader": ({"train": [(X, Y - 1)]}, LabelError, "labels run from -1 to 0"),
    "complex": ({"train": (X.to(torch.complex64), Y)}, UsageError, "complex"),
    "words": ({"train": (np.array([["a"]] * 60), Y)}, UsageError, "not numbers"),
    "NaN in arrays": ({"train": (X * torch.nan, Y)}, NonFiniteDataError, "inputs of train contain NaN"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_one_line(name):
    options, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words) as caught:
        fit(learner(), **options)
    assert len(str(caught.value)) <= 300
    assert "\n" not in str(caught.value)


def test_optimizers_that_do_not_fit_are_refused():
    one, other = learner(infohebb.LastLayer()), learner()
    with pytest.raises(MismatchError, match="holds 8 parameters that the learner does not have"):
        fit(one, optimizer=torch.optim.SGD(other.model.parameters(), lr=0.1))
    with pytest.raises(MismatchError, match="holds none of the parameters that the rule trains"):
        fit(one, optimizer=torch.optim.SGD(one.model[0].parameters(), lr=0.1))
    layerwise = infohebb.Learner(sequential(), infohebb.LayerwiseClassification(), example=X)
    with pytest.raises(MismatchError, match=r"lacks rule\..*, which the rule owns"):
        fit(layerwise, optimizer=torch.optim.SGD(layerwise.model.parameters(), lr=0.1))


def test_schedulers_that_do_not_fit_are_refused():
    one = learner()
    optimizer, other = (torch.optim.SGD(one.param_groups(), lr=0.1) for _ in range(2))
    with pytest.raises(MismatchError, match="another optimizer"):
        fit(one, optimizer=optimizer, scheduler=torch.optim.lr_scheduler.StepLR(other, 1))
    with pytest.raises(MismatchError, match="ReduceLROnPlateau needs a loss per epoch"):
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        fit(one, optimizer=optimizer, scheduler=plateau, scheduler_per="step")


def test_one_sample_left_for_batch_norm_is_one_line():
    with pytest.raises(MismatchError, match="a batch of 1 sample, too few for batch norm"):
        fit(learner(), arrays(61))


class Idle(nn.Module):
    """A unit with a layer that its forward does not use."""

    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return torch.relu(self.used(x))


def idle_learner():
    torch.manual_seed(0)
    model = nn.Sequential(Idle(), nn.Linear(8, 2))
    return infohebb.Learner(model, infohebb.KernelizedBottleneck(), units=["0"], head="1")


def test_a_parameter_without_gradient_warns_at_once_and_stops_after_the_checkpoint(tmp_path):
    one = idle_learner()
    with (
        pytest.warns(UserWarning, match=r"model\.0\.idle\.weight, model\.0\.idle\.bias got no gradient in the first"),
        pytest.raises(MismatchError, match=r"model\.0\.idle\.weight.* got no gradient in an epoch"),
    ):
        fit(one, callbacks=Checkpoint(tmp_path), epochs=3)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch0001"]


def test_a_gradient_in_some_steps_of_an_epoch_is_enough():
    class Sometimes(Idle):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) if self.calls < 3 else torch.relu(self.idle(x))

    one = infohebb.Learner(nn.Sequential(Sometimes(), nn.Linear(8, 2)), infohebb.KernelizedBottleneck(), ["0"], "1")
    with pytest.warns(UserWarning, match="got no gradient in the first step"):
        fit(one)


def test_frozen_parameters_need_no_gradient():
    one = idle_learner()
    one.model[0].idle.requires_grad_(False)
    fit(one)


@pytest.mark.parametrize(("options", "step"), [({}, 3), ({"check_every": 1}, 1)])
def test_what_is_not_finite_stops_with_unit_and_step(tmp_path, options, step):
    one = own_learner()
    checkpoint = Checkpoint(tmp_path)
    optimizer = torch.optim.SGD(one.param_groups(), lr=1e-3)
    fit(one, optimizer=optimizer, callbacks=[checkpoint])
    good = (tmp_path / "epoch0001" / "network.safetensors").read_bytes()
    with torch.no_grad():
        one.model.body.weight.fill_(torch.nan)
    with pytest.raises(NonFiniteLossError, match=rf"epoch 2, step {step + 3}: the objective of unit body"):
        fit(one, optimizer=optimizer, epochs=2, callbacks=[checkpoint], **options)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch0001"]
    assert (tmp_path / "epoch0001" / "network.safetensors").read_bytes() == good


def test_a_weight_that_becomes_infinite_in_the_last_step_is_named():
    one = own_learner()
    optimizer = torch.optim.SGD([{"params": one.model.stem.parameters(), "lr": 1e38}, *one.param_groups()[1:]], lr=1e38)
    with pytest.warns(UserWarning, match="lacks"), pytest.raises(NonFiniteLossError, match="not finite"):
        fit(one, optimizer=optimizer, train=[(X * 1e4, Y)])


def test_a_callback_that_fails_leaves_the_error_alone():
    ended = []

    class Ends(infohebb.callbacks.Callback):
        def on_fit_end(self, state):
            ended.append(state.failed)

    def fails(state):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fit(learner(), callbacks=[Ends(), fails])
    fit(learner(), callbacks=[Ends()])
    assert ended == [True, False]


def test_the_loader_is_not_asked_for_a_batch_it_does_not_train_on():
    asked = []

    class Counting(TensorDataset):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    one = learner()
    fit(one, DataLoader(Counting(X, Y), 20))
    assert len(asked) == 60
    assert weights(one)


def test_no_data_is_a_usage_error():
    with pytest.raises(UsageError):
        fit(learner(), None)
