"""Checkpoint: whole or not at all, and a fit goes on from it to the same bits, after SIGKILL too."""

import json
import time

import pytest
import torch
from fit_toys import arrays, learner, own_learner, same, weights
from safetensors.torch import load_file
from torch.utils.data import DataLoader, TensorDataset

import infohebb
from infohebb.callbacks import Callback, Checkpoint, EarlyStopping
from infohebb.errors import CheckpointError, CorruptFileError

# Each run is forked three times from one process: whole, killed by SIGKILL in its third epoch, and gone on with. The
# weights of the first two depend on dropout, momentum, a scheduler and a shuffled DataLoader with a generator of its
# own, and they draw from NumPy and Python too, as augmentations may; the others end epochs in the midst of a pass.
KILLED = """
import os, random, signal, sys, traceback
import numpy, torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, TensorDataset
from infohebb import *
from infohebb.callbacks import Callback, Checkpoint, EarlyStopping
from infohebb.networks.plain import MLP, LeakyMLP, stack_networks
from infohebb.training import Checkpoints

drawn = []

class Draws(Callback):
    def on_epoch_end(self, state):
        drawn.append((random.random(), numpy.random.rand()))

def fitted(folder, x, y, model, rule, selection=None, **rates):
    learner = Learner(model, rule, **(selection or {}))
    optimizer = torch.optim.SGD(learner.param_groups(**rates), momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    loader = DataLoader(TensorDataset(x, y), 20, shuffle=True, generator=torch.Generator().manual_seed(4))
    callbacks = [Checkpoint(folder), EarlyStopping(9), Draws()]
    history = fit(learner, loader, (x, y), epochs=4, optimizer=optimizer, scheduler=scheduler, callbacks=callbacks)
    return model, rule, history

def trained(folder, x, y, model, rule, seed=0, **options):
    optimizer = {"name": "adam", "lr": 0.01}
    options = {"epochs": 4, "optimizer": optimizer, "checkpoints": Checkpoints(folder), "progress": False, **options}
    history = train(model, rule, (x, y, x, y), seed=seed, **options)
    return model, rule, history

def leaky(seed):
    torch.manual_seed(seed)
    return LeakyMLP(8, 2, (6, 5), slots=4, steps=4)

class Residual(torch.nn.Sequential):
    def forward(self, x):
        return x + torch.relu(super().forward(x))

class ResNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.stem = nn.Sequential(nn.Unflatten(1, (1, 2, 4)), nn.Conv2d(1, 6, 3, padding=1), nn.ReLU())
        self.blocks = nn.ModuleList(
            Residual(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)) for _ in range(2))
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))

RUNS = {  # the step at which it is killed, and what it does
    "KernelizedBottleneck": (8, lambda *given: fitted(
        *given, MLP(8, 2, (16, 16), norm="batch", divisive_norm={"groups": 4}, dropout=0.3), KernelizedBottleneck(),
        units=0.1, head=0.01)),
    "FeedbackAlignment of a ResNet": (8, lambda *given: fitted(  # whose matrices are drawn by the rule
        *given, ResNet(), FeedbackAlignment(), {"units": ["stem", "blocks.*"], "head": "fc"}, units=0.1, head=0.01)),
    "CorInfoMax": (8, lambda *given: fitted(  # whose inverse correlations are buffers, and which draws signs
        *given, CorInfoMaxNetwork(8, 2, (16,), entropy_gain=0.01), CorInfoMax(forgetting=0.99),
        forward=[0.1, 0.07], feedback=0.02)),
    "KernelizedBottleneckOnline": (70, lambda *given: trained(
        *given, MLP(8, 2, (8, 8), divisive_norm={"groups": 2}), KernelizedBottleneckOnline("eligibility"), batch=1,
        epoch_samples=25, factor_every=7, factor=0.9)),
    "HSICMemory, recompute": (17, lambda *given: trained(
        *given, MLP(8, 2, (6, 5)), HSICMemory(objective=True), batch=4, epoch_samples=7, order="balanced",
        milestones=[1, 3], powers=[[2, 0.9]])),
    "HSICMemory, stale": (17, lambda *given: trained(
        *given, MLP(8, 2, (6, 5)), HSICMemory(memory="stale"), batch=4, epoch_samples=7, seed=None)),
    "HSICMemory, stacked leaky networks": (17, lambda *given: trained(
        *given, stack_networks([leaky(1), leaky(2)]), HSICMemory(), batch=4, epoch_samples=4, steps_per_sample=2)),
}

def ends(run, folder, out, kill_at=None, seed=3):
    steps = []
    def count(*_):
        steps.append(1)
        if len(steps) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    register_optimizer_step_post_hook(count)
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(seed), numpy.random.seed(seed), random.seed(seed)
    model, rule, history = run(folder, x, (x[:, 0] > 0).long())
    del history["seconds"]
    torch.save([model.state_dict(), rule.state_dict(), history, drawn[-1:]], out)

def forked(*given, **options):
    child = os.fork()
    if child == 0:
        try:
            ends(*given, **options)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]

for number, (name, (kill_at, run)) in enumerate(RUNS.items()):
    whole, killed = f"whole{number}", f"killed{number}"
    assert forked(run, whole, whole + ".pt") == 0, name
    assert forked(run, killed, "none.pt", kill_at=kill_at) == signal.SIGKILL, name
    assert os.listdir(killed) == ["epoch0002"], name
    os.mkdir(killed + "/.epoch0003.1.part")
    assert forked(run, killed, killed + ".pt", seed=99) == 0, name
    assert os.listdir(killed) == ["epoch0004"], name
    one, other = (torch.load(file + ".pt", weights_only=True) for file in (whole, killed))
    assert one[2:] == other[2:], (name, one[2:], other[2:])
    for before, after in zip(one[:2], other[:2]):
        assert before.keys() == after.keys(), name
        for key, value in before.items():
            assert torch.equal(value, after[key]), (name, key)
print("all", len(RUNS))
"""


def test_a_killed_training_ends_with_the_bits_of_one_that_was_not(python):
    answer = python(KILLED)
    assert answer.status == 0, answer.err
    assert answer.out.endswith("all 7\n")


class StoppedError(Exception):
    """A fit is interrupted."""


def crash_after(step):
    class Crash(Callback):
        def on_step_end(self, state):
            if state.step == step:
                raise StoppedError

    return Crash()


def go(folder, epochs=4, make=learner, crash=None, callbacks=(), optimizer=None, **options):
    one = make()
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(one.param_groups(units=1e-2, head=1e-2)) if optimizer is None else optimizer(one)
    called = [
        *callbacks,
        *([Checkpoint(folder, **options)] if folder else []),
        *([crash_after(crash)] if crash else []),
    ]
    history = infohebb.fit(
        one, arrays(), arrays(), epochs=epochs, batch=20, optimizer=optimizer, callbacks=called, progress=False
    )
    del history["seconds"]
    return weights(one), history


def test_resumed_and_raised_epochs_end_where_a_longer_fit_does(tmp_path):
    whole = go(None, 5)
    go(tmp_path, 2)
    with pytest.raises(StoppedError):
        go(tmp_path, 4, crash=8)
    resumed = go(tmp_path, 5)
    assert same(resumed[0], whole[0])
    assert resumed[1] == whole[1]


def test_a_rules_own_weights_come_back(tmp_path):
    def make():
        torch.manual_seed(int(time.monotonic_ns() % 1000))  # another process draws other feedback
        example = torch.zeros(2, 8)
        return infohebb.Learner(own_learner().model, infohebb.DirectFeedbackAlignment(), ["stem", "body"], "fc",
                                example=example)  # fmt: skip

    first, _ = go(tmp_path, 1, make)
    second, _ = go(tmp_path, 1, make)
    assert same(first, second)
    assert any(name.startswith("rule.") for name in first)


def test_every_and_keep_say_which_checkpoints_stay(tmp_path):
    go(tmp_path, 7, every=2, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch0006", "epoch0007"]


def test_keeping_more_than_there_are_keeps_all(tmp_path):
    go(tmp_path, 4, keep=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"epoch000{k}" for k in range(1, 5)]


def test_nothing_of_the_users_in_the_folder_is_touched_or_taken_for_a_checkpoint(tmp_path):
    folders = ["epochs", "epoch_1", "epoch1", "epoch0000.old", "epochal", ".epoch.part", ".epoch_1.2.part"]
    files = ["epoch.txt", "epoch0000", "epoch0001.safetensors", "config.json", ".epoch0001.7.part"]
    for name in folders:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    for name in files:
        (tmp_path / name).write_text("mine")
    go(tmp_path, 2)
    go(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*folders, *files, "epoch0003"])
    assert all((tmp_path / name / "mine").read_text() == "mine" for name in folders)
    assert all((tmp_path / name).read_text() == "mine" for name in files)


def test_early_stopping_goes_on_counting(tmp_path):
    def stopping():
        return [EarlyStopping(1, "train_loss", mode="max")]  # it falls, so that the second epoch is one too many

    whole = go(None, 6, callbacks=stopping())
    with pytest.raises(StoppedError):
        go(tmp_path, 6, callbacks=stopping(), crash=4)
    resumed = go(tmp_path, 6, callbacks=stopping())
    assert whole[1] == resumed[1]
    assert same(whole[0], resumed[0])
    again = go(tmp_path, 6, callbacks=stopping())  # it has stopped
    assert same(again[0], whole[0])
    assert again[1] == whole[1]


def sgd(one):
    return torch.optim.SGD(one.param_groups(), lr=0.1)


def slower(one):
    return torch.optim.Adam(one.param_groups(units=1e-3, head=1e-2))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"make": own_learner}, r"another model: model\.name was Sequential and is Own"),
        ({"make": lambda: learner(infohebb.HSICBottleneck())}, r"rule\.name was KernelizedBottleneck and is HSICBott"),
        ({"make": lambda: learner(infohebb.KernelizedBottleneck(gamma=3.0))}, r"rule\.gamma was 2\.0 and is 3\.0"),
        ({"optimizer": sgd}, r"optimizer\.name was Adam and is SGD"),
        ({"optimizer": slower}, r"optimizer\.groups\.0\.lr was 0\.01 and is 0\.001"),
        ({"config": {"a": 1}}, r"config\.a was None and is 1"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_by_name(tmp_path, options, words):
    go(tmp_path, 1)
    with pytest.raises(CheckpointError, match=words) as caught:
        go(tmp_path, 2, **options)
    assert str(caught.value).endswith("; choose another folder, or delete it")


def grouped(groups):
    return learner(infohebb.KernelizedBottleneck("cosine", groups=groups))


def of_units(*units):
    return infohebb.Learner(own_learner().model, infohebb.KernelizedBottleneck(), units=list(units), head="fc")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (lambda: grouped(4), lambda: grouped(8), r"rule\.\S* was .*4.* and is .*8"),
        (lambda: of_units("stem", "body"), lambda: of_units("body", "stem"), r"another units: units"),
    ],
    ids=["groups", "units"],
)
def test_a_checkpoint_of_other_groups_or_units_is_refused_by_name(tmp_path, before, after, words):
    go(tmp_path, 1, before, optimizer=sgd)
    with pytest.raises(CheckpointError, match=words):
        go(tmp_path, 2, after, optimizer=sgd)


@pytest.mark.parametrize("file", ["network.safetensors", "state.pt", "config.json", "checksums.json"])
def test_a_damaged_file_is_one_line_and_loads_nothing(tmp_path, file):
    go(tmp_path, 1)
    path = tmp_path / "epoch0001" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    one = learner()
    before = weights(one)
    optimizer = torch.optim.Adam(one.param_groups(units=1e-2, head=1e-2))
    with pytest.raises((CorruptFileError, CheckpointError), match="delete"):
        infohebb.fit(one, arrays(), epochs=2, batch=20, optimizer=optimizer, callbacks=[Checkpoint(tmp_path)])
    assert same(weights(one), before)


def test_an_optimizer_state_of_another_shape_is_refused(tmp_path):
    """torch's fused Adam would write past its end."""
    import hashlib

    go(tmp_path, 1)
    folder = tmp_path / "epoch0001"
    state = torch.load(folder / "state.pt", weights_only=True)
    for each in state["optimizer"]["state"].values():
        each["exp_avg"] = torch.zeros(1)
    torch.save(state, folder / "state.pt")
    sums = json.loads((folder / "checksums.json").read_text())
    sums["state.pt"] = hashlib.sha256((folder / "state.pt").read_bytes()).hexdigest()
    (folder / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(CorruptFileError, match=r"exp_avg has shape \(1,\)"):
        go(tmp_path, 2)


def test_in_one_process_a_second_fit_goes_on_at_the_rates_left(tmp_path):
    one = learner()
    optimizer = torch.optim.SGD(one.param_groups(units=0.1, head=0.1), momentum=0.9)
    options = {"batch": 20, "optimizer": optimizer, "progress": False}
    infohebb.fit(one, arrays(), epochs=1, callbacks=[Checkpoint(tmp_path)], **options)
    optimizer.param_groups[0]["lr"] = 0.01
    before = weights(one)
    with torch.no_grad():
        one.model[0].bias.add_(1)
    history = infohebb.fit(one, arrays(), epochs=2, callbacks=[Checkpoint(tmp_path)], **options)
    assert history["epoch"] == [1, 2]
    assert history["learning_rate"]["units"] == [0.1, 0.01]
    assert float((one.model[0].bias.detach() - before["model.0.bias"]).mean()) > 0.5


def test_weights_can_be_loaded_alone(tmp_path):
    first, _ = go(tmp_path, 1)
    one = learner()
    Checkpoint(tmp_path).load_weights(one)
    assert same(weights(one), first)


def test_tied_weights_are_kept(tmp_path):
    one = own_learner()
    one.model.stem.twin = one.model.stem.weight
    optimizer = torch.optim.SGD(one.param_groups(), lr=0.1)
    loader = DataLoader(TensorDataset(*arrays()), 20)
    infohebb.fit(one, loader, epochs=1, optimizer=optimizer, callbacks=[Checkpoint(tmp_path)], progress=False)
    written = load_file(tmp_path / "epoch0001" / "network.safetensors")
    assert torch.equal(written["stem.twin"], one.model.stem.weight)
