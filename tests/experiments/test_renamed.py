"""Names of version 0.1 in recipes, settings and records: taken with a warning that shows the new spelling."""

import shutil
import warnings
from pathlib import Path

import pytest
from recipe_texts import TINY

from infohebb.errors import CheckpointError, WrongTypeError
from infohebb.experiments.recipe import load_recipe, parse_recipe
from infohebb.experiments.record import read_record
from infohebb.experiments.run import Options, jobs, run_recipe

RESULTS = Path(__file__).resolve().parents[2] / "results"
RECIPE = """
title = "Old names"
[base]
data = {{ name = "blobs" }}
network = {{ {network} }}
rule = {{ name = "{rule}" }}
training = {{ {training} }}
optimizer = {{ name = "sgd", {optimizer} }}
[[row]]
name = "blobs/old/names"
published = 90.0
"""
STREAM = "epochs = 1, batch = 4, epoch_samples = 20, order_seed = 0"
CASES = {  # rule: (network, training and optimizer in old names, in new ones, what the warnings say)
    "HSICMemory": (
        "widths = [4]",
        (f"{STREAM}, hold = 2, side_by_side = true", "lr = { local = 0.1, readout = 0.2 }"),
        (f"{STREAM}, steps_per_sample = 2, stacked = true", "lr = { units = 0.1, head = 0.2 }"),
        ["training.hold is now training.steps_per_sample", "training.side_by_side is now training.stacked",
         "optimizer.lr.local is now optimizer.lr.units", "optimizer.lr.readout is now optimizer.lr.head"],
    ),
    "LayerwiseClassification": (
        "widths = [4]",
        ("epochs = 1", "lr = { local = [0.1], readout = 0.2 }, weight_decay = { local = 0.0, readout = 0.1 }"),
        ("epochs = 1", "lr = { units = [0.1], rule = [0.1], head = 0.2 }, "
         "weight_decay = { units = 0.0, rule = 0.0, head = 0.1 }"),
        ["optimizer.lr.local is now optimizer.lr.units and optimizer.lr.rule",
         "optimizer.weight_decay.local is now optimizer.weight_decay.units and optimizer.weight_decay.rule",
         "optimizer.lr.readout is now optimizer.lr.head",
         "optimizer.weight_decay.readout is now optimizer.weight_decay.head"],
    ),
    "Backprop": (
        "widths = [4]",
        ("epochs = 1", "lr = { readout = 0.2 }"),
        ("epochs = 1", "lr = { units = 0.2, head = 0.2 }"),
        ["optimizer.lr.readout is now optimizer.lr.units and optimizer.lr.head"],
    ),
    "PredictiveCoding": (
        'name = "predictive_coding", widths = [4]',
        ("epochs = 1", "lr = { local = 0.01 }"),
        ("epochs = 1", "lr = { forward = 0.01, bias = 0.01 }"),
        ["optimizer.lr.local is now optimizer.lr.forward and optimizer.lr.bias"],
    ),
}  # fmt: skip


def recipe_of(rule, network, training, optimizer):
    return RECIPE.format(rule=rule, network=network, training=training, optimizer=optimizer)


def told(caught):
    assert all(issubclass(warning.category, FutureWarning) for warning in caught)
    assert all(str(warning.message).endswith("; the old name goes in version 0.3") for warning in caught)
    return sorted({str(warning.message).partition(";")[0] for warning in caught})


@pytest.mark.parametrize("rule", CASES)
def test_a_recipe_in_old_names_runs_as_in_new_ones_and_says_how_they_are_spelled(go, nowhere, rule):
    network, old, new, said = CASES[rule]
    with pytest.warns(FutureWarning) as caught:
        (record,) = go(recipe_of(rule, network, *old))
    assert told(caught) == sorted(said)
    (again,) = go(recipe_of(rule, network, *new), out=nowhere / "new")
    assert record.config == again.config
    assert record.curves["train_loss"] == again.curves["train_loss"]
    assert record.curves["learning_rate"] == again.curves["learning_rate"]


def configs_of(text, settings, out):
    """The configuration of each row, without its records."""
    recipe = parse_recipe(text.encode(), "tiny.toml")
    return list(jobs("tiny", recipe, Options(out=out, seeds=[0], settings=settings)))


@pytest.mark.parametrize(
    ("settings", "rates", "overrides"),
    [
        (["optimizer.lr.readout=0.1"], [{"units": 0.5, "head": 0.1}, {"units": 0.1, "head": 0.1}], None),
        (["rule.name=Backprop", "optimizer.lr.readout = 0.1"], [{"units": 0.1, "head": 0.1}] * 2, None),
        (["optimizer.lr={local=0.2, readout=0.1}", "rule.name=KernelizedBottleneck"],
         [{"units": 0.2, "head": 0.1}] * 2, None),
        (["optimizer.lr.local=0.2"], [{"units": 0.2, "head": 0.05}], ["optimizer.lr.units=0.2"]),
    ],
)  # fmt: skip
def test_settings_in_old_names_win_over_the_recipe(tmp_path, settings, rates, overrides):
    text = TINY if len(rates) == 2 else TINY.partition('[[row]]\nname = "blobs/backprop')[0]
    with pytest.warns(FutureWarning):
        found = configs_of(text, settings, tmp_path)
    assert [job.config["optimizer"]["lr"] for job in found] == rates
    assert overrides is None or found[0].overrides == overrides


def test_how_it_is_computed_may_be_set_in_old_names_too(tmp_path):
    network, _, (training, optimizer), _ = CASES["HSICMemory"]
    text = recipe_of("HSICMemory", network, training, optimizer)
    with pytest.warns(FutureWarning, match=r"training\.side_by_side is now training\.stacked"):
        (job,) = configs_of(text, ["training.side_by_side=false"], tmp_path)
    assert (job.config["training"]["stacked"], job.published) == (False, 90.0)
    with pytest.warns(FutureWarning, match=r"training\.hold is now"):
        (job,) = configs_of(text, ["training.hold=3"], tmp_path)
    assert (job.config["training"]["steps_per_sample"], job.published) == (3, None)


@pytest.mark.parametrize(
    ("words", "old", "new", "settings"),
    [
        ("optimizer.lr gives 'readout' and 'head'; leave out 'readout'", "head = 0.05",
         "head = 0.05, readout = 1.0", []),
        ("training gives hold and steps_per_sample; leave out hold", "epochs = 2",
         "epochs = 2, hold = 1, steps_per_sample = 1", []),
        (r"optimizer\.lr\.head is 0\.1 already; give it once", "", "",
         ["optimizer.lr.head=0.1", "optimizer.lr.readout=0.2"]),
    ],
)  # fmt: skip
def test_an_old_name_beside_its_new_one_is_refused(tmp_path, words, old, new, settings):
    with pytest.raises(WrongTypeError, match=words), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        configs_of(TINY.replace(old, new, 1) if old else TINY, settings, tmp_path)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("kib/table1", "mnist/backprop/plain"),
        ("kib/table1", "mnist/cosine/grouping"),
        ("kib/table2_small", "cifar10/cosine/sgd+divnorm"),
        ("kib/table2_small", "cifar10/layerwise/sgd+divnorm"),
        ("kib/online", "mnist/online, traces/grouping"),
        ("cim/mnist", "mnist/corinfomax/box"),
        ("wmh/xor", None),
    ],
)
def test_records_of_version_0_1_are_done(tmp_path, name, row):
    """Nothing is trained: of most of these data sets there are no files here."""
    paths = sorted((RESULTS / name).rglob("seed0.json") if row is None else [RESULTS / name / row / "seed0.json"])
    place = paths[0].relative_to(RESULTS)
    (tmp_path / place).parent.mkdir(parents=True)
    shutil.copy(paths[0], tmp_path / place)
    record, said = read_record(paths[0]), []
    settings = record.overrides or [f"training.precision={record.config['training']['precision']}"]
    options = Options(out=tmp_path, only=record.row, seeds=[0], settings=settings, tell=said.append)
    (found,) = run_recipe(name, load_recipe(name)[1], options).records
    assert found.model_dump() == record.model_dump()
    (line,) = said
    assert line.startswith(f"{name} {record.row} seed 0: done before, ")


def test_a_training_that_version_0_1_has_begun_is_not_gone_on_with(go, nowhere):
    folder = nowhere / "results" / "tiny" / "blobs" / "cosine" / "divnorm" / "seed0.checkpoint"
    shutil.copytree(Path(__file__).with_name("version_0_1") / "mlp", folder)
    (folder / "epoch0001" / "state.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"epoch0001 was not written by `fit`, perhaps by version 0\.1, .*delete"):
        go(only="blobs/cosine")
