"""The methods of a recipe in one picture: score against epoch, a panel for each data set and mode."""

import math
from collections.abc import Iterable

import matplotlib as mpl

from infohebb.report.curves import draw_curve
from infohebb.report.series import Series, samples_to_a_point, series
from infohebb.report.style import (
    LINES,
    LOOK,
    MARKERS,
    Drawing,
    Group,
    depths,
    epoch_axis,
    legend_below,
    plot_canvas,
    svg_text,
)
from infohebb.report.summary import Section, Summary
from infohebb.report.sweep import swept

BOTH = 4  # methods of whose training set, too, there is room for a curve
COLUMNS = 3  # of the legend
THIN = 1.1


def methods_together(section: Section) -> Group:
    """One drawing for each panel in which two methods or more have curves, of epochs that are as long for all."""
    found = {title: _curves(rows, section.measure.key) for title, rows in _panels(section).items()}
    drawings = [
        _drawing(section, title, curves)
        for title, curves in found.items()
        if len(curves) > 1 and len(samples_to_a_point(row.records for row, _ in curves)) < 2
    ]
    return Group("plots", tuple(drawings))


def _panels(section: Section) -> dict[str, list[Summary]]:
    """Rows that differ in their method, or in what a "+" adds to their mode; a sweep has its own picture."""
    panels: dict[str, list[Summary]] = {}
    elsewhere = {row.row for rows in swept(section).values() for row in rows.values()}
    for row in (row for row in section.rows if row.row not in elsewhere):
        panels.setdefault(f"{row.dataset}, {_mode(row)[0]}".removesuffix(", "), []).append(row)
    return panels


def _mode(row: Summary) -> tuple[str, str]:
    """What all methods of a panel share, and what this one adds to it."""
    head, plus, added = row.method.partition("/")[2].partition("+")
    return head, plus + added


def _curves(rows: list[Summary], key: str) -> list[tuple[Summary, Series]]:
    found = [(row, series(row.records, key)) for row in rows]
    return [(row, curve) for row, curve in found if curve is not None and len(curve.at) > 1]


def _drawing(section: Section, title: str, curves: list[tuple[Summary, Series]]) -> Drawing:
    with_training, shared = len(curves) <= BOTH and not section.measure.study, _shared(row for row, _ in curves)
    lines = math.ceil(len(curves) / COLUMNS)
    with mpl.rc_context(LOOK):
        figure, axes = plot_canvas(f"{title}: methods side by side", "epoch", section.measure.label, legend=lines)
        for position, (colour, (row, curve)) in enumerate(zip(depths(len(curves)), curves, strict=True)):
            look = {"markersize": 5.5, "linewidth": 1.5, "markevery": max(1, len(curve.at) // 8)}
            shape = MARKERS[position % len(MARKERS)]
            if with_training:
                training = series(row.records, section.measure.train_key)
                draw_curve(axes, training, "_", colour, LINES[1], "", linewidth=THIN)
            name = row.method.partition("/")[0] + ("" if shared else _mode(row)[1])
            draw_curve(axes, curve, name, colour, LINES[position // len(MARKERS) % 3], shape, **look)
        epoch_axis(axes, [epoch for _, curve in curves for epoch in curve.at])
        legend_below(figure, axes, columns=COLUMNS)
    name = f"methods of {section.title} {title} {section.measure.key}"
    return Drawing(title, svg_text(figure, name), _caption(section, curves, with_training=with_training))


def _shared(rows: Iterable[Summary]) -> bool:
    """Whether all add the same to their mode, so that it need not be said."""
    return len({_mode(row)[1] for row in rows}) == 1


def _caption(section: Section, curves: list[tuple[Summary, Series]], *, with_training: bool) -> str:
    held_out = section.measure.label if section.measure.study else f"{section.measure.split.capitalize()} set"
    words = [f"{held_out}; thin dashed lines: training set, while learning." if with_training else f"{held_out}."]
    if any(len(curve.runs) > 1 for _, curve in curves):
        words.append("Lines: mean over seeds; bands: smallest to largest.")
    return " ".join(words)
