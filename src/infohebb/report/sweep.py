"""A sweep over the memory: score by effective batch and epoch, as colours with the numbers in them."""

import math
import re

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from infohebb.report import units
from infohebb.report.maps import colour_bar, colours, limits_of
from infohebb.report.series import series
from infohebb.report.style import INK, LOOK, PLOT, Drawing, Group, canvas, svg_text
from infohebb.report.summary import Section, Summary

ENDING = re.compile(r"(?:^|/)N=(\d+)$")
FEWEST = 3  # rows of a recipe that make a sweep
MOST_POINTS = 10  # columns of which there is room for the numbers
LINE, TOP, BOTTOM, LEFT, RIGHT = 0.34, 0.52, 0.56, 0.72, 0.8  # of a map, in inches
BRIGHT = 0.55  # luminance from which ink is read better than white
WHAT = "N: samples of one update, the current one and those in memory."
RUNNING = "Train values are running means during the epoch."


def memory_sweeps(section: Section) -> Group:
    """Two drawings, held-out and training score, for each data set and method of which rows end in N=<number>."""
    measure = section.measure
    drawings = [
        _drawing(section, name, rows, key, training=key == measure.train_key)
        for name, rows in swept(section).items()
        for key in (measure.key, measure.train_key)
        if len(rows) > 1
    ]
    return Group("plots", tuple(drawing for drawing in drawings if drawing))


def swept(section: Section) -> dict[str, dict[int, Summary]]:
    """By data set and method, the rows that end in N=<number> by that number, where the recipe has three or more."""
    found: dict[str, dict[int, Summary]] = {}
    for row in section.rows:
        if ending := ENDING.search(row.row):
            found.setdefault(ENDING.sub("", row.row), {})[int(ending[1])] = row
    return found if sum(map(len, found.values())) >= FEWEST else {}


def _drawing(section: Section, name: str, rows: dict[int, Summary], key: str, *, training: bool) -> Drawing | None:
    sizes, epochs, values = _table(rows, key)
    if not sizes:
        return None
    measure, tall = section.measure, LINE * len(sizes)
    title = ": ".join(filter(None, (name.replace("/", ", "), f"{units.words(key)} by memory")))
    with mpl.rc_context({**LOOK, "axes.grid": False}):
        figure, axes = canvas(PLOT, TOP + BOTTOM + tall, (LEFT, RIGHT, TOP, BOTTOM))
        limits = limits_of(values)
        axes.set_title(title, x=-0.62 / (PLOT - LEFT - RIGHT))
        axes.set(xlabel="epoch", ylabel="effective batch N")
        axes.set_xticks(range(len(epochs)), [f"{epoch:g}" for epoch in epochs])
        axes.set_yticks(range(len(sizes)), list(map(str, sizes)))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.imshow(values, cmap=colours(), vmin=limits[0], vmax=limits[1], interpolation="none", aspect="auto")
        _numbers(axes, values, limits, percent=measure.is_percent)
        colour_bar(figure, (PLOT - RIGHT + 0.16, BOTTOM), tall, limits, "%" if measure.is_percent else "")
    caption = " ".join([WHAT, *([RUNNING] if training else []), *_seeds(rows)])
    return Drawing(title, svg_text(figure, f"{key} sweep of {section.title} {name}"), caption)


def _table(rows: dict[int, Summary], key: str) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The sizes in order, some epochs, the last among them, and sizes × epochs mean scores, NaN where there is none."""
    curves = {size: curve for size in sorted(rows) if (curve := series(rows[size].records, key)) is not None}
    epochs = np.unique(np.concatenate([np.zeros(0), *(curve.at for curve in curves.values())]))
    step = math.ceil(len(epochs) / MOST_POINTS)
    chosen = slice((len(epochs) - 1) % step if step else 0, None, step or None)
    values = np.full((len(curves), len(epochs)), np.nan)
    for line, curve in zip(values, curves.values(), strict=True):
        line[np.searchsorted(epochs, curve.at)] = curve.mean
    return list(curves), epochs[chosen], values[:, chosen]


def _numbers(axes: Axes, values: np.ndarray, limits: tuple[float, float], *, percent: bool) -> None:
    shades = colours()((values - limits[0]) / (limits[1] - limits[0]))
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = INK if shades[i, j, :3] @ (0.3, 0.59, 0.11) > BRIGHT else "white"
            text = f"{value:.1f}" if percent else f"{value:.3g}"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)


def _seeds(rows: dict[int, Summary]) -> list[str]:
    most = max(len(row.records) for row in rows.values())
    return [f"Means of up to {most} seeds."] if most > 1 else []
