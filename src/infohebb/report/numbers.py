"""A sweep over one number: score after the last epoch against it, a line for each method that was swept."""

import matplotlib as mpl
from matplotlib.axes import Axes

from infohebb.report import units
from infohebb.report.style import (
    LINES,
    LOOK,
    MARKERS,
    Drawing,
    Group,
    depths,
    legend_below,
    plot_canvas,
    powers_of_ten,
    svg_text,
)
from infohebb.report.summary import Section, Summary

FEWEST = 3  # rows of a method that make a sweep
PER_DECADE = 30.0  # a range of more than that factor is drawn on a logarithmic axis


def number_sweeps(section: Section) -> Group:
    """A drawing for each data set and number of which rows end in its values, such as mnist/entropy gain/1e-3.

    What follows a comma in a method's name tells lines of one drawing apart.
    """
    found: dict[tuple[str, str], dict[str, dict[float, Summary]]] = {}
    for row in section.rows:
        dataset, method, mode = (*row.row.split("/", 2), "", "")[:3]
        number = as_number(mode)
        if number is not None and row.measured is not None:
            found.setdefault((dataset, method.partition(",")[0]), {}).setdefault(method, {})[number] = row
    drawings = [
        _drawing(section, *key, lines) for key, lines in found.items() if max(map(len, lines.values())) >= FEWEST
    ]
    return Group("plots", tuple(drawings))


def as_number(mode: str) -> float | None:
    """The value that a row's last segment is; None for words, and for 0, which no logarithm shows."""
    try:
        return float(mode) or None
    except ValueError:
        return None


def _drawing(section: Section, dataset: str, number: str, lines: dict[str, dict[float, Summary]]) -> Drawing:
    measure = section.measure
    title, key = f"{dataset}: {units.words(measure.key)} by {number}", measure.key
    with mpl.rc_context(LOOK):
        figure, axes = plot_canvas(title, number, measure.label, legend=len(lines))
        for place, (method, rows) in enumerate(lines.items()):
            _line(axes, method, rows, place, len(lines))
        values = [value for rows in lines.values() for value in rows]
        if max(values) > PER_DECADE * min(values):
            axes.set_xscale("log")
            powers_of_ten(axes.xaxis)
        legend_below(figure, axes, 1)
    shortest = min(min(row.epochs) for rows in lines.values() for row in rows.values())
    longest = max(max(row.epochs) for rows in lines.values() for row in rows.values())
    after = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
    return Drawing(title, svg_text(figure, f"{title} {key}"), f"After {after} epochs. Diamonds: published.")


def _line(axes: Axes, method: str, rows: dict[float, Summary], place: int, count: int) -> None:
    numbers, colour = sorted(rows), depths(count)[place]
    means = [spread.mean for spread in (rows[number].measured for number in numbers) if spread is not None]
    line, shape = LINES[place % len(LINES)], MARKERS[place % len(MARKERS)]
    axes.plot(numbers, means, label=method, color=colour, linestyle=line, marker=shape)
    published = [(number, rows[number].published) for number in numbers if rows[number].published is not None]
    if published:
        axes.plot(*zip(*published, strict=True), linestyle="", marker="D", color=colour, fillstyle="none")
