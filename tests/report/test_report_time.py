"""Pictures of what runs along time: the third factor as it is and as it is predicted, one neuron around onsets."""

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread
from report_records import make_record, save, study

from infohebb.errors import CorruptFileError
from infohebb.experiments.record import read_record, read_records
from infohebb.report.arrays import regular
from infohebb.report.collect import sections
from infohebb.report.figures import row_figures
from infohebb.report.html import page
from infohebb.report.third_factor import third_factors
from infohebb.report.traces import neuron_traces

STEPS = 60


def words(drawing):
    return [element.text for element in ET.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text")]


def factors(entries=5, time=None, predicted=None):
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(STEPS, entries)) * np.arange(1, entries + 1)
    return {
        "third_factor_exact": exact.astype(np.float16),
        "third_factor_predicted": (0.9 * exact if predicted is None else predicted).astype(np.float16),
        "third_factor_time": 5.0 * np.arange(STEPS) if time is None else time,
    }


def traces(onsets=6, **more):
    onset = np.zeros(STEPS, bool)
    onset[:: STEPS // onsets] = True
    pre, post = (np.sin(np.arange(STEPS) / rate) for rate in (5, 9))
    third = np.where(onset, np.nan, pre * post)
    found = {"trace_time": np.arange(STEPS) * 2.0, "trace_onset": onset, "trace_pre": pre, "trace_post": post}
    return {**found, "trace_third_factor": third, **more}


def row_with(folder, arrays, record=None):
    path = save(folder, record or study(final={"r2": 0.754, "r2_validation": 0.8}, recipe="wmh/reservoir"))
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    return sections([read_record(path)])[0].rows[0]


def test_many_entries_have_maps_and_the_three_that_move_most_have_lines(tmp_path):
    maps, lines = third_factors(row_with(tmp_path, factors(5))).drawings
    assert {"exact", "predicted", "time (ms)", "entry", "ξ", "1", "5"} <= set(words(maps))
    assert "Third factor, exact and predicted (R² 0.75)" in words(maps)
    assert {"ξ of entry 3", "ξ of entry 4", "ξ of entry 5", "exact", "predicted", "time (ms)"} <= set(words(lines))
    assert "ξ of entry 1" not in words(lines)
    assert "Of 5 entries the three" in lines.caption
    assert "Seed 0." in maps.caption


def test_few_entries_have_lines_alone(tmp_path):
    (lines,) = third_factors(row_with(tmp_path, factors(2))).drawings
    assert {"ξ of entry 1", "ξ of entry 2", "Third factor over time (R² 0.75)"} <= set(words(lines))
    assert "entries" not in lines.caption


def test_one_entry_may_come_without_its_axis(tmp_path):
    flat = {name: array.reshape(STEPS) for name, array in factors(1).items()}
    assert "ξ of entry 1" in words(third_factors(row_with(tmp_path, flat)).drawings[0])


def test_both_maps_have_the_colours_of_the_exact_one(tmp_path):
    arrays = factors(4, predicted=np.full((STEPS, 4), 1e3))
    (maps, _) = third_factors(row_with(tmp_path, arrays)).drawings
    codes = re.findall(r'base64,([^"]+)"', maps.svg)
    exact, predicted = (imread(io.BytesIO(base64.b64decode(code)), format="png") for code in codes[:2])
    assert exact.shape[:2] == (4, STEPS)
    brightest = exact[np.unravel_index(arrays["third_factor_exact"].T.argmax(), (4, STEPS))]
    assert np.allclose(predicted[..., :3], brightest[:3])


def test_the_strictest_explained_share_is_told_and_none_where_there_is_none(tmp_path):
    final = {"test_accuracy": 90.0, "train_accuracy": 91.0, "r2": 0.9, "r2_test": -7.94}
    lines = third_factors(row_with(tmp_path, factors(2), make_record(final=final))).drawings[0]
    assert lines.title == "Third factor over time (R² test −7.94)"
    lines = third_factors(row_with(tmp_path / "other", factors(2), make_record())).drawings[0]
    assert lines.title == "Third factor over time"


@pytest.mark.parametrize("maker", [factors, traces])
def test_uneven_times_are_counted_by_step(tmp_path, maker):
    arrays = maker()
    time = next(name for name in arrays if name.endswith("time"))
    arrays[time] = np.concatenate([np.arange(STEPS // 2), 500.0 + np.arange(STEPS // 2)])
    row = row_with(tmp_path, arrays)
    for drawing in (*third_factors(row).drawings, *neuron_traces(row).drawings):
        assert "recorded step" in words(drawing)
        assert "time (ms)" not in words(drawing)


def test_half_precision_leaves_times_even():
    assert regular((2000 + 4.0 * np.arange(500)).astype(np.float16).astype(float))
    assert not regular(np.array([0.0, 1.0, 2.0, 9.0]))


def test_a_neuron_has_three_axes_with_all_onsets(tmp_path):
    (drawing,) = neuron_traces(row_with(tmp_path, traces(6))).drawings
    assert {"presynaptic", "postsynaptic", "third factor", "(no unit)", "time (ms)"} <= set(words(drawing))
    assert words(drawing).count("stimulus onset") == 1
    assert drawing.svg.count("stroke: #5b6673") == 3 * 6 + 1  # and the legend
    assert drawing.caption == "Seed 0."


def test_of_many_onsets_the_first_are_shown(tmp_path):
    (drawing,) = neuron_traces(row_with(tmp_path, traces(20))).drawings
    assert drawing.svg.count("stroke: #5b6673") == 3 * 12 + 1
    assert "The first 12 onsets; 8 more were recorded." in drawing.caption


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"third_factor_exact": np.ones((3, 2))},
        {**factors(), "third_factor_time": np.arange(3.0)},
        {**factors(), "third_factor_predicted": np.ones((STEPS, 1))},
        {name: array[:0] for name, array in factors().items()},
        traces(trace_pre=np.ones(3)),
        {name: array[:0] for name, array in traces().items()},
    ],
)
def test_arrays_that_say_nothing_have_no_picture(tmp_path, arrays):
    row = row_with(tmp_path, arrays)
    assert third_factors(row).drawings == neuron_traces(row).drawings == ()


@pytest.mark.parametrize("steps", [1, 2])
def test_a_step_or_two_are_drawn(tmp_path, steps):
    row = row_with(tmp_path, {name: array[:steps] for name, array in {**factors(), **traces()}.items()})
    assert len(third_factors(row).drawings) == 2
    assert len(neuron_traces(row).drawings) == 1


def test_values_that_are_not_finite_are_left_out(tmp_path):
    arrays = {**factors(), "third_factor_predicted": np.full((STEPS, 5), np.nan)}
    assert all("nan" not in drawing.svg for drawing in third_factors(row_with(tmp_path, arrays)).drawings)


def test_one_seed_of_thirty_is_shown_the_first_that_has_the_arrays(tmp_path):
    for seed in range(30):
        path = save(tmp_path, study(seed=seed, final={"r2": 0.5}))
        if seed > 2:
            np.savez_compressed(path.with_suffix(".npz"), **factors(), **traces())
    row = sections(read_records(tmp_path))[0].rows[0]
    drawings = [drawing for group in row_figures(row) for drawing in group.drawings]
    assert len(drawings) == 3
    assert all("Seed 3." in drawing.caption for drawing in drawings)
    assert page(list(read_records(tmp_path))).count("<svg") == 4


def test_a_corrupt_file_is_named(tmp_path):
    row = row_with(tmp_path, factors())
    row.records[0].pictures.write_bytes(b"PK not a zip")
    with pytest.raises(CorruptFileError, match=r"seed0\.npz"):
        third_factors(row)
