"""Checkpoints: whole or not at all, never unpickled, and training goes on from them to the same bits."""

import errno
import json
import os
import pickle
import shutil
import signal
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_toys import data, network, rule, same, weights

from infohebb import MLP, Backprop, KernelizedBottleneck, train
from infohebb.errors import CheckpointError, CorruptFileError, InfohebbError, MissingDataError, NoSpaceError
from infohebb.training import Checkpoints
from infohebb.training.checkpoint import Progress, latest, load_weights, read_config, resume, save_checkpoint

OPTIONS = {"dropout": 0.2, "norm": "batch"}  # random numbers and running averages have to come back too
OPTIMIZERS = {
    "sgd": {"name": "sgd", "lr": {"local": 0.5, "readout": 0.05}, "momentum": 0.9},
    "adamw": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "sgd_then_decay": {"name": "sgd_then_decay", "lr": 0.1, "weight_decay": 0.1, "decay_follows_rate": False},
    "adam_epsilon_hat": {"name": "adam_epsilon_hat", "lr": 0.01, "weight_decay": {"local": [0.1] * 6, "readout": 0.0}},
}


class PowerFailureError(Exception):
    """The power fails."""


def go(folder=None, optimizer="sgd", make=rule, epochs=4, on_batch=None, batch=20, **schedule):
    net, learning = network(**OPTIONS), make()
    if on_batch:
        count, learn = iter(range(1000)), learning.learn
        learning.learn = lambda *a, **k: on_batch(next(count)) or learn(*a, **k)
    options = OPTIMIZERS[optimizer] if make is rule else {"name": optimizer, "lr": 0.02}
    checkpoints = Checkpoints(folder, {"a": 1}) if folder else None
    settings = {"epochs": epochs, "batch": batch, "milestones": [2], "optimizer": options, "checkpoints": checkpoints}
    curves = train(net, learning, data(), **settings, **schedule)
    del curves["seconds"]
    return weights(net), curves


def crash_at(batch):
    def on_batch(count):
        if count == batch:
            raise PowerFailureError

    return on_batch


@pytest.mark.parametrize("make", [rule, Backprop])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_to_the_same_bits(tmp_path, optimizer, make):
    whole, curves = go(None, optimizer, make)
    with pytest.raises(PowerFailureError):
        go(tmp_path, optimizer, make, on_batch=crash_at(7))  # third epoch, second batch
    assert [path.name for path in tmp_path.iterdir()] == ["epoch0002"]
    resumed, resumed_curves = go(tmp_path, optimizer, make, on_batch=crash_at(6))  # only two epochs are left
    assert same(resumed, whole)
    assert resumed_curves == curves


def test_rates_that_fall_within_epochs_go_on_falling_after_a_resume(tmp_path):
    schedule = {"factor_every": 4, "powers": [[1, 0.9], [3, 0.8]], "factor": 0.5}
    whole, curves = go(**schedule)  # three steps in an epoch
    with pytest.raises(PowerFailureError):
        go(tmp_path, on_batch=crash_at(7), **schedule)
    resumed, resumed_curves = go(tmp_path, **schedule)
    assert same(resumed, whole)
    assert resumed_curves == curves
    assert curves["learning_rate"]["local"] == pytest.approx(
        [0.5, 0.5 * 0.9, 0.5 * 0.8**2 * 0.5 * 0.5, 0.5 * 0.8**3 * 0.5 * 0.5**2]  # milestone 2; falls 0, 0, 1, 2
    )
    with pytest.raises(CheckpointError, match="another configuration"):
        go(tmp_path, **{**schedule, "factor_every": 5})
    with pytest.raises(CheckpointError, match="another configuration"):
        go(tmp_path, **{**schedule, "powers": [[1, 0.9]]})


def test_checkpoints_do_not_change_the_run(tmp_path):
    (whole, curves), (kept, kept_curves) = go(), go(tmp_path)
    assert same(whole, kept)
    assert curves == kept_curves


def test_a_finished_run_is_not_run_again(tmp_path):
    first, curves = go(tmp_path)
    again, curves_again = go(tmp_path, on_batch=crash_at(0))
    assert same(first, again)
    assert curves == curves_again


def test_only_the_newest_checkpoint_is_kept_and_it_has_four_files(tmp_path):
    final, _ = go(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name == "epoch0004"
    names = ["config.json", "network.safetensors", "rule.safetensors", "state.pt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert same(load_file(folder / "network.safetensors"), final)
    assert read_config(tmp_path) == read_config(folder)
    assert read_config(folder)["a"] == 1


@pytest.mark.parametrize("where", ["torch.save", "os.fsync", "json.dumps"])
def test_a_crash_while_writing_leaves_the_earlier_checkpoint(tmp_path, monkeypatch, where):
    go(tmp_path, epochs=1)
    net, learning = network(**OPTIONS), rule()
    stepper = torch.optim.SGD(net.parameters(), lr=0.1)

    def crash(*arguments, **keywords):
        raise PowerFailureError

    with monkeypatch.context() as patch:
        patch.setattr(where, crash)
        with pytest.raises(PowerFailureError):
            save_checkpoint(tmp_path, Progress(2, {}), net, learning, stepper, {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["epoch0001"]
    load_weights(tmp_path, net)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_the_earlier_checkpoint(tmp_path, monkeypatch, number):
    go(tmp_path, epochs=2)

    def full(*arguments, **keywords):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(NoSpaceError, match=f"no space left to write {tmp_path}"):
            go_on = network(**OPTIONS)
            stepper = torch.optim.SGD(go_on.parameters(), lr=0.1)
            save_checkpoint(tmp_path, Progress(3, {}), go_on, rule(), stepper, {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["epoch0002"]
    load_weights(tmp_path, network(**OPTIONS))


def test_other_errors_of_the_system_are_not_called_a_full_disk(tmp_path):
    (tmp_path / "file").write_text("")
    net = network()
    with pytest.raises(OSError, match="file"):
        save_checkpoint(tmp_path / "file", Progress(1, {}), net, rule(), torch.optim.SGD(net.parameters()), {})


def test_what_a_killed_process_left_half_written_is_not_read_and_is_cleared_away(tmp_path):
    go(tmp_path, epochs=1)
    debris = tmp_path / ".epoch0002.99999999.part"
    shutil.copytree(tmp_path / "epoch0001", debris)
    (debris / "state.pt").write_bytes(b"half")
    assert latest(tmp_path) == tmp_path / "epoch0001"
    net = network(**OPTIONS)
    stepper = torch.optim.SGD(net.parameters(), lr=0.1)
    save_checkpoint(tmp_path, Progress(2, {}), net, rule(), stepper, {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["epoch0002"]


def test_after_a_crash_between_two_checkpoints_the_newer_one_counts(tmp_path):
    go(tmp_path)
    shutil.copytree(tmp_path / "epoch0004", tmp_path / "epoch0003")
    shutil.copytree(tmp_path / "epoch0004", tmp_path / "epoch10000")
    assert latest(tmp_path) == tmp_path / "epoch10000"


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("write", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing, protocol=2))])
def test_nothing_is_unpickled(tmp_path, write):
    go(tmp_path, epochs=1)
    write(Hostile(tmp_path / "attacked"), tmp_path / "epoch0001" / "state.pt")
    with pytest.raises(CorruptFileError, match=r"epoch0001/state\.pt cannot be read; delete"):
        go(tmp_path)
    assert not (tmp_path / "attacked").exists()


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    go(tmp_path, epochs=1)
    net, learning = network(**OPTIONS), rule()
    stepper = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(CheckpointError, match=r"epoch0001 .*another configuration; delete it or choose another --out"):
        resume(tmp_path, net, learning, stepper, {"a": 2})
    assert (tmp_path / "epoch0001").is_dir()


def test_tuples_and_lists_in_a_configuration_are_the_same(tmp_path):
    net = network()
    stepper = torch.optim.SGD(net.parameters(), lr=0.1)
    save_checkpoint(tmp_path, Progress(1, {}), net, rule(), stepper, {"milestones": (1, 2)})
    assert resume(tmp_path, net, rule(), stepper, {"milestones": [1, 2]}) == Progress(1, {})


def test_weights_of_another_network_are_refused(tmp_path):
    go(tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="another network"):
        load_weights(tmp_path, network(outputs=3, **OPTIONS))


@pytest.mark.parametrize("file", ["network.safetensors", "rule.safetensors", "state.pt", "config.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "noise", "flipped"])
def test_a_damaged_file_is_named(tmp_path, file, damage):
    go(tmp_path, epochs=1)
    path = tmp_path / "epoch0001" / file
    content = path.read_bytes()
    changed = {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "noise": bytes(range(256)) * 20,
        "flipped": bytes([content[0] ^ 255]) + content[1:],
    }
    path.unlink()
    if damage != "gone":
        path.write_bytes(changed[damage])
    if file == "network.safetensors" and damage == "gone":
        assert latest(tmp_path) == path.parent
    if file == "state.pt" and damage == "gone":  # a finished run, of which only the weights were kept: it starts again
        go(tmp_path)
        return
    with pytest.raises(CorruptFileError, match=rf"epoch0001/{file} cannot be read"):
        go(tmp_path)


@pytest.mark.parametrize(
    "content", [{}, [1, 2], {"epoch": 1, "curves": {}, "random": {"cpu": torch.zeros(3), "cuda": []}, "optimizer": {}}]
)
def test_a_state_that_lacks_its_parts_is_named(tmp_path, content):
    go(tmp_path, epochs=1)
    torch.save(content, tmp_path / "epoch0001" / "state.pt")
    with pytest.raises(InfohebbError, match=r"state\.pt"):
        go(tmp_path)


def test_every_cut_of_the_state_is_found(tmp_path):
    go(tmp_path, epochs=1)
    path = tmp_path / "epoch0001" / "state.pt"
    content = path.read_bytes()
    net = network(**OPTIONS)
    stepper = torch.optim.SGD(net.parameters(), lr=0.1)
    config = read_config(tmp_path)
    for length in range(0, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:length])
        with pytest.raises(CorruptFileError):
            resume(tmp_path, net, rule(), stepper, config)


def test_other_settings_do_not_go_on(tmp_path):
    go(tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="another configuration"):
        go(tmp_path, batch=7)


def test_other_data_and_another_grouping_do_not_go_on(tmp_path):
    x, y = torch.randn(40, 3), torch.arange(40) % 2

    def trained(x, groups):
        net, kept = MLP(3, 2, (8,)), Checkpoints(tmp_path)
        train(net, KernelizedBottleneck(groups=groups), (x, y), epochs=1, checkpoints=kept, progress=False)

    trained(x, 2)
    trained(x, 2)
    for other in ((100 * x, 2), (x, 4)):
        with pytest.raises(CheckpointError, match="another configuration"):
            trained(*other)


def test_ctrl_c_in_the_midst_of_saving_leaves_a_whole_checkpoint_and_is_heard(tmp_path, monkeypatch):
    save, net = torch.save, network()

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        save(*arguments)

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, Progress(1, {}), net, rule(), torch.optim.SGD(net.parameters()), {})
    monkeypatch.undo()
    assert resume(tmp_path, net, rule(), torch.optim.SGD(net.parameters()), {}) == Progress(1, {})
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_no_checkpoint_is_no_error_for_training_and_one_for_reading(tmp_path):
    net = network()
    assert resume(tmp_path / "none", net, rule(), torch.optim.SGD(net.parameters()), {}) is None
    for read in (read_config, lambda folder: load_weights(folder, net)):
        with pytest.raises(MissingDataError, match=f"no checkpoint at {tmp_path}"):
            read(tmp_path)


def test_weights_that_share_memory_are_saved_apart(tmp_path):
    net = network()
    net.extra = torch.nn.Parameter(net.readout.weight.T)  # not contiguous
    save_checkpoint(tmp_path, Progress(1, {}), net, rule(), torch.optim.SGD(net.parameters()), {})
    assert torch.equal(load_file(tmp_path / "epoch0001" / "network.safetensors")["extra"], net.extra)


def test_files_are_what_their_names_say(tmp_path):
    go(tmp_path, epochs=1)
    folder = tmp_path / "epoch0001"
    assert zipfile.is_zipfile(folder / "state.pt")
    state = torch.load(folder / "state.pt", weights_only=True)
    assert set(state) == {"epoch", "curves", "order_seed", "steps", "random", "optimizer"}
    assert json.loads((folder / "config.json").read_text())["a"] == 1
    save_file({}, tmp_path / "empty.safetensors")
    assert load_file(folder / "rule.safetensors") == load_file(tmp_path / "empty.safetensors") == {}
