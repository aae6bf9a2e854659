"""Checkpoints of train: whole or not at all, never unpickled, and training goes on from them to the same bits."""

import errno
import hashlib
import json
import os
import shutil
import signal
import zipfile

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from training_toys import data, network, rule, same, weights

from infohebb import Backprop, load_network, train
from infohebb.errors import CheckpointError, CorruptFileError, MissingDataError, NoSpaceError
from infohebb.training import Checkpoints, Diagnose
from infohebb.training.checkpoint import drop_state, latest, load_weights, read_config, save_weights

NETWORK = {"dropout": 0.2, "norm": "batch"}  # random numbers and running averages have to come back too
FILES = ["checksums.json", "config.json", "network.safetensors", "rule.safetensors", "state.pt"]
OPTIMIZERS = {
    "sgd": {"name": "sgd", "lr": {"units": 0.5, "head": 0.05}, "momentum": 0.9},
    "adamw": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "sgd_then_decay": {"name": "sgd_then_decay", "lr": 0.1, "weight_decay": 0.1, "decay_follows_rate": False},
    "adam_epsilon_hat": {"name": "adam_epsilon_hat", "lr": 0.01, "weight_decay": {"units": [0.1, 0.2], "head": 0.0}},
}


class PowerFailureError(Exception):
    """The power fails."""


def go(folder=None, crash_at=None, config=None, groups=None, samples=60, **options):
    """Train for three steps an epoch; the power fails in the step of that number, counted from 0."""
    net, learning = network(**NETWORK), rule(groups=groups) if groups else rule()
    kept = Checkpoints(folder, {"a": 1} if config is None else config) if folder else None
    options = {"epochs": 4, "batch": 20, "milestones": [2], "optimizer": OPTIMIZERS["sgd"], **options}
    count = iter(range(100))

    def crash(*_):
        if next(count) == crash_at:
            raise PowerFailureError

    handle = register_optimizer_step_pre_hook(crash)
    try:
        curves = train(net, learning, data(samples), checkpoints=kept, progress=False, **options)
    finally:
        handle.remove()
    del curves["seconds"]
    return weights(net), curves


def write_state(folder, content):
    """Replace the state in a checkpoint by one of an attacker, who knows of checksums."""
    torch.save(content, folder / "state.pt")
    sums = json.loads((folder / "checksums.json").read_text())
    sums["state.pt"] = hashlib.sha256((folder / "state.pt").read_bytes()).hexdigest()
    (folder / "checksums.json").write_text(json.dumps(sums))


@pytest.mark.parametrize(
    "options",
    [
        *({"optimizer": optimizer} for optimizer in OPTIMIZERS.values()),
        {"milestones": [], "factor_every": 4, "factor": 0.5},
        {"powers": [[1, 0.9], [3, 0.8]]},
        {"diagnose": Diagnose(Backprop(), 2)},
    ],
    ids=[*OPTIMIZERS, "factor_every", "powers", "diagnose"],
)
def test_training_goes_on_to_the_same_bits(tmp_path, options):
    whole, curves = go(**options)
    with pytest.raises(PowerFailureError):
        go(tmp_path, crash_at=7, **options)  # third epoch, second batch
    assert [path.name for path in tmp_path.iterdir()] == ["epoch0002"]
    resumed, resumed_curves = go(tmp_path, crash_at=6, **options)  # only two epochs are left
    assert same(resumed, whole)
    assert resumed_curves == curves
    again, curves_again = go(tmp_path, crash_at=0, **options)  # a finished training is not run again
    assert same(again, whole)
    assert curves_again == curves


def test_of_a_training_its_newest_checkpoint_stays_with_what_made_it(tmp_path):
    final, _ = go(tmp_path, milestones=(2,))
    (folder,) = tmp_path.iterdir()
    assert folder.name == "epoch0004"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert same(load_file(folder / "network.safetensors"), final)
    assert load_file(folder / "rule.safetensors") == {}
    assert zipfile.is_zipfile(folder / "state.pt")
    config = read_config(tmp_path)
    assert config == read_config(folder)
    assert config["a"] == 1
    assert {"batch": 20, "milestones": [2], "precision": "fp32"}.items() <= config["settings"].items()
    loaded = network(**NETWORK)
    load_weights(tmp_path, loaded)
    assert same(weights(loaded), final)
    with pytest.raises(
        CheckpointError, match=r"is of infohebb\.train or fit: give load_network a network like the one"
    ):
        load_network(tmp_path)
    go(tmp_path, milestones=[2], epochs=5)  # a list for a tuple is the same


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 7}, r"another config: config\.settings\.batch was 20 and is 7"),
        ({"seed": 1}, r"config\.settings\.seed was 0 and is 1"),
        ({"milestones": []}, "is of another"),
        ({"powers": [[1, 0.9]]}, "is of another"),
        ({"precision": "bf16"}, r"config\.settings\.precision was fp32 and is bf16"),
        ({"samples": 100}, r"config\.settings\.data was \d+ and is \d+"),
        ({"config": {"a": 2}}, r"config\.a was 1 and is 2"),
        ({"groups": 4}, r"rule\.groups was None and is 4"),
        ({"order": "blocked"}, r"sampling\.order was random and is blocked"),
        ({"optimizer": OPTIMIZERS["adamw"]}, r"optimizer\.name was SGD and is AdamW"),
    ],
)
def test_another_training_does_not_go_on(tmp_path, options, words):
    go(tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match=words) as caught:
        go(tmp_path, **options)
    assert str(caught.value).endswith("; choose another folder, or delete it")
    assert [path.name for path in tmp_path.iterdir()] == ["epoch0001"]


def test_diagnosing_otherwise_goes_on_from_the_same_checkpoint(tmp_path):
    whole = go(epochs=3)
    go(tmp_path, epochs=1)
    _, curves = go(tmp_path, epochs=2, diagnose=Diagnose(Backprop()))
    assert curves["alignment"]["epoch"] == [2]
    again, curves = go(tmp_path, epochs=3, diagnose=Diagnose(Backprop(), 4))
    assert curves.pop("alignment")["epoch"] == [2]
    assert curves == whole[1]
    assert same(again, whole[0])


@pytest.mark.parametrize("where", ["torch.save", "os.fsync", "json.dumps"])
def test_a_crash_while_writing_leaves_the_earlier_checkpoint(tmp_path, monkeypatch, where):
    go(tmp_path, epochs=1)

    def crash(*_, **__):
        raise PowerFailureError

    with monkeypatch.context() as patch, pytest.raises(PowerFailureError):
        patch.setattr(where, crash)
        go(tmp_path, epochs=2)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch0001"]
    go(tmp_path, epochs=2, crash_at=3)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_the_earlier_checkpoint(tmp_path, monkeypatch, number):
    go(tmp_path, epochs=1)

    def full(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch, pytest.raises(NoSpaceError, match=f"no space left to write {tmp_path}"):
        patch.setattr(os, "fsync", full)
        go(tmp_path, epochs=2)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch0001"]
    go(tmp_path, epochs=2, crash_at=3)


def test_ctrl_c_in_the_midst_of_saving_leaves_a_whole_checkpoint_and_is_heard(tmp_path, monkeypatch):
    save = torch.save

    def interrupted(*given):
        os.kill(os.getpid(), signal.SIGINT)
        save(*given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch, "save", interrupted)
        go(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch0001"]
    go(tmp_path, epochs=1, crash_at=0)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_the_newest_of_several_checkpoints_counts(tmp_path):
    go(tmp_path, epochs=1)
    for name in ("epoch0003", "epoch10000"):
        shutil.copytree(tmp_path / "epoch0001", tmp_path / name)
    assert latest(tmp_path) == tmp_path / "epoch10000"


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_nothing_is_unpickled(tmp_path):
    go(tmp_path, epochs=1)
    write_state(tmp_path / "epoch0001", Hostile(tmp_path / "attacked"))
    with pytest.raises(CorruptFileError, match="epoch0001 is damaged; delete"):
        go(tmp_path)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 1, "random": {"torch": torch.zeros(3)}, "optimizer": {}}])
def test_a_state_that_lacks_its_parts_is_named(tmp_path, content):
    go(tmp_path, epochs=1)
    write_state(tmp_path / "epoch0001", content)
    with pytest.raises(CorruptFileError, match=r"epoch0001.* is damaged; delete"):
        go(tmp_path)


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named(tmp_path, file):
    go(tmp_path, epochs=1)
    path = tmp_path / "epoch0001" / file
    content = path.read_bytes()
    damages = {
        "gone": None,
        "empty": b"",
        "cut": content[: len(content) // 2],
        "noise": bytes(range(256)) * 20,
        "flipped": bytes([content[0] ^ 255]) + content[1:],
    }
    for damage in damages.values():
        path.unlink(missing_ok=True)
        if damage is not None:
            path.write_bytes(damage)
        with pytest.raises(CorruptFileError, match=rf"{path.parent}.*delete {path.parent} to start again"):
            go(tmp_path)


def test_where_only_weights_were_kept_training_starts_again(tmp_path):
    final, curves = go(tmp_path, epochs=1)
    drop_state(tmp_path)
    assert sorted(path.name for path in (tmp_path / "epoch0001").iterdir()) == FILES[1:4]
    assert read_config(tmp_path)["a"] == 1
    again, curves_again = go(tmp_path, epochs=1)
    assert same(again, final)
    assert curves_again == curves
    assert (tmp_path / "epoch0001" / "state.pt").exists()


def test_weights_alone_are_saved_whatever_shares_their_memory(tmp_path):
    net = network()
    net.extra = nn.Parameter(net.readout.weight.T)  # not contiguous
    save_weights(tmp_path, 1, net, {"a": 1})
    assert torch.equal(load_file(tmp_path / "epoch0001" / "network.safetensors")["extra"], net.extra)
    assert read_config(tmp_path) == {"a": 1}
    with pytest.raises(CheckpointError, match="another network"):
        load_weights(tmp_path, network(outputs=3))


def test_no_checkpoint_is_an_error_for_reading(tmp_path):
    for read in (read_config, lambda folder: load_weights(folder, network())):
        with pytest.raises(MissingDataError, match=f"no checkpoint at {tmp_path}"):
            read(tmp_path)
