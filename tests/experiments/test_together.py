"""The seeds of a row side by side: the records of one by one, each with weights of its own."""

import json

import numpy as np
import pytest
import torch
from recipe_texts import TINY

from infohebb.data import blobs
from infohebb.errors import MismatchError, NonFiniteLossError, RecipeError, RecordConflictError, UsageError
from infohebb.experiments import ensemble
from infohebb.experiments.build import load_network
from infohebb.experiments.record import read_record
from infohebb.files import held
from infohebb.training.evaluation import evaluate

STREAM = """
title = "Stacked"
seeds = [0, 1, 2, 3]

[base]
data = { name = "blobs" }
network = { name = "mlp", widths = [8, 4] }
rule = { name = "HSICMemory", objective = true }
training = { epochs = 2, batch = 4, epoch_samples = 30, order_seed = 0, stacked = true }
optimizer = { name = "sgd", lr = 0.05 }

[[row]]
name = "blobs/memory/stream"
"""
ALONE = STREAM.replace("stacked = true", "stacked = false")


def place(nowhere, out="results"):
    return nowhere / out / "stack" / "blobs" / "memory" / "stream"


def test_records_are_those_of_one_by_one(go, nowhere):
    together = go(STREAM, name="stack", seeds=None)
    single = go(ALONE, name="stack", seeds=None, out=nowhere / "single")
    assert [record.seed for record in together] == [0, 1, 2, 3]
    for mine, own in zip(together, single, strict=True):
        assert read_record(mine.path).model_dump() == mine.model_dump()
        assert mine.final == pytest.approx(own.final, abs=1.01)  # a sample on the border, of 200
        assert mine.curves["train_loss"] == pytest.approx(own.curves["train_loss"], rel=1e-4)
        assert mine.curves["samples"] == own.curves["samples"] == [30, 60]
        assert mine.curves.keys() == own.curves.keys()
        one, other = (load_network(record.path.with_suffix(".checkpoint")) for record in (mine, own))
        for name, weight in other.state_dict().items():
            torch.testing.assert_close(one.state_dict()[name], weight, rtol=1e-4, atol=1e-5)
        assert evaluate(one, blobs())["accuracy"] == mine.final["test_accuracy"]
        words = {**own.config["training"], "stacked": True}
        assert mine.config == {**own.config, "training": words}
        assert (mine.side_by_side, own.side_by_side) == (4, 1)
        assert "of 4 networks side by side" in mine.peak_memory_method
        assert mine.wall_seconds == pytest.approx(sum(mine.curves["seconds"]))
    assert together[0].curves["train_loss"] != together[1].curves["train_loss"]


def test_what_lies_beside_a_record(go, nowhere):
    go(STREAM, name="stack", seeds=None)
    names = {path.name for path in place(nowhere).iterdir()}
    wanted = {f"seed{seed}{kind}" for seed in range(4) for kind in (".json", ".checkpoint")}
    assert names == wanted | {f"seed{seed}.npz" for seed in range(ensemble.PICTURED)}
    (folder,) = (place(nowhere) / "seed3.checkpoint").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "network.safetensors"]
    assert json.loads((folder / "config.json").read_text())["seed"] == 3
    with np.load(place(nowhere) / "seed2.npz") as arrays:
        assert {"labels", "gram_before_layers.0", "gram_after_layers.1"} <= set(arrays)


def test_seeds_without_a_record_alone_are_trained(go, nowhere):
    go(STREAM, name="stack", seeds=[1])
    before = (place(nowhere) / "seed1.json").read_bytes()
    told = []
    records = go(STREAM, name="stack", seeds=None, tell=told.append)
    assert sorted(record.seed for record in records) == [0, 1, 2, 3]
    assert (place(nowhere) / "seed1.json").read_bytes() == before
    assert {record.side_by_side for record in records if record.seed != 1} == {3}
    assert sum("done before" in line for line in told) == 1
    with pytest.raises(RecordConflictError, match=r"rule\.gamma"):
        go(STREAM, name="stack", seeds=None, settings=["rule.gamma=1.0"])


def test_they_go_on_from_the_checkpoint_that_they_share(go, nowhere, monkeypatch):
    whole = go(STREAM, name="stack", seeds=None, out=nowhere / "whole")

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ensemble, "final_scores", stop)
        with pytest.raises(KeyboardInterrupt):
            go(STREAM, name="stack", seeds=None)
    assert [path.name for path in place(nowhere).glob("seeds*")] == ["seeds0-3.checkpoint"]
    assert not list(place(nowhere).glob("*.json"))
    monkeypatch.setattr("infohebb.training.fitting.Fitting._epoch", stop)
    again = go(STREAM, name="stack", seeds=None)
    for mine, other in zip(again, whole, strict=True):
        assert mine.final == other.final
        assert mine.curves["train_loss"] == other.curves["train_loss"]
    assert not list(place(nowhere).glob("seeds*"))


def test_validation_is_scored_for_each(go, nowhere):
    records = go(STREAM, name="stack", seeds=[4, 7], validate=True)
    assert [record.path.name for record in records] == ["seed4.validation.json", "seed7.validation.json"]
    assert all(set(record.final) == {"validation_accuracy", "train_accuracy"} for record in records)
    assert not list(place(nowhere).glob("seeds*"))


def test_one_that_another_process_runs_leaves_all_alone(go, nowhere):
    with (
        held(place(nowhere) / "seed2.checkpoint" / "lock"),
        pytest.raises(RecordConflictError, match="another process runs this row"),
    ):
        go(STREAM, name="stack", seeds=None)
    assert not list(place(nowhere).glob("*.json"))


@pytest.mark.parametrize(
    ("error", "words", "text", "options"),
    [
        (RecipeError, "give training.order_seed", STREAM.replace("order_seed = 0, ", ""), {}),
        (RecipeError, "stacked = 3", STREAM.replace("stacked = true", "stacked = 3"), {}),
        (UsageError, "stacked networks are not diagnosed", STREAM, {"diagnose": 1}),
        (MismatchError, "KernelizedBottleneck", STREAM.replace(
            '"HSICMemory", objective = true', '"KernelizedBottleneck"'), {"settings": ["training.batch=10"]}),
        (MismatchError, "cannot be stacked; train one by one", TINY.replace(
            "batch = 50", "stacked = true, order_seed = 1"), {}),
        (NonFiniteLossError, "not finite", STREAM, {"settings": ["optimizer.lr=1e30"]}),
    ],
)  # fmt: skip
def test_what_cannot_be_stacked_is_named(go, nowhere, error, words, text, options):
    with pytest.raises(error, match=words) as caught:
        go(text, name="stack", seeds=None, **options)
    assert "\n" not in str(caught.value)
    assert not list((nowhere / "results").rglob("*.json"))


def test_a_row_that_is_run_stacked_is_still_the_papers(go):
    text = ALONE + "published = 90.0\n"
    records = go(text, name="stack", seeds=None, settings=["training.stacked=true"])
    assert [record.published for record in records] == [90.0] * 4
