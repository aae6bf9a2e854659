"""What the report shows of a diagnosed run: two figures for its row, a table of the last angles, its command."""

import re
import xml.etree.ElementTree as ET

import pytest
from report_records import BLOCKS, LAYERS, diagnosed, make_record

from infohebb.report import markdown
from infohebb.report.alignment import alignment_curves
from infohebb.report.collect import sections
from infohebb.report.figures import row_figures
from infohebb.report.html import command, page
from infohebb.report.tables import RATIOS, alignment_heads, alignment_tables

TITLES = ["Angle to backprop's gradient", "Norm ratio to backprop's gradient"]
TEN = tuple(f"block{i}" for i in range(1, 11))
SHOWN = tuple(f"layer {i}" for i in range(1, 11))


def summary(*records):
    return sections(records)[0].rows[0]


def words(drawing):
    return [element.text for element in ET.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text")]


def test_a_diagnosed_row_has_two_figures_that_name_layers_units_and_references():
    angles, ratios = alignment_curves(summary(diagnosed())).drawings
    assert [angles.title, ratios.title] == TITLES
    for drawing in (angles, ratios):
        found = words(drawing)
        assert {"epoch", *LAYERS[1:], "readout"} <= set(found)
        assert "layer 1" not in found, "it has no gradient"
        assert "seeds" not in drawing.caption
    assert {"angle (degrees)", "90°, no relation", "0", "30", "60", "90"} <= set(words(angles))
    assert {"norm of rule / backprop (no unit)", "1, equal norms", "1", "10", "100", "1000"} <= set(words(ratios))


def test_figures_of_the_row_stand_after_the_learning_curves():
    titles = [drawing.title for group in row_figures(summary(diagnosed())) for drawing in group.drawings]
    assert titles[:4] == ["Learning curves", "Information plane", *TITLES]
    assert not set(TITLES) & {d.title for group in row_figures(summary(make_record())) for d in group.drawings}


def test_the_axis_begins_before_learning_and_holds_every_angle():
    (angles, _) = alignment_curves(summary(diagnosed(at=(0, 10, 20), angle=170.0))).drawings
    assert {"0", "10", "20", "180"} <= set(words(angles))


def test_bands_are_drawn_for_several_seeds():
    one, two = (alignment_curves(summary(*[diagnosed(seed=i, angle=80.0 + i) for i in range(n)])) for n in (1, 2))
    assert all("fill-opacity: 0.18" not in drawing.svg for drawing in one.drawings)
    assert all(drawing.svg.count("fill-opacity: 0.18") == 3 for drawing in two.drawings)
    assert all("2 seeds" in drawing.caption for drawing in two.drawings)


@pytest.mark.parametrize("at", [(0,), tuple(range(5)), tuple(range(101))])
def test_ten_layers_are_told_apart_by_colour_and_marker(at):
    angles, _ = alignment_curves(summary(diagnosed(at=at, layers=("first", *TEN, "readout")))).drawings
    assert {*SHOWN, "readout", "90°, no relation"} <= set(words(angles))
    marks = set(re.findall(r"<use [^>]*fill: (#[0-9a-f]{6})", angles.svg))
    assert len(marks - {"#9aa4af"}) == 11  # but for the ticks


def test_ratios_of_zero_leave_the_rest():
    _, ratios = alignment_curves(summary(diagnosed(layers=("a", "b"), ratio=0.02))).drawings
    assert {"0.1", "1", "10"} <= set(words(ratios))
    assert [drawing.title for drawing in alignment_curves(summary(diagnosed(ratio=0.0))).drawings] == TITLES[:1]


def test_a_ratio_of_zero_in_between_is_left_out():
    record = diagnosed(layers=("a", "b"))
    record.curves["alignment"]["norm_ratio"]["b"] = [0.5, 0.0, 2.0]
    _, ratios = alignment_curves(summary(record)).drawings
    marks = [float(y) for y in re.findall(r'<use [^>]* y="([^"]+)"', ratios.svg)]
    assert len(marks) > 5
    assert max(marks) < 300


def test_a_diagnosis_that_says_nothing_has_no_figure():
    for found in ({}, None, {"epoch": [0]}, {"epoch": [0], "angle": {"a": [None]}, "norm_ratio": {"a": [1.0, 2.0]}}):
        assert alignment_curves(summary(make_record(curves={"epoch": [1], "alignment": found}))).drawings == ()


def test_the_table_holds_the_last_angles_by_layer():
    records = [diagnosed(seed=0), diagnosed(seed=1, angle=82.0), make_record("mnist/backprop/plain")]
    (section,) = sections(records)
    assert alignment_heads(section) == ["row", "after epoch", *LAYERS, "readout"]
    # seeds 0 and 1: 80 + i + 1 and 82 + i + 1 at the last of three; s.d. of two that differ by 2 is the root of 2
    last = [f"{82 + i:.1f} ± 1.4" for i in range(1, 4)]
    assert alignment_tables(section)[0][1] == [["mnist/gaussian/grouping+divnorm", "4", "–", *last]]
    text = markdown(records)
    assert "Angle to backprop's gradient (degrees), when last measured:" in text
    assert "| row | after epoch | layer 1 | layer 2 | layer 3 | readout |" in text
    assert f"| `mnist/gaussian/grouping+divnorm` | 4 | – | {' | '.join(last)} |" in text


def test_norm_ratios_have_their_table():
    records = [diagnosed(seed=0, ratio=0.5), diagnosed(seed=1, ratio=0.5)]
    (section,) = sections(records)
    title, (line,) = alignment_tables(section)[1]
    ratios = [records[0].curves["alignment"]["norm_ratio"][layer][-1] for layer in (*BLOCKS[1:], "readout")]
    assert line[2:] == ["–", *(f"{ratio:.3g} ± 0" for ratio in ratios)]
    assert f"{RATIOS}, when last measured:" in markdown(records)
    assert title == RATIOS
    assert page(records).count("<h3>Norm ratio to backprop&#39;s gradient (rule / backprop, no unit)</h3>") == 1


def test_rows_of_other_depths_share_a_table_in_the_order_of_layers():
    records = [diagnosed("a/x/1", layers=("block1", "readout")), diagnosed("a/y/1", layers=(*TEN, "readout"))]
    (section,) = sections(records)
    assert alignment_heads(section)[2:] == [*SHOWN, "readout"]
    assert alignment_tables(section)[0][1][0][2:] == ["–"] * 10 + ["82.0"]


def test_nothing_is_said_of_angles_where_nothing_was_diagnosed():
    assert "Angle" not in markdown([make_record()])
    assert "Angle" not in page([make_record()])


def test_the_page_shows_figures_table_and_the_command():
    text = page([diagnosed()])
    assert text.count("<h3>Angle to backprop&#39;s gradient (degrees)</h3>") == 1
    assert "<td>83.0</td><td>84.0</td>" in text
    assert text.count('aria-label="Angle to backprop&#39;s gradient"') == 1
    assert "--seeds 0 --diagnose every=2</code>" in text


@pytest.mark.parametrize(("at", "option"), [((0, 5), "--diagnose every=5"), ((4, 6), "--diagnose every=2"), ((0,), "")])
def test_the_command_tells_how_often(at, option):
    assert command(summary(diagnosed(at=at))).partition("--seeds 0")[2].strip() == option


def test_layer_names_are_escaped():
    assert "<script" not in page([diagnosed(layers=("a", "<script>"))])
