import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread
from report_records import LAYERS, make_record, save, save_pictures

from infohebb.errors import CorruptFileError
from infohebb.experiments.record import read_record
from infohebb.report.collect import sections
from infohebb.report.curves import learning_curve, objectives
from infohebb.report.figures import across_rows, methods_together, row_figures
from infohebb.report.grams import colour_limits, gram_matrices
from infohebb.report.html import page
from infohebb.report.plane import information_plane
from infohebb.report.png import palette_png
from infohebb.report.series import rate_drops, series
from infohebb.report.style import DARK


def summary(*records):
    return sections(records)[0].rows[0]


def words(drawing):
    """The texts of a figure; parsing fails where the SVG is not well formed."""
    return [element.text for element in ET.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text")]


def test_series_align_seeds_by_epoch_and_know_what_is_missing():
    short = make_record(seed=0, curves={"epoch": [1, 2], "test_accuracy": [10.0, 20.0]})
    long = make_record(seed=1, curves={"epoch": [1, 2, 3], "test_accuracy": [30.0, None, 50.0]})
    found = series([short, long], "test_accuracy")
    assert found.at.tolist() == [1, 2, 3]
    assert found.mean.tolist() == [20.0, 20.0, 50.0]
    assert found.low.tolist() == [10.0, 20.0, 50.0]
    assert found.high.tolist() == [30.0, 20.0, 50.0]


@pytest.mark.parametrize(
    "curves", [{}, {"epoch": [1]}, {"epoch": [1, 2], "test_accuracy": [1.0]}, {"epoch": [1], "test_accuracy": [None]}]
)
def test_curves_that_say_nothing_are_none(curves):
    assert series([make_record(curves=curves)], "test_accuracy") is None


def test_rate_drops_are_the_epochs_of_a_lower_rate():
    assert rate_drops([make_record(epochs=10)]) == [7.0]
    falling = {"epoch": list(range(1, 31)), "learning_rate": {"local": [0.9**i for i in range(30)]}}
    assert rate_drops([make_record(curves=falling)]) == []


def test_learning_curve_names_its_lines_and_axes():
    found = words(learning_curve(summary(make_record(published=98.1))))
    assert {"Learning curves", "epoch", "accuracy (%)", "test", "train (running)", "published 98.1"} <= set(found)


def test_learning_curve_of_errors_and_of_validation():
    errors = words(learning_curve(summary(make_record(score=0.02, train=0.02, published=None, quantity="error"))))
    assert "mean squared error" in errors
    assert not any("published" in text for text in errors)
    assert "validation" in words(learning_curve(summary(make_record(split="validation"))))


def test_the_caption_speaks_of_train_values_only_where_they_are_drawn():
    with_train = learning_curve(summary(make_record()))
    without = learning_curve(summary(make_record(curves={"epoch": [1, 2], "test_accuracy": [90.0, 95.0]})))
    assert "running" in with_train.caption
    assert "running" not in without.caption
    assert "train (running)" not in words(without)


def test_bands_are_drawn_for_several_seeds_only():
    one, two = (learning_curve(summary(*[make_record(seed=i) for i in range(n)])) for n in (1, 2))
    assert "fill-opacity: 0.18" not in one.svg
    assert two.svg.count("fill-opacity: 0.18") == 2
    assert "2 seeds" in two.caption


def test_one_epoch_is_marked_where_a_line_would_be_invisible():
    one, many = (learning_curve(summary(make_record(epochs=n))).svg for n in (1, 50))
    marks = re.compile(rf"<use [^>]*fill: {DARK}")
    assert len(marks.findall(one)) == 2  # the epoch, and the line's name in the legend
    assert not marks.findall(many)


def test_one_epoch_has_a_place_in_the_plane():
    assert set(LAYERS) <= set(words(information_plane(summary(make_record(epochs=1)))))


def test_objectives_have_one_drawing_per_layer_with_all_terms():
    group = objectives(summary(make_record()))
    assert [drawing.title for drawing in group.drawings] == [f"Objective of {name}" for name in LAYERS]
    labels = {"epoch", "value (no unit)", "objective", "compression, pHSIC(K, K)", "relevance, pHSIC(Y, K)"}
    assert labels <= set(words(group.drawings[0]))
    assert "γ = 2." in group.caption


def test_the_plane_has_one_trajectory_per_layer():
    drawing = information_plane(summary(make_record()))
    assert {"compression, pHSIC(K, K) (no unit)", "relevance, pHSIC(Y, K) (no unit)", *LAYERS} <= set(words(drawing))


def test_a_logarithmic_axis_has_plain_numbers():
    terms = {"compression": [1.0, 0.05, 0.005], "relevance": [0.1, 0.2, 0.3], "objective": [0.8, -0.3, -0.5]}
    row = summary(make_record(curves={"epoch": [1, 2, 3], "objective": {"block1": terms}}))
    found = words(information_plane(row))
    assert {"0.01", "0.1", "1"} <= set(found)
    assert not any("$" in text for text in found)


def test_backprop_has_learning_curves_alone():
    groups = row_figures(summary(make_record("mnist/backprop/plain", blocks=())))
    assert [drawing.title for group in groups for drawing in group.drawings] == ["Learning curves"]


def test_records_without_curves_have_no_figures():
    assert row_figures(summary(make_record(curves={}))) == []


def test_a_layer_without_relevance_keeps_its_objective():
    curves = {"epoch": [1, 2], "objective": {"block1": {"objective": [1.0, 0.5]}}}
    row = summary(make_record(curves=curves))
    assert information_plane(row) is None
    assert "relevance, pHSIC(Y, K)" not in words(objectives(row).drawings[0])


def test_gram_matrices_show_before_and_after_with_classes(tmp_path):
    row = summary(read_record(save(tmp_path, make_record(), pictures=True)))
    group = gram_matrices(row)
    assert [drawing.title for drawing in group.drawings] == [f"Gram matrix of {name}" for name in LAYERS]
    found = words(group.drawings[0])
    assert {"before training", "after training", "sample, by class", "K"} <= set(found)
    assert [found.count(str(name)) for name in range(10)] == [4] * 10  # two matrices, two axes


def test_gram_matrices_without_labels_or_partner(tmp_path):
    path = save(tmp_path, make_record())
    np.savez(path.with_suffix(".npz"), gram_after_block1=np.eye(4, dtype=np.float16))
    (drawing,) = gram_matrices(summary(read_record(path))).drawings
    assert "after training" in words(drawing)
    assert "before training" not in words(drawing)


def test_a_corrupt_picture_file_is_named(tmp_path):
    path = save(tmp_path, make_record())
    path.with_suffix(".npz").write_bytes(b"PK not a zip")
    with pytest.raises(CorruptFileError, match=r"seed0\.npz"):
        gram_matrices(summary(read_record(path)))


def test_colour_limits_leave_out_the_diagonal_and_what_is_not_finite():
    one, other = np.full((3, 3), 9.0), np.full((3, 3), 9.0)
    one[~np.eye(3, dtype=bool)] = [0.1, 0.2, 0.3, 0.4, np.inf, np.nan]
    other[~np.eye(3, dtype=bool)] = [0.5, -0.2, 0.3, 0.3, 0.3, 0.3]
    assert colour_limits([one, other]) == (-0.2, 0.5)
    assert colour_limits([np.eye(2)]) == (-0.5, 0.5)
    assert colour_limits([np.ones((1, 1))]) == (-0.5, 0.5)


def test_palette_png_keeps_every_pixel():
    indices = np.array([[0, 1, 2], [2, 1, 0]])
    colours = np.array([[0, 10, 20], [100, 110, 120], [255, 0, 255]])
    pixels = imread(io.BytesIO(palette_png(indices, colours)), format="png")
    assert np.array_equal(np.rint(pixels[..., :3] * 255).astype(int), colours[indices])


def test_gram_images_are_the_matrices(tmp_path):
    path = save(tmp_path, make_record())
    labels = np.repeat([0, 1], 4)
    after = np.where(labels[:, None] == labels, 1.0, 0.0)
    np.savez(path.with_suffix(".npz"), labels=labels, gram_after_block1=after)
    (drawing,) = gram_matrices(summary(read_record(path))).drawings
    code = drawing.svg.split("base64,")[1].split('"')[0]
    pixels = imread(io.BytesIO(base64.b64decode(code)), format="png")
    bright, dark = pixels[0, 1, :3], pixels[0, 7, :3]
    assert pixels.shape[:2] == (8, 8)
    assert bright.sum() > dark.sum()
    expected = np.where(after[..., None] == 1, bright, dark)
    assert np.allclose(pixels[..., :3], expected)


def test_rows_side_by_side_name_rows_times_and_memory(folder):
    section = sections([make_record(), make_record("mnist/backprop/<$x$>", blocks=())])[0]
    found = words(across_rows(section))
    assert {
        "mnist/gaussian/grouping+divnorm",
        "mnist/backprop/<$x$>",
        "3 m 20 s",
        "512 MiB",
        "measured",
        "published",
    } <= set(found)
    assert {
        "Measured and published",
        "Gap",
        "measured − published (points)",
        "test accuracy (%)",
        "Time",
        "Memory",
    } <= set(found)


def test_rows_side_by_side_show_a_gap_only_where_there_is_one():
    for record in (make_record(published=None), make_record(split="validation")):
        assert "Gap" not in words(across_rows(sections([record])[0]))


def test_rows_side_by_side_without_scores():
    found = words(across_rows(sections([make_record(final={}, published=None, wall_seconds=0.0)])[0]))
    assert "0.0 s" in found
    assert "measured" not in found


def test_figures_are_deterministic_and_share_no_id(tmp_path):
    path = save(tmp_path, make_record())
    save_pictures(path.with_suffix(".npz"))
    row = summary(read_record(path))
    once, again = ([d.svg for group in row_figures(row) for d in group.drawings] for _ in range(2))
    assert once == again
    ids = [element.get("id") for svg in once for element in ET.fromstring(svg).iter() if element.get("id")]
    assert len(ids) > 10
    assert len(ids) == len(set(ids))


def test_every_reference_of_a_figure_is_answered():
    svg = learning_curve(summary(make_record())).svg
    root = ET.fromstring(svg)
    ids = {element.get("id") for element in root.iter()}
    targets = [element.get("{http://www.w3.org/1999/xlink}href") for element in root.iter()]
    clips = [element.get("clip-path") for element in root.iter()]
    used = {target[1:] for target in targets if target} | {clip[5:-1] for clip in clips if clip}
    assert len(used) >= 2
    assert used <= ids


def test_methods_of_one_data_set_and_mode_share_a_panel():
    rows = ("cifar10/backprop/1x", "cifar10/backprop/1x+divnorm", "cifar10/cosine/1x+divnorm", "cifar10/cosine/2x")
    (section,) = sections([make_record(row, seed) for row in rows for seed in (0, 1)])
    (panel,) = methods_together(section).drawings  # one row alone is no comparison
    assert {"cifar10, 1x: methods side by side", "backprop", "backprop+divnorm", "cosine+divnorm"} <= set(words(panel))
    assert panel.caption.startswith("Test set; thin dashed lines: training set")
    assert "bands: smallest to largest" in panel.caption
    assert "methods side by side" in page([make_record(row) for row in rows])


def test_many_methods_leave_no_room_for_training_curves_and_do_not_say_what_all_share():
    rows = [f"cifar10/m{i}/sgd+divnorm" for i in range(10)]
    (panel,) = methods_together(sections([make_record(row) for row in rows])[0]).drawings
    assert {"cifar10, sgd: methods side by side", "m0", "m9"} <= set(words(panel))
    assert panel.caption == "Test set."


def test_rows_without_curves_have_no_panel():
    rows = [make_record(f"cifar10/m{i}/sgd", epochs=1) for i in range(3)]
    assert methods_together(sections(rows)[0]).drawings == ()
