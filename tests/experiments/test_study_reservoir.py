"""The study of what a reservoir knows of the third factor, in sizes that tests can afford."""

import json
from dataclasses import asdict

import pytest
import torch

from infohebb.errors import RecordConflictError, UnknownKeyError, UsageError, WrongTypeError
from infohebb.experiments.build import check_config, resolved
from infohebb.experiments.studies.reservoir import (
    Setting,
    in_a_layer,
    linear_task,
    predictability,
    search,
    tracking,
)

TINY = {"learned": 300, "tested": 100}
COMPARING = {"wiring": "comparing", "units": 40, **TINY}


def test_a_comparing_reservoir_knows_more_than_a_random_one():
    random = predictability(units=40, **TINY)[0]
    comparing, curves, arrays = predictability(**COMPARING)
    assert comparing["r2_test"] > 0.4 > random["r2_test"]
    assert comparing["read"] == 40 < comparing["units"]
    assert len(curves["r2_test"]) == 4
    assert sum(curves["r2_test"]) / 4 == pytest.approx(comparing["r2_test"])
    assert arrays["third_factor_exact"].shape == arrays["third_factor_predicted"].shape == (99, 4)
    assert arrays["third_factor_time"].tolist() == [20.0 * place for place in range(99)]


def test_a_seed_gives_one_answer():
    assert predictability(**COMPARING, seed=3)[0] == predictability(**COMPARING, seed=3)[0]
    assert predictability(**COMPARING, seed=3)[0] != predictability(**COMPARING, seed=4)[0]


def test_validation_draws_no_test_sample_and_scores_the_same_windows():
    tested = predictability(**COMPARING)[0]
    final, curves, arrays = predictability(**COMPARING, validate=True)
    assert final == {name: value for name, value in tested.items() if name != "r2_test"}
    assert set(curves) == {"r2_validation"}
    assert not arrays


def test_a_readout_may_learn_from_random_data_alone():
    assert predictability(**{**COMPARING, "learned": 600}, learned_on="random")[0]["r2_test"] > 0.3


def test_activities_may_be_those_of_a_layer_that_sees_the_features():
    task = linear_task(50, torch.Generator().manual_seed(0))
    layer = in_a_layer(task, torch.Generator().manual_seed(1))
    assert torch.equal(layer.x, task.x)
    assert layer.z.mean(1).abs().max() < 1e-5
    awake = layer.z.any(1)
    torch.testing.assert_close(layer.z[awake].square().mean(1), torch.ones(int(awake.sum())), rtol=0.05, atol=0)
    assert awake.sum() > 20
    assert predictability(**COMPARING, activities="layer")[0]["r2_test"] > 0.4


def test_several_readings_in_a_sample_give_as_many_rates():
    assert predictability(units=20, at=(9, -1), **TINY)[0]["read"] == 40


@pytest.mark.parametrize("modulator", ["row", "pub", "head"])
def test_other_modulators_may_be_asked_for(modulator):
    assert predictability(**COMPARING, modulator=modulator)[0] != predictability(**COMPARING)[0]


def test_published_weights_and_a_radius_may_be_asked_for():
    finals = [
        predictability(units=30, **TINY, **setting)[0]["r2_test"]
        for setting in ({}, {"published": True}, {"radius": 0.4})
    ]
    assert len(set(finals)) == 3


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"unit": 3}, "unit: no setting"),
        ({"wiring": "ring"}, "'random' or 'comparing'"),
        ({"learned_on": "test"}, "'task' or 'random'"),
        ({"activities": "none"}, "'noise' or 'layer'"),
        ({"modulator": "heat"}, "unknown modulator 'heat'; did you mean 'head'"),
        ({"sigmas": (1.0, 0.5, 0.0)}, "3 finite numbers above 0"),
        ({"gains": (1.0, 2.0)}, "take 5 finite numbers"),
        ({"learned": 10}, "learned = 10 has less than 10 windows of 2 samples; take 11"),
        ({"tested": 2}, "take 3 or more"),
        ({"window": 1}, "window = 1"),
        ({"gamma": float("inf")}, "gamma = inf"),
        ({"at": (20,)}, "from -20 to 19"),
        ({"at": ()}, "from -20 to 19"),
    ],
)
def test_settings_that_there_are_not_are_refused(settings, told):
    with pytest.raises(UsageError, match=told):
        predictability(**{**TINY, "units": 5, **settings})


def test_the_task_is_the_papers():
    x, y, z = linear_task(200, torch.Generator().manual_seed(0))
    assert x.abs().max() <= 1
    assert torch.equal(y[:, 1] > 0, -0.9435 * x[:, 0] - 0.4910 * x[:, 1] > 0)
    assert z.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("learning", "least"), [("lms", 0.8), ("rls", 0.2)])  # rls weighs all the past alike
def test_a_readout_that_learns_in_the_window_follows_and_does_not_foresee(learning, least):
    final, curves, arrays = tracking(
        data="digits", learning=learning, units=60, rate=0.02, epochs=2, samples=20, window=5
    )
    assert final["after"] > least
    assert final["frozen_unseen"] < 0.5
    assert curves["epoch"] == [1, 2]
    assert final["after"] == curves["after"][-1] > final["before"]
    assert arrays["third_factor_exact"].shape == arrays["third_factor_predicted"].shape == (16, 10)


def test_more_samples_than_there_are_images_are_refused():
    with pytest.raises(UsageError, match="fewer samples"):
        tracking(data="digits", units=5, samples=10_000)


def test_a_search_is_written_once_and_best_first(tmp_path):
    path, grid = tmp_path / "search.json", {"strength": [0.2, 0.9], "tau": [5e-3, 2e-2]}
    rows = search(path, grid, units=10, learned=100)
    kept = json.loads(path.read_text())
    assert kept["rows"] == rows
    assert kept["fixed"]["units"] == 10
    scores = [row["validation_r2"] for row in rows]
    assert len(rows) == 4
    assert scores == sorted(scores, reverse=True)
    assert not any("r2_test" in row or "r2_validation" in row for row in rows)
    with pytest.raises(RecordConflictError):
        search(path, grid, units=10, learned=100)


def test_settings_are_in_the_signature_where_a_recipe_looks_for_them():
    words = {"name": "predictability", "wiring": "comparing", "window": 4, "sigmas": [1.0, 0.5, 2.0], "tau": 1e-3}
    check_config({"study": words})
    assert resolved({"study": words})["study"] == {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(Setting()).items()},
        **words,
    }
    with pytest.raises(UnknownKeyError, match=r"study\.windows; did you mean 'window'"):
        check_config({"study": {"name": "predictability", "windows": 4}})
    with pytest.raises(WrongTypeError, match=r"study: gamma = 'two'"):
        check_config({"study": {"name": "predictability", "gamma": "two"}})


def test_tracking_leaves_the_test_images_alone_when_it_validates():
    settings = {"data": "digits", "units": 20, "rate": 0.02, "epochs": 1, "samples": 10, "window": 3}
    tested, validated = (tracking(**settings, validate=validate)[0] for validate in (False, True))
    assert next(iter(tested)) == "frozen_unseen"
    assert tested != validated


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"epochs": 0}, "epochs = 0"),
        ({"samples": 3, "window": 3}, "samples = 3 has less than 2 windows of 3 samples; take 4"),
        ({"rate": 0.0}, "rate = 0.0"),
        ({"modulator": "foo"}, "unknown modulator 'foo'"),
        ({"learning": "hebb"}, "'lms' or 'rls'"),
    ],
)
def test_tracking_refuses_what_cannot_be(settings, told):
    with pytest.raises(UsageError, match=told):
        tracking(**{"data": "digits", "units": 5, **settings})


ROWS = """
title = "Studies"
seeds = [0]
[[row]]
name = "linear/random/N=2"
study = { name = "predictability", units = 5 }
[[row]]
name = "linear/descent/N=2"
study = { name = "descent", window = 2, units = 5 }
[[row]]
name = "digits/tracking/N=2"
study = { name = "tracking", data = "digits", window = 2, units = 5 }
"""
PREDICTABILITY, DESCENT, TRACKING = "linear/random/N=2", "linear/descent/N=2", "digits/tracking/N=2"


@pytest.mark.parametrize(
    ("row", "setting", "told"),
    [
        (PREDICTABILITY, "modulator=foo", "study: unknown modulator 'foo'; known: exact, head, pub, row"),
        (PREDICTABILITY, "sigmas=[1.0]", "sigmas = [1.0]; take 3 finite numbers above 0"),
        (PREDICTABILITY, "learned=0", "learned = 0; take a whole number of at least 1"),
        (PREDICTABILITY, "gains=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]", "take 5 finite numbers"),
        (PREDICTABILITY, "at=[50]", "at = [50]; take steps of a sample"),
        (PREDICTABILITY, "tau=[]", "tau [] of a reservoir"),
        (PREDICTABILITY, "tau=a", "tau"),
        (PREDICTABILITY, "tau=nan", "tau nan"),
        (PREDICTABILITY, "strength=nan", "strength nan"),
        (PREDICTABILITY, "input_scale=nan", "input_scale nan"),
        (TRACKING, "epochs=0", "epochs = 0; take a whole number of at least 1"),
        (DESCENT, "rate=-1.0", "rate = -1.0; take a finite number above 0"),
        (DESCENT, "samples=0", "samples = 0; take a whole number of at least 2"),
        (DESCENT, "pretraining=3", "pretraining = 3 has less than 10 windows"),
        (DESCENT, "wiring=ring", "wiring 'ring'; take 'random' or 'comparing'"),
    ],
)
def test_settings_that_cannot_be_get_one_line_and_no_record(command, nowhere, row, setting, told):
    (nowhere / "own.toml").write_text(ROWS)
    answer = command("run", "own.toml", "--only", row, "--set", f"study.{setting}")
    assert answer.status == 2
    assert answer.err.startswith("infohebb: ")
    assert answer.err.count("\n") == 1
    assert told in answer.err
    assert "Traceback" not in answer.out
    assert not list(nowhere.rglob("seed*.json"))
