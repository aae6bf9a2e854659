"""How each layer's gradient lies to backprop's as it learns: the angle between them, and the ratio of their norms."""

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from infohebb.report.curves import band_caption, draw_curve
from infohebb.report.series import Series, series
from infohebb.report.style import (
    FEW_EPOCHS,
    INK,
    LINES,
    LOOK,
    MARKERS,
    MUTED,
    Drawing,
    Group,
    depths,
    epoch_axis,
    legend_below,
    plot_canvas,
    powers_of_ten,
    svg_text,
)
from infohebb.report.summary import READOUT, Summary

COLUMNS = 4  # of the legend
TICK = 30  # degrees
MARKS = 8  # on one line, where epochs are many
WHAT = "Of each layer's weight, by its gradient on one fixed batch of training samples; epoch 0 is before learning."
SIDES = "0°: the same direction, 90°: no relation, above: opposed. A layer without a line has no gradient."
RATIO = "Its level alone says little, since each rule has learning rates of its own."


def alignment_curves(row: Summary) -> Group:
    """Two drawings, angle and norm ratio against epoch, one line per layer; none where no run was diagnosed."""
    drawings = (_angles(row), _norm_ratios(row))
    return Group("plots", tuple(drawing for drawing in drawings if drawing))


def _angles(row: Summary) -> Drawing | None:
    lines = _lines(row, "angle")
    if not lines:
        return None
    title = "Angle to backprop's gradient"
    with mpl.rc_context(LOOK):
        figure, axes = _canvas(title, "angle (degrees)", lines, (90.0, "90°, no relation"))
        largest = max(float(line.high.max()) for line in lines.values())
        axes.set_ylim(-4, max(100, TICK * math.ceil(largest / TICK) + 4))
        axes.yaxis.set_major_locator(MultipleLocator(TICK))
        _finish(figure, axes, lines)
    return Drawing(title, svg_text(figure, f"angles of {row.name}"), f"{WHAT} {SIDES} {band_caption(row)}".rstrip())


def _norm_ratios(row: Summary) -> Drawing | None:
    lines = {name: line for name, line in _lines(row, "norm_ratio").items() if (line.mean > 0).any()}
    if not lines:
        return None
    title = "Norm ratio to backprop's gradient"
    with mpl.rc_context(LOOK):
        figure, axes = _canvas(title, "norm of rule / backprop (no unit)", lines, (1.0, "1, equal norms"))
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(*_decades([line.mean for line in lines.values()]))
        powers_of_ten(axes.yaxis)
        _finish(figure, axes, lines)
    caption = f"{WHAT} {RATIO} {band_caption(row)}".rstrip()
    return Drawing(title, svg_text(figure, f"norm ratios of {row.name}"), caption)


def _lines(row: Summary, measure: str) -> dict[str, Series]:
    found = {name: _line(row, measure, name) for name in row.layers}
    return {name: line for name, line in found.items() if line is not None}


def _line(row: Summary, measure: str, layer: str) -> Series | None:
    return series(row.records, "alignment", measure, layer, at=("alignment", "epoch"))


def _canvas(title: str, ylabel: str, lines: dict[str, Series], reference: tuple[float, str]) -> tuple[Figure, Axes]:
    """A canvas with the reference as a dotted line and every layer's curve."""
    figure, axes = plot_canvas(title, "epoch", ylabel, legend=_legend_lines(lines))
    level, label = reference
    for position, (name, line) in enumerate(lines.items()):
        draw_curve(axes, line, name, *_look(name, position, lines), **_marks(line, position))
    axes.axhline(level, color=MUTED, linestyle=(0, (1, 1.6)), linewidth=1.6, label=label, zorder=1.5)
    return figure, axes


def _look(name: str, position: int, lines: dict[str, Series]) -> tuple[str, str, str]:
    """Blocks by depth as in the information plane: dark to light, neighbours told apart by their markers."""
    blocks = [layer for layer in lines if layer != READOUT]
    if name == READOUT:
        return INK, LINES[1], "p"
    return depths(len(blocks))[position], LINES[0], MARKERS[position % len(MARKERS)]


def _marks(line: Series, position: int) -> dict[str, object]:
    """At every epoch where these are few, else at some, which are not the same for neighbours."""
    step = 1 if len(line.at) <= FEW_EPOCHS else math.ceil(len(line.at) / MARKS)
    look = {"markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.4, "linewidth": 1.4}
    return {**look, "markevery": (position % step, step), "clip_on": False}


def _decades(values: list[np.ndarray]) -> tuple[float, float]:
    """Whole powers of ten around all values and 1."""
    known = np.concatenate([*values, np.ones(1)])
    known = np.log10(known[known > 0])
    return 10.0 ** min(math.floor(known.min() - 0.05), -1), 10.0 ** max(math.ceil(known.max() + 0.05), 1)


def _finish(figure: Figure, axes: Axes, lines: dict[str, Series]) -> None:
    epoch_axis(axes, [epoch for line in lines.values() for epoch in line.at])
    legend_below(figure, axes, columns=math.ceil((len(lines) + 1) / _legend_lines(lines)))


def _legend_lines(lines: dict[str, Series]) -> int:
    """Of at most four names each, the reference's among them."""
    return math.ceil((len(lines) + 1) / COLUMNS)
