"""Sweeps over one number."""

import pytest
from report_records import make_record

from infohebb.report.collect import sections
from infohebb.report.numbers import as_number, number_sweeps


def rows(names):
    return [make_record(row=name, published=97.0 if "step" in name else None) for name in names]


def test_rows_that_end_in_a_number_make_a_sweep_and_others_do_not():
    names = [f"mnist/{method}/{value}" for method in ("gain", "gain, slow") for value in ("1e-3", "1e-1", "1")]
    (section,) = sections([*rows(names), *rows(["mnist/other/box", "mnist/step/0.1", "mnist/step/0.2"])])
    (drawing,) = number_sweeps(section).drawings
    assert "by gain" in drawing.title
    assert "gain, slow" in drawing.svg
    assert drawing.caption.startswith("After ")


def test_published_numbers_are_drawn():
    (section,) = sections(rows([f"mnist/step/{value}" for value in ("0.05", "0.1", "0.15")]))
    (drawing,) = number_sweeps(section).drawings
    assert "Diamonds: published" in drawing.caption


@pytest.mark.parametrize(("mode", "value"), [["1e-3", 0.001], ["box", None], ["0", None], ["", None]])
def test_modes_are_numbers_or_words(mode, value):
    assert as_number(mode) == value
