"""Score against samples seen, for rows that learn from a stream or take more samples than others to a point."""

import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from infohebb.report.series import Series, samples_to_a_point, series
from infohebb.report.style import (
    LINES,
    LOOK,
    MARKERS,
    PLOT,
    Drawing,
    Group,
    depths,
    legend_below,
    plot_canvas,
    svg_text,
)
from infohebb.report.summary import Section, Summary

STREAMED = ("KernelizedBottleneckOnline", "HSICMemory")  # rules that are given a sample or a window at a time
DECADE = 10.0  # ratio of most to fewest samples from which the axis is logarithmic
FEW_TICKS = 3  # decades up to which 2 and 5 have ticks, too
CHARACTER, HANDLE = 0.068, 0.62  # inches, of a name in the legend
COLUMNS = 3
APART = 0.12  # of the diagonal, between markers on a line
Curves = list[tuple[Summary, Series]]


def samples_seen(section: Section) -> Group:
    """One drawing for each data set of which some row streams, or of which rows differ in samples to a point."""
    found = {dataset: _curves(section, dataset) for dataset in section.datasets}
    return Group("plots", tuple(_drawing(section, name, rows) for name, rows in found.items() if _is_told(rows)))


def _curves(section: Section, dataset: str) -> Curves:
    rows = [row for row in section.rows if row.dataset == dataset]
    found = [(row, series(row.records, section.measure.key, at=("samples",))) for row in rows]
    return [(row, curve) for row, curve in found if curve is not None]


def _is_told(curves: Curves) -> bool:
    differ = len(samples_to_a_point(row.records for row, _ in curves)) > 1
    return any(len(curve.at) > 1 for _, curve in curves) and (differ or any(_streams(row) for row, _ in curves))


def _names(rows: list[Summary]) -> list[str]:
    """Method and mode, or the method alone where all have the same mode."""
    modes = {row.method.partition("/")[2] for row in rows}
    return [(row.method.partition("/")[0] if len(modes) == 1 else row.method) or row.row for row in rows]


def _streams(row: Summary) -> bool:
    config = row.records[0].config
    rule, training = config.get("rule") or {}, config.get("training") or {}
    return rule.get("name") in STREAMED or training.get("batch") == 1


def _drawing(section: Section, dataset: str, curves: Curves) -> Drawing:
    title = f"{dataset}: {section.measure.label.removesuffix(' (%)')} against samples seen"
    names = _names([row for row, _ in curves])
    columns = max(1, min(COLUMNS, int(PLOT // (CHARACTER * max(map(len, names)) + HANDLE))))
    with mpl.rc_context(LOOK):
        figure, axes = plot_canvas(title, "samples seen", section.measure.axis, legend=math.ceil(len(names) / columns))
        logarithmic = _scale(axes, curves)
        for position, (name, colour, (_, curve)) in enumerate(zip(names, depths(len(names)), curves, strict=True)):
            _line(axes, curve, name, colour, position, positive=logarithmic)
        legend_below(figure, axes, columns=columns)
    name = f"samples of {section.title} {dataset} {section.measure.key}"
    return Drawing(title, svg_text(figure, name), _caption(section, curves, logarithmic=logarithmic))


def _scale(axes: Axes, curves: Curves) -> bool:
    """Set the axis of samples; whether it is logarithmic."""
    at = np.concatenate([curve.at for _, curve in curves])
    most, fewest = at.max(), at[at > 0].min(initial=at.max())
    logarithmic = bool(most > DECADE * fewest)
    if logarithmic:
        axes.set_xscale("log")
        few = math.log10(most / fewest) <= FEW_TICKS
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(visible=False, axis="x", which="both")
    return logarithmic


def _line(axes: Axes, curve: Series, name: str, colour: str, position: int, *, positive: bool) -> None:
    """The mean over the runs with a band of one standard deviation to either side."""
    drawn = curve.at > 0 if positive else np.ones(len(curve.at), bool)
    at, mean, sd = curve.at[drawn], curve.mean[drawn], curve.sd[drawn]
    if len(curve.runs) > 1:
        axes.fill_between(at, mean - sd, mean + sd, color=colour, alpha=0.18, linewidth=0)
    look: dict[str, Any] = {"markersize": 5, "linewidth": 1.5, "markevery": APART}
    line, shape = LINES[position // len(MARKERS) % len(LINES)], MARKERS[position % len(MARKERS)]
    axes.plot(at, mean, color=colour, linestyle=line, marker=shape, label=name, **look)


def _caption(section: Section, curves: Curves, *, logarithmic: bool) -> str:
    words = [] if section.measure.study else [f"{section.measure.split.capitalize()} set."]
    if any(len(curve.runs) > 1 for _, curve in curves):
        words.append("Lines: mean over seeds; bands: ± 1 s.d.")
    if logarithmic and any((curve.at == 0).any() for _, curve in curves):
        words.append("Points before learning have no place on the logarithmic axis.")
    return " ".join(words)
