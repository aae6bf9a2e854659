"""What the report shows of settling networks: their monitor as they learn, and their neurons' compartments."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from report_records import NEW, make_record, save

from infohebb.experiments.record import read_record
from infohebb.report.collect import sections
from infohebb.report.compartments import compartment_traces
from infohebb.report.figures import row_figures
from infohebb.report.html import page
from infohebb.report.monitor import information_curves, monitor_curves
from infohebb.report.style import depths

TITLES = [
    "Angle between forward and feedback weights",
    "Mean rate where the free phase ends",
    "Residual where the free phase ends",
]
PAIR = ["One neuron's compartments along the two phases", "Objective of each layer along the two phases"]


def summary(*records):
    return sections(records)[0].rows[0]


def words(drawing):
    return [element.text for element in ET.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text")]


def monitored(seed=0, epochs=4, angle=70.0, forward=-5.0, **more):
    """The record of a run of two hidden layers and an output."""
    names, at = [f"layers.{i}" for i in range(3)], list(range(epochs + 1))
    hidden = names[:2]
    lines = {
        "rate": {name: [0.1 * (i + 1)] * len(at) for i, name in enumerate(names)},
        "residual": {name: [10.0 ** -(i + 3)] * len(at) for i, name in enumerate(names)},
        "angle": {name: [90 - (90 - angle - i) * t / epochs for t in at] for i, name in enumerate(hidden)},
        "information": {name: [2.0 + t for t in at] for name in names},
        "forward": {name: [forward] * len(at) for name in names},
        "backward": {name: [1.0 + seed] * len(at) for name in names[1:]},
    }
    record = make_record("mnist/corinfomax/box", seed, epochs=epochs, blocks=(), recipe="cim/mnist", version=NEW)
    record.curves["monitor"] = {"epoch": at, **lines, **more}
    return record


def compartments(sweeps=40, onset=31, layers=3):
    """What an `.npz` holds of them."""
    rng = np.random.default_rng(0)
    parts = [
        f"compartments_{when}_{part}" for when in ("before", "after") for part in ("basal", "apical", "soma", "rate")
    ]
    place = np.repeat(np.arange(layers), 3)
    names = [f"layers.{i}, neuron {n}" for i, n in zip(place[:-3], range(50), strict=False)]
    return {
        "compartments_neuron": np.array(
            [*names, "output, neuron 0, the target", "output, neuron 1", "output, neuron 2"]
        ),
        "compartments_layer": place,
        "compartments_sweep": np.arange(1, sweeps + 1),
        "compartments_onset": np.array(onset),
        **{part: rng.normal(size=(sweeps, 3 * layers)) for part in parts},
        **{f"objective_{when}": rng.normal(size=(sweeps, layers)) for when in ("before", "after")},
    }


def row_with(folder, arrays):
    path = save(folder, monitored())
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    return sections([read_record(path)])[0].rows[0]


def test_a_monitored_row_has_figures_that_name_layers_units_and_references():
    drawings = monitor_curves(summary(monitored())).drawings
    assert [drawing.title for drawing in drawings] == TITLES
    angles, rates, residuals = map(words, drawings)
    assert {"angle (degrees)", "90°, no relation", "layer 1", "layer 2", "0", "30", "60", "90"} <= set(angles)
    assert "layer 3" not in angles, "nothing feeds back to the output from above"
    assert {"rate (no unit)", "layer 3"} <= set(rates)
    assert {"mean of |dr|/dt (no unit)", "layer 3", "0.001", "1e-05"} <= set(residuals)


def test_a_layer_looks_alike_in_all_of_them():
    angles, rates, _ = monitor_curves(summary(monitored())).drawings
    of_first, of_second, of_third = depths(3)
    assert all(colour in rates.svg for colour in (of_first, of_second, of_third))
    assert of_second in angles.svg
    assert of_third not in angles.svg


def test_information_has_a_figure_for_each_layer_and_lines_for_both_directions():
    group = information_curves(summary(monitored()))
    assert group.kind == "layers"
    titles = [f"Information of {a} and {b}" for a, b in (("layer 1", "input"), ("layer 2", "layer 1"))]
    assert [drawing.title for drawing in group.drawings][:2] == titles
    first, second, _ = map(words, group.drawings)
    assert {"information (nats)", "in all", "by forward weights"} <= set(first)
    assert "by feedback weights" not in first, "nothing feeds back to the input"
    assert "by feedback weights" in second
    assert group.drawings[1].svg.count("stroke-dasharray") >= 2
    assert "always the same" in group.caption


def test_information_far_below_zero_leaves_the_rest_to_be_seen():
    near, far = (information_curves(summary(monitored(forward=least))).drawings[1] for least in (-20.0, -20000.0))
    assert near.caption == ""
    assert far.caption == "Below −10 nats the axis is logarithmic."
    assert {"−10", "−100", "−1000", "−10000", "0", "5", "10"} <= set(words(far))


def test_bands_are_drawn_for_several_seeds():
    row = summary(monitored(0), monitored(1, angle=60.0))
    assert monitor_curves(row).drawings[0].svg.count("fill-opacity: 0.18") == 2
    assert all("2 seeds" in drawing.caption for drawing in monitor_curves(row).drawings)
    assert "2 seeds" in information_curves(row).caption


@pytest.mark.parametrize(
    "found", [None, {}, {"epoch": [0]}, {"epoch": [0], "angle": {"layers.0": [None]}, "rate": 3, "forward": None}]
)
def test_what_says_nothing_has_no_figure(found):
    row = summary(make_record(curves={"epoch": [1], "monitor": found}))
    assert monitor_curves(row).drawings == ()
    assert information_curves(row).drawings == ()


def test_numbers_that_are_missing_or_zero_refuse_nothing():
    zero = dict.fromkeys(("layers.0", "layers.1"), [0.0] * 5)
    gaps = {"layers.0": [None, 1.0, None, 2.0, 3.0]}
    row = summary(monitored(residual=zero, rate=zero, information=gaps))
    assert [drawing.title for drawing in monitor_curves(row).drawings] == TITLES[:2]
    assert len(information_curves(row).drawings) == 3


def test_a_neuron_of_each_layer_is_drawn_before_and_after_training(tmp_path):
    neurons, objectives = compartment_traces(row_with(tmp_path, compartments())).drawings
    assert [neurons.title, objectives.title] == PAIR
    found = words(neurons)
    assert {"before training", "after training", "sweep", "nudge begins", "potential, rate", "(no unit)"} <= set(found)
    assert {"basal dendrite", "apical dendrite", "soma", "rate"} <= set(found)
    assert {"layer 1, neuron 0", "layer 2, neuron 3", "output, neuron 0, the target"} <= set(found)
    assert {"objective (no unit)", "layer 1", "layer 2", "output"} <= set(words(objectives))
    assert "Seed 0" in neurons.caption


def test_a_single_sweep_refuses_nothing(tmp_path):
    assert len(compartment_traces(row_with(tmp_path, compartments(1, 1, 2))).drawings) == 2


@pytest.mark.parametrize("name", ["compartments_before_soma", "objective_after", "compartments_layer"])
def test_arrays_that_do_not_fit_have_no_figure(tmp_path, name):
    arrays = compartments()
    short, without = {**arrays, name: arrays[name][:-1]}, {key: arrays[key] for key in arrays if key != name}
    for place, some in enumerate((short, without)):
        assert compartment_traces(row_with(tmp_path / str(place), some)).drawings == ()


def test_the_page_shows_them_and_only_where_they_are(tmp_path):
    row = row_with(tmp_path, compartments())
    titles = [drawing.title for group in row_figures(row) for drawing in group.drawings]
    assert titles[:4] == ["Learning curves", *TITLES]
    assert titles[-2:] == PAIR
    text = page(list(row.records))
    assert text.count(f'aria-label="{TITLES[0]}"') == 1
    assert text == page(list(row.records))
    assert TITLES[0] not in page([make_record()])
