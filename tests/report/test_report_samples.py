"""Score against samples seen, and the sweep over the memory."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from report_records import make_record, save, streamed

from infohebb.experiments.record import read_records
from infohebb.report.collect import sections
from infohebb.report.figures import section_figures
from infohebb.report.html import page
from infohebb.report.samples import samples_seen
from infohebb.report.series import series
from infohebb.report.sweep import memory_sweeps
from infohebb.report.together import methods_together

SIZES = (16, 2, 32, 4, 8)  # as files lie


def only(*records):
    (section,) = sections(records)
    return section


def words(drawing):
    return [element.text for element in ET.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text")]


def batch(row="mnist/batch/plain", seed=0, **more):
    record = streamed(row, seed, rule="KernelizedBottleneck", **{"points": 10, "apart": 60000, **more})
    record.config["training"]["batch"] = 100
    return record


def sweep(method="mnist/pub", sizes=SIZES, **more):
    more = {"rule": "HSICMemory", "recipe": "wmh/memory_sweep", "points": 2, **more}
    return [streamed(f"{method}/N={size}", score=80.0 + size, train=70.0 + size, **more) for size in sizes]


def test_standard_deviations_of_curves_are_the_sample_ones():
    runs = [make_record(seed=i, curves={"epoch": [1, 2], "a": values}) for i, values in enumerate(([1.0, 3.0], [4.0]))]
    runs[1].curves["a"].append(None)
    assert series(runs, "a").sd.tolist() == pytest.approx([np.std([1.0, 4.0], ddof=1), 0.0])


def test_a_stream_is_drawn_against_samples_with_the_batch_beside_it():
    records = [batch(), *(streamed(f"mnist/{form}/plain", seed) for form in ("trace", "two_point") for seed in (0, 1))]
    (drawing,) = samples_seen(only(*records)).drawings
    found = words(drawing)
    assert {"mnist: accuracy against samples seen", "samples seen", "test accuracy (%)"} <= set(found)
    assert {"batch", "trace", "two_point"} <= set(found)
    assert drawing.svg.count("fill-opacity: 0.18") == 2
    assert "± 1 s.d." in drawing.caption
    assert drawing.title in page(records)


@pytest.mark.parametrize(("apart", "ticks"), [(60000, {"10,000", "100,000", "500,000"}), (10000, {"20,000", "60,000"})])
def test_the_axis_is_logarithmic_over_more_than_a_decade(apart, ticks):
    (drawing,) = samples_seen(only(streamed(), batch(apart=apart))).drawings
    assert ticks <= set(words(drawing))


def test_a_point_before_learning_is_kept_where_the_axis_has_a_place_for_it():
    first, later = streamed(), batch()
    first.curves["samples"][0] = 0
    (drawing,) = samples_seen(only(first, later)).drawings
    assert "no place on the logarithmic axis" in drawing.caption
    (drawing,) = samples_seen(only(first)).drawings
    assert "0" in words(drawing)


def test_rows_that_see_as_many_samples_to_a_point_and_stream_nothing_have_no_such_panel():
    assert samples_seen(only(batch(), batch("mnist/backprop/plain"))).drawings == ()
    assert len(samples_seen(only(batch(), batch("mnist/backprop/plain", apart=6000))).drawings) == 1


def test_records_that_do_not_say_how_many_samples_have_no_such_panel():
    old = streamed()
    del old.curves["samples"]
    assert samples_seen(only(old, make_record(recipe="kib/online"))).drawings == ()
    assert len(samples_seen(only(old, batch(), streamed("mnist/trace/plain"))).drawings) == 1


def test_one_point_beside_a_curve_is_drawn():
    (drawing,) = samples_seen(only(streamed(), batch(points=1))).drawings
    assert "batch" in words(drawing)
    assert samples_seen(only(streamed(points=1))).drawings == ()


def test_data_sets_have_their_own_panels_and_modes_are_said_where_they_differ():
    rows = ("mnist/trace/plain", "mnist/trace/grouping+divnorm", "fashion_mnist/trace/plain")
    drawings = samples_seen(only(*map(streamed, rows))).drawings
    assert [drawing.title.partition(":")[0] for drawing in drawings] == ["mnist", "fashion_mnist"]
    assert {"trace/plain", "trace/grouping+divnorm"} <= set(words(drawings[0]))
    assert "trace" in words(drawings[1])


def test_epochs_of_other_lengths_are_not_laid_side_by_side():
    assert methods_together(only(streamed(), batch())).drawings == ()
    assert len(methods_together(only(streamed(), streamed("mnist/trace/plain"))).drawings) == 1


def test_a_sweep_has_a_map_for_either_split_with_sizes_in_order_and_numbers():
    group = memory_sweeps(only(*sweep()))
    titles = ["mnist, pub: test accuracy by memory", "mnist, pub: train accuracy by memory"]
    assert [drawing.title for drawing in group.drawings] == titles
    found = words(group.drawings[0])
    assert {"epoch", "effective batch N", "%", "1", "2"} <= set(found)
    assert [text for text in found if text in map(str, SIZES)][-5:] == ["2", "4", "8", "16", "32"]
    # the last points of the records, one decimal
    expected = {f"{record.curves['test_accuracy'][-1]:.1f}" for record in sweep()}
    assert expected <= set(found)
    assert "running" in group.drawings[1].caption
    assert "running" not in group.drawings[0].caption


def test_a_sweep_shows_means_over_seeds():
    records = [record for seed in (0, 1) for record in sweep(seed=seed)]
    (test, _) = memory_sweeps(only(*records)).drawings
    pair = [record.curves["test_accuracy"][-1] for record in records if record.row.endswith("N=32")]
    assert f"{sum(pair) / 2:.1f}" in words(test)
    assert "2 seeds" in test.caption


def test_each_data_set_and_method_has_its_own_maps():
    titles = [drawing.title for drawing in memory_sweeps(only(*sweep(), *sweep("cifar10/exact", (2, 4)))).drawings]
    assert len(titles) == 4
    assert "cifar10, exact: train accuracy by memory" in titles


def test_two_sizes_are_no_sweep_and_other_rows_stay_out():
    assert memory_sweeps(only(*sweep(sizes=(2, 4)))).drawings == ()
    section = only(*sweep(), streamed("mnist/backprop/plain", recipe="wmh/memory_sweep"))
    assert not any("backprop" in words(drawing) for drawing in memory_sweeps(section).drawings)


@pytest.mark.parametrize("points", [1, 2, 10, 11, 50])
def test_many_epochs_leave_room_for_numbers_and_the_last_is_among_them(points):
    (drawing, _) = memory_sweeps(only(*sweep(points=points))).drawings
    found = words(drawing)
    assert str(points) in found
    assert sum(bool(re.fullmatch(r"\d+\.\d", text or "")) for text in found) <= 5 * 10 + 12  # and the bar's


def test_a_hole_in_a_sweep_stays_empty():
    records = sweep(points=3)
    for key in ("epoch", "test_accuracy", "train_accuracy", "train_loss", "samples"):
        records[0].curves[key] = records[0].curves[key][:1]
    (drawing, _) = memory_sweeps(only(*records)).drawings
    assert not any("nan" in (text or "") for text in words(drawing))


def test_errors_make_a_sweep_without_percent():
    (drawing, _) = memory_sweeps(only(*sweep(quantity="error"))).drawings
    assert drawing.title == "mnist, pub: test error by memory"
    assert "%" not in words(drawing)


def test_a_sweep_is_not_told_again_size_by_size(tmp_path):
    for record in [*sweep(), *sweep("mnist/exact")]:
        save(tmp_path, record)
    (section,) = sections(read_records(tmp_path))
    assert [row.row.rpartition("=")[2] for row in section.rows[:5]] == ["2", "4", "8", "16", "32"]
    titles = [drawing.title for group in section_figures(section) for drawing in group.drawings]
    assert len(titles) == 5  # samples seen, and two maps of either method
    assert page(list(read_records(tmp_path))).count('by memory"') == 4
