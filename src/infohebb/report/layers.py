"""What figures with one line per layer share: their looks, and axes with a line to hold them against."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from infohebb.report import units
from infohebb.report.curves import draw_curve
from infohebb.report.series import Series
from infohebb.report.style import (
    FEW_EPOCHS,
    INK,
    LINES,
    MARKERS,
    MUTED,
    depths,
    epoch_axis,
    legend_below,
    plot_canvas,
)
from infohebb.report.summary import READOUT

COLUMNS = 4  # of the legend
MARKS = 8  # on one line, where epochs are many


def layer_canvas(
    title: str,
    ylabel: str,
    lines: dict[str, Series],
    reference: tuple[float, str] | None = None,
    layers: Sequence[str] = (),
) -> tuple[Figure, Axes]:
    """A canvas with every layer's curve, and the reference as a dotted line.

    Looks are told by the place among all `layers`, which are those that have a curve if not given.
    """
    names = [*map(units.layer, lines), *([reference[1]] if reference else [])]
    figure, axes = plot_canvas(title, "epoch", ylabel, legend=_rows(names))
    layers = layers or list(lines)
    for name, line in lines.items():
        position = layers.index(name)
        draw_curve(axes, line, units.layer(name), *_look(name, position, layers), **_marks(line, position))
    if reference:
        axes.axhline(reference[0], color=MUTED, linestyle=(0, (1, 1.6)), linewidth=1.6, label=reference[1], zorder=1.5)
    return figure, axes


def finish(figure: Figure, axes: Axes, lines: dict[str, Series]) -> None:
    """The axis of epochs, and the legend below."""
    epoch_axis(axes, [epoch for line in lines.values() for epoch in line.at])
    names = axes.get_legend_handles_labels()[1]
    legend_below(figure, axes, columns=math.ceil(len(names) / _rows(names)))


def _look(name: str, position: int, layers: Sequence[str]) -> tuple[str, str, str]:
    """Layers by depth as in the information plane: dark to light, neighbours told apart by their markers."""
    if name == READOUT:
        return INK, LINES[1], "p"
    below = [layer for layer in layers if layer != READOUT]
    return depths(len(below))[position], LINES[0], MARKERS[position % len(MARKERS)]


def _marks(line: Series, position: int) -> dict[str, object]:
    """At every epoch where these are few, else at some, which are not the same for neighbours."""
    step = 1 if len(line.at) <= FEW_EPOCHS else math.ceil(len(line.at) / MARKS)
    look = {"markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.4, "linewidth": 1.4}
    return {**look, "markevery": (position % step, step), "clip_on": False}


def _rows(names: list[str]) -> int:
    """Of the legend, of at most four names each."""
    return math.ceil(len(names) / COLUMNS)
