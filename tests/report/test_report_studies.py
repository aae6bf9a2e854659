"""Records of studies, which train no network and find numbers of names of their own, and rows of many seeds."""

import io
import xml.etree.ElementTree as ET

import pytest
from report_records import make_record, save, study
from rich.console import Console

from infohebb.experiments.record import read_records
from infohebb.report import markdown, terminal, units
from infohebb.report.collect import sections
from infohebb.report.figures import across_rows, row_figures
from infohebb.report.html import command, page

LONG = {"r2": -7.9, "r2_validation": 0.76, "ridge": 1e-4, "units": 800.0, "frozen_accuracy": 91.5}


def lines_of(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def shown(records, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal(records))
    return console.export_text()


def test_a_study_has_a_column_for_each_number_that_it_found():
    head, _, line = lines_of(markdown([study(seed=0), study(seed=1), study(seed=2)]))
    assert head == ["row", "cosine, mean ± s.d. (n)", "published", "gap", "scale", "time", "peak memory"]
    # 0.99, 0.991, 0.992: mean 0.991, s.d. 0.001
    assert line[:5] == ["`gaussian/two_point/plain`", "0.9910 ± 0.0010 (3)", "–", "–", "1.010 ± 0.0"]


def test_the_published_number_of_a_study_is_held_against_its_first():
    (section,) = sections([study(final={"r2": 0.75, "r2_validation": 0.76}, published=0.7)])
    assert section.rows[0].gap == pytest.approx(0.05)
    assert section.rows[0].standing == ""
    assert lines_of(markdown([study(final={"r2": 0.75, "r2_validation": 0.76}, published=0.7)]))[2][1:5] == [
        "0.7500 (1)", "0.7", "+0.050", "0.7600"
    ]  # fmt: skip


def test_rows_of_a_study_that_lack_a_number_have_a_dash():
    records = [study("a/x/1", final={"r2": 0.5}), study("a/y/1", final={"r2": 0.4, "lag": 3.0})]
    assert [line[4] for line in lines_of(markdown(records))[:4]] == ["lag", "---:", "–", "3.000"]


def test_only_accuracies_are_in_percent():
    text = markdown([study(final=LONG)])
    assert "frozen accuracy (%)" in text
    assert "91.50" in text
    assert "| R², mean ± s.d. (n) |" in text
    assert "−7.900 (1)" in text
    assert text.count("%") == 1


def test_other_numbers_of_a_trained_network_have_columns_too():
    record = make_record(final={"test_accuracy": 90.0, "train_accuracy": 91.0, "r2": 0.7})
    head, _, line = lines_of(markdown([record, make_record("mnist/backprop/plain")]))[:3]
    assert head[4:6] == ["train accuracy (%)", "R²"]
    assert line[4:6] == ["91.00", "0.7000"]
    assert "90.00" in shown([record])
    assert "R²" in page([record])


def test_studies_stand_in_a_section_of_their_own_after_what_was_trained():
    records = [study(), study(final={"r2": 0.5}, row="a/b/c"), make_record(recipe="kib/online")]
    titles = [section.title for section in sections(records)]
    assert titles == ["kib/online", "kib/online (cosine)", "kib/online (R²)"]


def test_a_study_on_the_validation_split_is_kept_apart(tmp_path):
    path = save(tmp_path, study(published=1.0))
    path.rename(path.with_name("seed0.validation.json"))
    save(tmp_path, study(published=1.0))
    found = sections(read_records(tmp_path))
    assert [(section.title, section.has_published) for section in found] == [
        ("kib/online (cosine)", True),
        ("kib/online (cosine) (validation split)", False),
    ]
    assert command(found[1].rows[0]).endswith("--validate")


@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_shows_a_study_with_names_whole(width):
    records = [study(seed=i, final={name: value + i for name, value in LONG.items()}) for i in range(3)]
    text = shown(records, width)
    assert "−6.900 ± 1.0 (3)" in text
    assert "In the report, too: units, frozen accuracy" in " ".join(text.split())
    assert "/two_point" in text
    assert "gap" not in text
    assert "gap" in shown([study(published=1.0)], width)


def test_the_page_of_studies_assumes_no_network_and_no_rule():
    text = page([study(seed=i, published=1.0) for i in range(2)])
    assert "kib/online (cosine)" in text
    assert "0.9905 ± 0.00071 (2), cosine<" in text
    assert "final accuracy" not in text
    assert "green" not in text
    assert "infohebb run kib/online --only &#39;gaussian/two_point/plain&#39; --seeds 0,1<" in text


def test_figures_of_studies_name_the_number_as_it_is():
    curves = {"epoch": [1, 2, 3], "cosine": [0.5, 0.9, 0.99]}
    (section,) = sections([study(published=1.0, curves=curves)])
    words = [element.text for element in ET.fromstring(across_rows(section).svg).iter() if element.text]
    assert {"cosine", "measured − published"} <= set(words)
    (group,) = row_figures(section.rows[0])
    words = [element.text for element in ET.fromstring(group.drawings[0].svg).iter() if element.text]
    assert {"Learning curves", "cosine", "epoch", "published 1"} <= set(words)
    assert not any("accuracy" in word or word in ("test", "%") for word in words)


def test_thirty_seeds_are_told_in_words():
    records = [make_record(seed=i, score=95 + i / 10, wall_seconds=100.0 + i, commit=f"c{i}") for i in range(30)]
    text = page(records)
    assert "96.45 ± 0.88 (30)" in text
    assert "1 m 40 s to 2 m 09 s, mean 1 m 54 s" in text
    assert "c0; c1; c2; c3; c4; and 25 more" in text
    assert "<dd>0–29</dd>" in text


def test_a_few_runs_are_told_one_by_one():
    assert "10 s; 20 s; 30 s<" in page([make_record(seed=i, wall_seconds=10.0 * (i + 1)) for i in range(3)])


def test_numbers_without_a_unit():
    assert [units.score(value, "r2") for value in (0.5, -7.94, 1234.0, 21345.6, 0.0)] == [
        "0.5000", "−7.940", "1234", "21346", "0.000"
    ]  # fmt: skip
    assert units.published(-8.0, "r2") == "−8"
    assert [units.deviation(value, "steps") for value in (123.4, 12.0, 0.012)] == ["123", "12", "0.012"]
    assert [units.named(key) for key in ("r2_test", "test_accuracy", "scale")] == [
        "R² test",
        "test accuracy (%)",
        "scale",
    ]
