"""How each layer's gradient lies to backprop's as it learns: the angle between them, and the ratio of their norms."""

import math

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MultipleLocator

from infohebb.report.curves import band_caption
from infohebb.report.layers import finish, layer_canvas
from infohebb.report.series import Series, series
from infohebb.report.style import LOOK, Drawing, Group, powers_of_ten, svg_text
from infohebb.report.summary import Summary

TICK = 30  # degrees
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
        figure, axes = layer_canvas(title, "angle (degrees)", lines, (90.0, "90°, no relation"))
        largest = max(float(line.high.max()) for line in lines.values())
        axes.set_ylim(-4, max(100, TICK * math.ceil(largest / TICK) + 4))
        axes.yaxis.set_major_locator(MultipleLocator(TICK))
        finish(figure, axes, lines)
    return Drawing(title, svg_text(figure, f"angles of {row.name}"), f"{WHAT} {SIDES} {band_caption(row)}".rstrip())


def _norm_ratios(row: Summary) -> Drawing | None:
    lines = {name: line for name, line in _lines(row, "norm_ratio").items() if (line.mean > 0).any()}
    if not lines:
        return None
    title = "Norm ratio to backprop's gradient"
    with mpl.rc_context(LOOK):
        figure, axes = layer_canvas(title, "norm of rule / backprop (no unit)", lines, (1.0, "1, equal norms"))
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(*_decades([line.mean for line in lines.values()]))
        powers_of_ten(axes.yaxis)
        finish(figure, axes, lines)
    caption = f"{WHAT} {RATIO} {band_caption(row)}".rstrip()
    return Drawing(title, svg_text(figure, f"norm ratios of {row.name}"), caption)


def _lines(row: Summary, measure: str) -> dict[str, Series]:
    found = {name: _line(row, measure, name) for name in row.layers}
    return {name: line for name, line in found.items() if line is not None}


def _line(row: Summary, measure: str, layer: str) -> Series | None:
    return series(row.records, "alignment", measure, layer, at=("alignment", "epoch"))


def _decades(values: list[np.ndarray]) -> tuple[float, float]:
    """Whole powers of ten around all values and 1."""
    known = np.concatenate([*values, np.ones(1)])
    known = np.log10(known[known > 0])
    return 10.0 ** min(math.floor(known.min() - 0.05), -1), 10.0 ** max(math.ceil(known.max() + 0.05), 1)
