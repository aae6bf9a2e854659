"""What a rule measures of a settling network as it learns: angles of its weights, information between layers, rest."""

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator

from infohebb.report import units
from infohebb.report.curves import band_caption, draw_curve
from infohebb.report.layers import finish, layer_canvas
from infohebb.report.series import Series, series
from infohebb.report.style import (
    DARK,
    LIGHT,
    LINES,
    LOOK,
    MARKERS,
    MIDDLE,
    MUTED,
    PER_LAYER,
    Drawing,
    Group,
    epoch_axis,
    legend_below,
    plot_canvas,
    powers_of_ten,
    svg_text,
)
from infohebb.report.summary import Summary, in_order

TICK = 30  # degrees
FAR = 20.0  # times the information above 0: from as far below 0 the axis is logarithmic there
WHEN = "On training samples that are always the same; epoch 0 is before learning."
KINDS = {
    "information": ("in all", DARK, LINES[0], MARKERS[0]),
    "forward": ("by forward weights", MIDDLE, LINES[1], MARKERS[1]),
    "backward": ("by feedback weights", LIGHT, LINES[2], MARKERS[2]),
}
CAPTURED = (
    "Correlative information between the rates of a layer and of the one below where the free phase ends, and how much "
    "of it each direction's weights capture, which is less than nothing where they predict worse than 0 does."
)


def monitor_curves(row: Summary) -> Group:
    """Angles of forward and feedback weights, mean rates, what is left to settle; none where no run has a monitor."""
    drawings = (_angles(row), _rates(row), _residuals(row))
    return Group("plots", tuple(drawing for drawing in drawings if drawing))


def information_curves(row: Summary) -> Group:
    """One drawing per layer: the information between it and the one below, and what is captured of it."""
    names = in_order(*(_lines(row, measure) for measure in KINDS))
    drawings = tuple(_information(row, name, _below(name, names)) for name in names)
    return Group("layers", drawings, f"{CAPTURED} {WHEN} {band_caption(row)}".rstrip())


def _angles(row: Summary) -> Drawing | None:
    lines = _lines(row, "angle")
    if not lines:
        return None
    title = "Angle between forward and feedback weights"
    with mpl.rc_context(LOOK):
        figure, axes = layer_canvas(title, "angle (degrees)", lines, (90.0, "90°, no relation"), _layers(row))
        largest = max(float(line.high.max()) for line in lines.values())
        axes.set_ylim(-4, max(100, TICK * math.ceil(largest / TICK) + 4))
        axes.yaxis.set_major_locator(MultipleLocator(TICK))
        finish(figure, axes, lines)
    words = "Between the weights by which the next layer reads a hidden layer and those that feed back to it."
    caption = f"{words} 0°: the same but for scale. Epoch 0 is before learning. {band_caption(row)}".rstrip()
    return Drawing(title, svg_text(figure, f"weight angles of {row.name}"), caption)


def _rates(row: Summary) -> Drawing | None:
    lines = _lines(row, "rate")
    if not lines:
        return None
    title = "Mean rate where the free phase ends"
    with mpl.rc_context(LOOK):
        figure, axes = layer_canvas(title, "rate (no unit)", lines)
        axes.set_ylim(0, 1.08 * max(float(line.high.max()) for line in lines.values()) or 1)
        finish(figure, axes, lines)
    caption = f"Over a layer's neurons. {WHEN} {band_caption(row)}".rstrip()
    return Drawing(title, svg_text(figure, f"rates of {row.name}"), caption)


def _residuals(row: Summary) -> Drawing | None:
    lines = {name: line for name, line in _lines(row, "residual").items() if (line.mean > 0).any()}
    if not lines:
        return None
    title = "Residual where the free phase ends"
    with mpl.rc_context(LOOK):
        figure, axes = layer_canvas(title, "mean of |dr|/dt (no unit)", lines)
        axes.set_yscale("log", nonpositive="mask")
        known = np.log10(np.concatenate([line.mean[line.mean > 0] for line in lines.values()]))
        axes.set_ylim(10.0 ** math.floor(known.min() - 0.05), 10.0 ** math.ceil(known.max() + 0.05))
        powers_of_ten(axes.yaxis)
        finish(figure, axes, lines)
    caption = f"How fast rates would still move: 0 is at rest. {WHEN} {band_caption(row)}".rstrip()
    return Drawing(title, svg_text(figure, f"residuals of {row.name}"), caption)


def _information(row: Summary, name: str, below: str) -> Drawing:
    found = {measure: series(row.records, "monitor", measure, name, at=("monitor", "epoch")) for measure in KINDS}
    curves = [curve for curve in found.values() if curve is not None]
    title = f"Information of {units.layer(name)} and {units.layer(below)}"
    with mpl.rc_context(LOOK):
        figure, axes = plot_canvas(title, "epoch", "information (nats)", width=PER_LAYER, legend=2)
        for measure, (label, colour, line, shape) in KINDS.items():
            draw_curve(axes, found[measure], label, colour, line, shape)
        axes.axhline(0, color=MUTED, linestyle=(0, (1, 1.6)), linewidth=1.2, zorder=1.5)
        far = _far(axes, curves)
        epoch_axis(axes, [epoch for curve in curves for epoch in curve.at])
        legend_below(figure, axes, columns=2)
    caption = f"Below −{far:g} nats the axis is logarithmic." if far else ""
    return Drawing(title, svg_text(figure, f"{title} of {row.name}"), caption)


def _far(axes: Axes, curves: list[Series]) -> float | None:
    """Make the axis logarithmic where values far below 0 would hide the rest; say where that begins."""
    high, low = (pick([float(pick(curve.mean)) for curve in curves]) for pick in (np.max, np.min))
    if low >= -FAR * max(high, 1.0):
        return None
    linear = 10.0 ** math.ceil(math.log10(max(high, 1.0)))
    axes.set_yscale("symlog", linthresh=linear, linscale=1.5)
    decades = range(round(math.log10(linear)), math.floor(math.log10(-low)) + 1)
    ticks = [-(10.0**power) for power in decades]
    axes.set_ylim(1.3 * low, linear)
    step = -(-len(ticks) // 4)
    axes.yaxis.set_major_locator(FixedLocator([*ticks[::step], -linear / 2, 0, linear / 2, linear]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    return linear


def _below(name: str, names: tuple[str, ...]) -> str:
    place = names.index(name)
    return names[place - 1] if place else "input"


def _lines(row: Summary, measure: str) -> dict[str, Series]:
    names = in_order(*(_of(run.curves.get("monitor"), measure) for run in row.records))
    found = {name: series(row.records, "monitor", measure, name, at=("monitor", "epoch")) for name in names}
    return {name: line for name, line in found.items() if line is not None}


def _layers(row: Summary) -> tuple[str, ...]:
    """All layers of the monitor, from the input up: angles are measured of the hidden ones alone."""
    measures = ("rate", "angle", *KINDS)
    return in_order(*(_of(run.curves.get("monitor"), what) for run in row.records for what in measures))


def _of(monitor: object, measure: str) -> list[str]:
    layers = monitor.get(measure) if isinstance(monitor, dict) else None
    return list(layers) if isinstance(layers, dict) else []
