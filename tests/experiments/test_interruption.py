"""Real interruptions: kill -9 and Ctrl-C in a process of its own, and the same command once more."""

import signal
import time

import numpy as np
import pytest

from infohebb.experiments.record import read_record
from infohebb.training.checkpoint import read_config
from processes import command_code

RECIPE = """
title = "Long enough to be interrupted"
seeds = [3]

[base]
data = { name = "blobs" }
network = { name = "mlp", widths = [64, 64], dropout = 0.1, norm = "batch", divisive_norm = { groups = 8 } }
rule = { name = "KernelizedBottleneck", kernel = "cosine" }
training = { epochs = 20, batch = 8, milestones = [5] }
optimizer = { name = "adamw", lr = { units = 0.002, head = 0.002 } }

[[row]]
name = "blobs/cosine/divnorm"
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "long.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def whole(python, recipe, tmp_path):
    """A run that nothing interrupts: its record and folder."""
    answer = python(run_code(recipe, tmp_path / "whole"))
    assert answer.status == 0, answer.err
    return folder(tmp_path / "whole")


def run_code(recipe, out):
    return command_code("run", recipe, "--out", out, "--device", "cpu", "--diagnose", "every=3")


def folder(out):
    return out / "long" / "blobs" / "cosine" / "divnorm"


def wait_for_checkpoint(process, place, epoch):
    deadline = time.monotonic() + 120
    while not (place / "seed3.checkpoint" / f"epoch{epoch:04d}").is_dir():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.002)


def curves(record):
    return {name: line for name, line in record.curves.items() if name != "seconds"}


def assert_same(left, right):
    mine, theirs = read_record(left / "seed3.json"), read_record(right / "seed3.json")
    assert curves(mine) == curves(theirs)
    for name in ("recipe", "row", "seed", "published", "final", "config", "versions", "commit", "device"):
        assert getattr(mine, name) == getattr(theirs, name)
    for file in ("network.safetensors", "rule.safetensors", "config.json"):
        paths = [place / "seed3.checkpoint" / "epoch0020" / file for place in (left, right)]
        assert paths[0].read_bytes() == paths[1].read_bytes(), file
    with np.load(left / "seed3.npz") as mine, np.load(right / "seed3.npz") as theirs:
        assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)


def test_kill_9_and_ctrl_c_lose_an_epoch_at_most_and_change_no_bit(python, recipe, tmp_path, whole):
    place = folder(tmp_path / "out")
    code = run_code(recipe, tmp_path / "out")

    killed = python(code, wait=False)
    wait_for_checkpoint(killed, place, 2)
    time.sleep(0.02)  # into the next epoch
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (place / "seed3.json").exists()
    kept = [path.name for path in (place / "seed3.checkpoint").glob("epoch*")]
    assert kept
    assert "epoch0020" not in kept

    stopped = python(code, wait=False)
    wait_for_checkpoint(stopped, place, int(max(kept)[5:]) + 2)
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate()
    assert stopped.returncode == 130, said
    assert said == "infohebb: stopped; the same command goes on from the last whole epoch\n"
    assert not (place / "seed3.json").exists()
    later = max((place / "seed3.checkpoint").glob("epoch*"))
    assert int(later.name[5:]) >= int(max(kept)[5:]) + 2
    assert read_config(later)["training"]["epochs"] == 20

    finished = python(code)
    assert finished.status == 0, finished.err
    assert "blobs/cosine/divnorm seed 3: test_accuracy" in finished.out
    assert_same(place, whole)
    assert read_record(place / "seed3.json").curves["alignment"]["epoch"] == [0, 3, 6, 9, 12, 15, 18]
    leftovers = [path.name for path in (place / "seed3.checkpoint").iterdir()]
    assert leftovers == ["epoch0020"]


STREAM = """
title = "A stream to be interrupted"
seeds = [2, 3]

[base]
data = { name = "blobs" }
network = { name = "mlp", widths = [8, 4], norm = "layer" }
rule = { name = "HSICMemory", memory = "stale", modulator = "pub" }
training = { epochs = 12, batch = 6, steps_per_sample = 2, epoch_samples = 45, order = "drifting" }
optimizer = { name = "adam", lr = { units = 0.002, head = 0.002 } }

[[row]]
name = "blobs/memory/stream"
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", ["", ", order_seed = 1, stacked = true"])
def test_a_stream_that_is_killed_goes_on_to_the_same_bits(python, tmp_path, words):
    recipe = tmp_path / "stream.toml"
    recipe.write_text(STREAM.replace('"drifting" }', f'"drifting"{words} }}'))
    places = [tmp_path / out / "stream" / "blobs" / "memory" / "stream" for out in ("whole", "out")]
    whole, code = (command_code("run", recipe, "--out", tmp_path / out, "--device", "cpu") for out in ("whole", "out"))
    answer = python(whole)
    assert answer.status == 0, answer.err

    killed = python(code, wait=False)
    deadline = time.monotonic() + 120
    while not [path for path in places[1].glob("seed*.checkpoint/epoch*") if int(path.name[5:]) > 1]:
        assert killed.poll() is None, killed.communicate()[1]
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (places[1] / "seed3.json").exists()

    finished = python(code)
    assert finished.status == 0, finished.err
    for seed in (2, 3):
        mine, theirs = (read_record(place / f"seed{seed}.json") for place in places)
        assert curves(mine) == curves(theirs)
        assert mine.curves["samples"] == [45 * epoch for epoch in range(1, 13)]
        assert (mine.final, mine.config) == (theirs.final, theirs.config)
        saved = [place / f"seed{seed}.checkpoint" / "epoch0012" / "network.safetensors" for place in places]
        assert saved[0].read_bytes() == saved[1].read_bytes()
