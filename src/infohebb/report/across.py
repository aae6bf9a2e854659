"""All rows of a recipe side by side: measured beside published, the gap, time and memory."""

import itertools
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from infohebb.report import units
from infohebb.report.style import DARK, INK, LIGHT, LOOK, MIDDLE, Drawing, svg_text
from infohebb.report.summary import Section, Summary

CAPTION = "Measured: mean over seeds, whiskers ± 1 s.d. Bars start at zero."
LONGEST = 44  # characters of a row's name beside the bars
CHARACTER = 0.065  # inches
LINE = 0.27
SCORES, GAPS, BARS = 2.5, 1.9, 1.6
GAP, TOP, BOTTOM = 0.3, 0.6, 0.78


def across_rows(section: Section) -> Drawing:
    """Score, gap if any is published, mean wall time and largest peak memory of every row, on shared lines."""
    left = 0.25 + CHARACTER * max(len(_name(row)) for row in section.rows)
    widths = [SCORES, *([GAPS] if section.has_published else []), BARS, BARS]
    size = left + sum(widths) + GAP * len(widths), TOP + BOTTOM + LINE * max(len(section.rows), 3)
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=size)
        scores, *gaps, times, memories = _panels(figure, left, size, widths)
        _scores(scores, section)
        for axes in gaps:
            _gaps(axes, section)
        seconds, peaks = [row.seconds for row in section.rows], [float(row.memory) for row in section.rows]
        _bars(times, section, seconds, units.duration)
        times.set(title="Time", xlabel="mean wall time of a run")
        _bars(memories, section, peaks, units.memory)
        memories.set(title="Memory", xlabel="largest peak memory")
        handles, labels = scores.get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower left", ncols=2, bbox_to_anchor=(left / size[0] - 0.01, 0))
    return Drawing("Rows side by side", svg_text(figure, f"across {section.title}"), CAPTION)


def _panels(figure: Figure, left: float, size: tuple[float, float], widths: list[float]) -> list[Axes]:
    width, height = size
    starts = left + np.cumsum([0, *widths[:-1]]) + GAP * np.arange(len(widths))
    bottom, tall = BOTTOM / height, (height - TOP - BOTTOM) / height
    return [figure.add_axes((x / width, bottom, w / width, tall)) for x, w in zip(starts, widths, strict=True)]


def _name(row: Summary) -> str:
    return row.row if len(row.row) <= LONGEST else f"{row.row[: LONGEST - 1]}…"


def _scores(axes: Axes, section: Section) -> None:
    _lines(axes, section)
    title = "Measured and published" if section.has_published else "Measured"
    axes.set(title=title, xlabel=section.measure.axis)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_yticks(range(len(section.rows)), [_name(row) for row in section.rows], color=INK)
    published = [(row.published, i) for i, row in enumerate(section.rows) if row.gap is not None]
    if published:
        look = {"color": MIDDLE, "markerfacecolor": "none", "markersize": 8, "markeredgewidth": 1.4}
        axes.plot(*zip(*published, strict=True), "D", label="published", **look)
    measured = [(row.measured.mean, i, row.measured.sd or 0.0) for i, row in enumerate(section.rows) if row.measured]
    if measured:
        means, places, deviations = zip(*measured, strict=True)
        look = {"color": DARK, "markersize": 4.5, "elinewidth": 1.4}
        axes.errorbar(means, places, xerr=deviations, fmt="o", label="measured", **look)


def _gaps(axes: Axes, section: Section) -> None:
    _lines(axes, section)
    unit = " (points)" if section.measure.is_percent else ""
    axes.set(title="Gap", xlabel=f"measured − published{unit}")
    axes.set_yticks(range(len(section.rows)), [])
    axes.axvline(0, color=MIDDLE, linewidth=1.2)
    found = [(row.gap, i, row.measured) for i, row in enumerate(section.rows) if row.gap is not None]
    for gap, place, spread in found:
        deviation = (spread and spread.sd) or 0.0
        axes.errorbar(gap, place, xerr=deviation, fmt="o", color=DARK, markersize=4.5, elinewidth=1.4)
    reach = 1.15 * max((abs(gap) + ((spread and spread.sd) or 0.0) for gap, _, spread in found), default=0.0)
    axes.set_xlim(-(reach or 1.0), reach or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))


def _bars(axes: Axes, section: Section, values: list[float], write: Callable[[float], str]) -> None:
    _lines(axes, section)
    axes.barh(range(len(values)), values, height=0.55, color=LIGHT)
    top = max(values) or 1.0
    for place, value in enumerate(values):
        axes.text(value + 0.03 * top, place, write(value), va="center", fontsize=8, color=INK)
    axes.set_xlim(0, 1.65 * top)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines["bottom"].set_visible(False)


def _lines(axes: Axes, section: Section) -> None:
    axes.set_ylim(len(section.rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for i, (above, below) in enumerate(itertools.pairwise(section.rows)):
        if above.dataset != below.dataset:
            axes.axhline(i + 0.5, color="#b9c1ca", linewidth=0.8)
