"""Studies: rows that call a function instead of training a network, with the same records."""

import json
import re

import numpy as np
import pytest
import torch

from infohebb.errors import (
    NonFiniteLossError,
    RecipeError,
    RecordConflictError,
    UnknownKeyError,
    UnknownNameError,
    UsageError,
    WrongTypeError,
)
from infohebb.experiments.record import read_record
from infohebb.experiments.studies import STUDIES
from infohebb.files import held

RECIPE = """
title = "Studies"
seeds = [0, 1]

[base]
study = { name = "waves", count = 5 }

[[row]]
name = "waves/sine/short"

[[row]]
name = "waves/sine/long"
published = 0.5
study = { count = 50, scales = [1.0, 2.0] }
"""
TRAINED = """
[[row]]
name = "blobs/backprop/plain"
data = { name = "blobs" }
network = { name = "mlp", widths = [4] }
rule = { name = "Backprop" }
training = { epochs = 1 }
"""
CALLS = []


def waves(*, seed: int, count: int = 3, scales: tuple[float, ...] | list[float] = (1.0,), validate: bool = False):
    """Waves of noise."""
    CALLS.append({"seed": seed, "count": count, "scales": scales, "validate": validate})
    drawn = torch.randn(count).numpy()
    curves = {"step": [*range(count)], "height": {"noise": drawn, "of_nothing": [float("nan")]}}
    return {"mean_height": drawn.mean(), "validated": float(validate)}, curves, {"drawn": drawn}


def bare(count: int, kind: str = "none"):
    """Neither seed nor arrays."""
    found = {"none": {"count": float(count)}, "nan": {"count": float("nan")}}
    return found[kind], {}, {}


def heavy():
    """More than fits beside a record."""
    return {"kilobytes": 800.0}, {}, {"noise": np.random.default_rng(0).normal(size=100_000)}


@pytest.fixture(autouse=True)
def studies(monkeypatch):
    for function in (waves, bare, heavy):
        monkeypatch.setitem(STUDIES, function.__name__, function)
    CALLS.clear()


def of(name, words=""):
    return f'title = "t"\n[[row]]\nname = "a/b/c"\nstudy = {{ name = "{name}"{words} }}\n'


def test_a_study_writes_a_record_and_its_arrays(go, nowhere):
    records = go(RECIPE, name="waves", seeds=None)
    assert [(record.row, record.seed) for record in records] == [
        (f"waves/sine/{row}", seed) for row in ("short", "long") for seed in (0, 1)
    ]
    assert CALLS[0] == {"seed": 0, "count": 5, "scales": (1.0,), "validate": False}
    assert CALLS[3] == {"seed": 1, "count": 50, "scales": [1.0, 2.0], "validate": False}
    record = records[3]
    assert read_record(record.path).model_dump() == record.model_dump()
    assert record.config == {"study": {"name": "waves", "count": 50, "scales": [1.0, 2.0]}}
    assert (record.published, records[0].published) == (0.5, None)
    assert set(record.final) == {"mean_height", "validated"}
    assert record.curves["height"]["of_nothing"] == [None]
    assert record.wall_seconds > 0
    assert record.peak_memory_bytes > 1_000_000
    with np.load(record.pictures) as arrays:
        assert arrays["drawn"].tolist() == pytest.approx(record.curves["height"]["noise"])
    assert {path.name for path in record.path.parent.iterdir()} == {
        f"seed{seed}.{kind}" for seed in (0, 1) for kind in ("json", "npz")
    }


def test_the_seed_decides_and_leaves_the_callers_alone(go, nowhere):
    torch.manual_seed(3)
    first = go(RECIPE, name="waves")
    drawn = torch.rand(1)
    again = go(RECIPE, name="waves", out=nowhere / "again")
    other = go(RECIPE, name="waves", seeds=[1])
    assert [record.final for record in first] == [record.final for record in again]
    assert first[0].final != other[0].final
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


def test_what_has_a_record_is_not_called_again(go):
    first = go(RECIPE, name="waves")
    CALLS.clear()
    assert [record.final for record in go(RECIPE, name="waves")] == [record.final for record in first]
    assert CALLS == []
    with pytest.raises(RecordConflictError, match=r"study\.count = 5, not 7"):
        go(RECIPE, name="waves", settings=["study.count=7"])
    renamed = RECIPE.replace('"waves", count = 5', '"bare", count = 5').split('\n[[row]]\nname = "waves/sine/long')[0]
    with pytest.raises(RecordConflictError, match=r"study\.kind = None, not 'none'"):
        go(renamed, name="waves")


def test_settings_are_laid_over_and_take_the_published_number_away(go):
    (record,) = go(RECIPE, name="waves", only="waves/sine/long", settings=["study.count=4"])
    assert (record.published, record.overrides) == (None, ["study.count=4"])
    assert len(record.curves["step"]) == 4


def test_validation_is_passed_to_what_takes_it(go):
    record, _ = go(RECIPE, name="waves", validate=True)
    assert record.path.name == "seed0.validation.json"
    assert record.final["validated"] == 1.0
    (record,) = go(of("bare", ", count = 2"), validate=True)
    assert record.final == {"count": 2.0}
    assert record.pictures is None


def test_rows_of_both_kinds_stand_in_one_recipe(go):
    text = RECIPE.replace('[base]\nstudy = { name = "waves", count = 5 }\n', "").replace(
        "{ count", '{ name = "waves", count'
    )
    text = text.replace('name = "waves/sine/short"', 'name = "waves/sine/short"\nstudy = { name = "waves" }') + TRAINED
    records = go(text, name="both")
    assert ["study" in record.config for record in records] == [True, True, False]
    assert records[2].final["test_accuracy"] >= 0


def test_arrays_that_are_too_large_are_told_of(go):
    told = []
    go(of("heavy"), name="heavy", tell=told.append)
    assert any("seed0.npz takes" in line and "keep it within 200 kB" in line for line in told)


def test_a_study_that_another_process_conducts_is_left_alone(go, nowhere):
    with (
        held(nowhere / "results/waves/waves/sine/short/seed0.lock"),
        pytest.raises(RecordConflictError, match="another process runs this row"),
    ):
        go(RECIPE, name="waves", only="waves/sine/short")


@pytest.mark.parametrize(
    ("error", "words", "text", "options"),
    [
        (UnknownNameError, "unknown study 'wave'; did you mean 'waves'", of("wave"), {}),
        (UnknownNameError, "unknown study ''", 'title = "t"\n[[row]]\nname = "a"\nstudy = { count = 1 }\n', {}),
        (UnknownKeyError, r"unknown key study\.counts; did you mean 'count'", of("waves", ", counts = 1"), {}),
        (UnknownKeyError, r"unknown key study\.seed", of("waves", ", seed = 1"), {}),
        (UnknownKeyError, r"unknown key study\.validate", of("waves", ", validate = true"), {}),
        (WrongTypeError, r"study: count = 'many'", of("waves", ", count = 'many'"), {}),
        (RecipeError, "study: count is missing", of("bare"), {}),
        (RecipeError, "a study trains no network; leave out training", of("waves") + "training = { batch = 1 }\n", {}),
        (RecipeError, "a study trains no network; leave out rule", RECIPE + 'rule = { name = "Backprop" }\n', {}),
        (UnknownKeyError, "no section 'training'; sections: study", RECIPE, {"settings": ["training.epochs=1"]}),
        (UsageError, "takes no --data", RECIPE, {"arrays": "arrays.npz"}),
        (UsageError, "takes no --diagnose", RECIPE, {"diagnose": 1}),
        (NonFiniteLossError, "found count = nan, which is no number", of("bare", ", count = 1, kind = 'nan'"), {}),
    ],
)
def test_what_no_study_can_do_is_named(go, nowhere, error, words, text, options):
    if "arrays" in options:
        options = {"arrays": nowhere / "arrays.npz"}
    with pytest.raises(error, match=words) as caught:
        go(text, **options)
    assert "\n" not in str(caught.value)
    assert not list((nowhere / "results").rglob("*.json"))


def test_the_command_line_prints_what_was_found(command, nowhere):
    (nowhere / "mine.toml").write_text(RECIPE)
    answer = command("run", "mine.toml", "--out", "out", "--device", "cpu")
    assert answer.status == 0, answer.err
    assert "waves/sine/long seed 1: mean_height" in answer.out
    record = json.loads((nowhere / "out/mine/waves/sine/long/seed0.json").read_text())
    assert record["origin"] == "mine.toml"
    listed = command("list").out
    assert re.search(r"waves +Waves of noise\.", listed)
