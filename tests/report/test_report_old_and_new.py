"""Records of version 0.1 and those of `fit` give the same report, apart and side by side."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from report_records import BLOCKS, LAYERS, NEW, OLD, UNITS, WEIGHTS, alignment, make_record, save

import infohebb
from infohebb import rules
from infohebb.experiments.record import read_record
from infohebb.networks import plain
from infohebb.report import markdown, old_names
from infohebb.report.alignment import alignment_curves
from infohebb.report.collect import sections
from infohebb.report.figures import row_figures
from infohebb.report.html import command
from infohebb.report.old_names import with_new_names
from infohebb.report.series import rate_drops
from infohebb.training import Diagnose, renamed

NAMES = {OLD: (*BLOCKS, "readout"), NEW: (*WEIGHTS, "readout.weight")}
MONITORED = {"rate": {"layers.0": [0.1, 0.2], "layers.1": [0.2, 0.3]}, "angle": {"layers.0": [90.0, 80.0]}}


def a_record(version, seed=0):
    record = make_record(seed=seed, epochs=4, version=version)
    record.curves["alignment"] = alignment(layers=NAMES[version])
    record.curves["watched" if version == OLD else "monitor"] = {"epoch": [0, 4], **MONITORED}
    return record


def summary(*records):
    return sections(records)[0].rows[0]


def drawings(row):
    return [drawing for group in row_figures(row) for drawing in group.drawings]


def words(drawing):
    return [element.text for element in ET.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_same_run_gives_the_same_figures_and_tables(tmp_path):
    old, new = (read_record(save(tmp_path / v, a_record(v), pictures=True)) for v in (OLD, NEW))
    assert drawings(summary(old)) == drawings(summary(new))
    assert markdown([old]) == markdown([new])
    assert len(drawings(summary(new))) == 12  # curves, plane, two of monitor and of alignment, three objectives, Grams
    assert rate_drops(summary(old).records) == rate_drops(summary(new).records) == [3.0]


def test_seeds_of_both_versions_make_one_row():
    row = summary(a_record(OLD, 0), a_record(NEW, 1))
    assert all("2 seeds" in drawing.caption for drawing in alignment_curves(row).drawings)
    assert row.layers == (*UNITS, "readout")


def test_reading_changes_neither_file_nor_record(tmp_path):
    path = save(tmp_path, a_record(OLD))
    text, record = path.read_text(), read_record(path)
    found = with_new_names(record)
    assert path.read_text() == text
    assert record.model_dump(mode="json") == json.loads(text)
    assert [*found.curves["objective"]] == [*UNITS]
    assert found.path == path


@pytest.mark.parametrize(("version", "shown"), [(OLD, ["layer 1", "layer 2"]), (NEW, ["block1", "block2"])])
def test_only_records_of_version_0_1_are_renamed(tmp_path, version, shown):
    path = save(tmp_path, make_record(blocks=("block1", "block2"), version=version))
    np.savez(path.with_suffix(".npz"), gram_after_block1=np.eye(4))
    titles = [drawing.title for drawing in drawings(summary(read_record(path)))]
    assert titles[2:] == [*(f"Objective of {name}" for name in shown), f"Gram matrix of {shown[0]}"]


def test_names_of_settings_are_those_of_training():
    assert old_names.TRAINING == renamed.TRAINING
    for name, rule in rules.registry().items():
        for role in (*renamed.ROLES, "feedback"):
            assert old_names.new_roles(name, role) == renamed.new_roles(rule(), role), (name, role)


@pytest.mark.parametrize(
    ("rule", "rates", "renewed"),
    [
        ("KernelizedBottleneck", ["local", "readout"], ["units", "head"]),
        ("Backprop", ["readout"], ["units", "head"]),
        ("CorInfoMax", ["forward.1", "forward.2", "feedback.1"], ["forward.0", "forward.1", "feedback.0"]),
        ("CorInfoMax", ["forward.0", "forward.1", "feedback"], ["forward.0", "forward.1", "feedback"]),
    ],
)
def test_rates_have_the_roles_of_today(rule, rates, renewed):
    curves = {"epoch": [1], "learning_rate": {role: [0.1] for role in rates}}
    found = with_new_names(make_record(config={"rule": {"name": rule}}, curves=curves))
    assert [*found.curves["learning_rate"]] == renewed


def test_settings_have_the_names_of_today():
    training = {"hold": 3, "side_by_side": False, "batch": 1}
    optimizer = {"name": "sgd", "lr": {"local": 0.2, "readout": 0.1}, "weight_decay": 0.0}
    found = with_new_names(make_record(config={"training": training, "optimizer": optimizer}))
    assert found.config["training"] == {"steps_per_sample": 3, "stacked": False, "batch": 1}
    assert found.config["optimizer"] == {"name": "sgd", "lr": {"units": 0.2, "head": 0.1}, "weight_decay": 0.0}


def test_commands_have_the_settings_of_today():
    overrides = ["training.hold=2", "optimizer.lr.readout=1e-2", "training.epochs=2"]
    row = summary(make_record(config={"rule": {"name": "SignSymmetry"}}, overrides=overrides))
    sets = ["training.steps_per_sample=2", "optimizer.lr.units=1e-2", "optimizer.lr.head=1e-2", "training.epochs=2"]
    assert command(row).partition("--seeds 0 ")[2] == " ".join(f"--set '{setting}'" for setting in sets)


def test_a_study_keeps_its_own_names():
    curves = {"epoch": [1], "objective": [0.1], "watched": {"block1": [1.0]}, "learning_rate": {"local": [1.0]}}
    assert with_new_names(make_record(config={"study": {"name": "x"}}, curves=curves)).curves == curves


@pytest.mark.parametrize(("weight", "layer"), [
    ("layers.3.activity.linear.weight", "layers.3"), ("layers.0.activity.conv.weight", "layers.0"),
    ("readout.weight", "readout"), ("readout.0.weight", "readout"), ("layers.0.weight", "layers.0"),
    ("layers.0.conv1.weight", "layers.0.conv1"), ("fc.weight", "fc"), ("position", "position"),
])  # fmt: skip
def test_weights_are_called_by_their_layer(weight, layer):
    assert old_names.layer_of_weight(weight) == layer


def test_weights_that_would_share_a_name_keep_their_own():
    both = {"epoch": [0], "angle": {"a.weight": [1.0], "a.activity.linear.weight": [2.0]}}
    found = with_new_names(make_record(curves={"epoch": [1], "alignment": both}, version=NEW))
    assert found.curves["alignment"] == both


def trained(network, rule, **settings):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 12)).astype(np.float32), np.arange(60) % 3
    curves = infohebb.train(network, rule, (x, y, x, y), epochs=2, batch=20, progress=False, **settings)
    return make_record(curves=json.loads(json.dumps(curves)), version=NEW)


def test_curves_of_fit_have_all_figures():
    network, rates = plain.MLP(12, 3, (8, 8)), {"units": [0.1, 0.2], "head": 0.1}
    reference = Diagnose(rules.Backprop())
    record = trained(network, rules.KernelizedBottleneck(), diagnose=reference, optimizer={"name": "sgd", "lr": rates})
    found = {drawing.title: words(drawing) for drawing in drawings(summary(record))}
    alignments = ["Angle to backprop's gradient", "Norm ratio to backprop's gradient"]
    objectives = [f"Objective of {layer}" for layer in LAYERS[:2]]
    assert [*found] == ["Learning curves", "Information plane", *alignments, *objectives]
    assert {*LAYERS[:2], "readout"} <= set(found[alignments[0]])
    assert set(LAYERS[:2]) <= set(found["Information plane"])
    assert "| row | after epoch | layer 1 | layer 2 | readout |" in markdown([record])


def test_monitors_of_fit_have_all_figures():
    record = trained(infohebb.CorInfoMaxNetwork(12, 3, (8,)), rules.CorInfoMax())
    titles = [drawing.title for drawing in drawings(summary(record))]
    of_layers = [f"Information of layer {i} and {below}" for i, below in ((1, "input"), (2, "layer 1"))]
    where = [f"{what} where the free phase ends" for what in ("Mean rate", "Residual")]
    assert titles == ["Learning curves", "Angle between forward and feedback weights", *where, *of_layers]
