"""The look that all figures share, and a figure as a string of SVG that is the same on every run."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from infohebb.report.png import shrink_images

INK, MUTED, GRID = "#1d2733", "#5b6673", "#e4e8ec"
DARK, MIDDLE, LIGHT = "#16345e", "#b2473e", "#d9a032"  # told apart without colour: luminance rises in this order
PLOT, PER_LAYER = 5.4, 4.0  # widths in inches: two to a row of the page, and three
LINES = ("-", "--", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
FEW_EPOCHS = 12  # up to here each epoch gets a marker
PAGE_FONTS = "system-ui, sans-serif"

LOOK: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that no machine lays a figure out differently
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 16,
    "axes.titley": 1.0,  # fixed, or it moves up where an axis has a power of ten
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa4af",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": "#9aa4af",
    "ytick.color": "#9aa4af",
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.6,
    "lines.linewidth": 1.8,
    "text.parse_math": False,  # a dollar in a row's name is a dollar
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Drawing:
    """A figure ready for the page."""

    title: str
    svg: str
    caption: str = ""


@dataclass(frozen=True)
class Group:
    """Drawings that belong in one row of the page: "plots", or one for each of the "layers" under a common caption."""

    kind: str
    drawings: tuple[Drawing, ...]
    caption: str = ""


def canvas(width: float, height: float, margins: Sequence[float]) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; sizes, and margins left, right, top and bottom, in inches."""
    left, right, top, bottom = margins
    figure = Figure(figsize=(width, height))
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    return figure, figure.add_axes(box)


def plot_canvas(title: str, xlabel: str, ylabel: str, *, width: float = PLOT, legend: int = 1) -> tuple[Figure, Axes]:
    """A canvas of one of the two widths, with room below for a legend of some lines."""
    left, right, room = 0.72, 0.18, 0.2 * legend
    figure, axes = canvas(width, 0.5 * width + 0.59 + room, (left, right, 0.46, 0.56 + room))
    axes.set_title(title, x=-0.62 / (width - left - right))
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes


def stacked(
    title: str, tall: Sequence[float], *, top: float = 0.5, right: float = 0.18, legend: int = 0
) -> tuple[Figure, list[Axes]]:
    """A figure of axes one below the other, which share time, `tall` inches each, with room below for a legend."""
    bottom, between, left = 0.52 + 0.2 * legend, 0.34, 0.72
    height = top + bottom + sum(tall) + between * (len(tall) - 1)
    figure = Figure(figsize=(PLOT, height))
    figure.text(0.1 / PLOT, 1 - 0.26 / height, title, fontsize=10.5, fontweight="bold", color=INK)
    below, axes = height - top, []
    for inches in tall:
        below -= inches
        box = left / PLOT, below / height, (PLOT - left - right) / PLOT, inches / height
        axes.append(figure.add_axes(box, sharex=axes[0] if axes else None))
        axes[-1].tick_params(labelbottom=len(axes) == len(tall))
        below -= between
    return figure, axes


def epoch_axis(axes: Axes, epochs: Sequence[float]) -> None:
    """Whole epochs, from the first to the last."""
    first, last = min(epochs), max(epochs)
    room = 0.5 if first == last else 0.02 * (last - first)
    axes.set_xlim(first - room, last + room)
    many = MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True)
    axes.xaxis.set_major_locator(FixedLocator([first]) if first == last else many)
    axes.grid(visible=False, axis="x")


def powers_of_ten(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis: its own are written in mathematics, which LOOK turns off."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """The legend of `axes` under its label, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        corner = max(axes.get_position().x0 - 0.62 / figure.get_figwidth(), 0.0), 0.0
        figure.legend(handles, labels, loc="lower left", ncols=columns, bbox_to_anchor=corner)


def depths(count: int) -> list[str]:
    """A colour for each of `count` layers, dark at the input and light at the output, with or without colour."""
    shades = mpl.colormaps["viridis"](np.linspace(0.05, 0.82, max(count, 1)))
    return [to_hex(shade) for shade in shades]


def marker(epochs: Sequence[float], shape: str) -> dict[str, Any]:
    """Markers where epochs are few; a single epoch would not be seen without."""
    return {"marker": shape, "markersize": 6 if shape == MARKERS[1] else 4.5} if len(epochs) <= FEW_EPOCHS else {}


def svg_text(figure: Figure, name: str) -> str:
    """`figure` as an `<svg>` element: the same bytes each time, its ids unlike those of any figure of another name."""
    salt = sha256(name.encode()).hexdigest()[:8]
    buffer = io.StringIO()
    with mpl.rc_context({**LOOK, "svg.hashsalt": salt}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    return _tidy(buffer.getvalue(), salt)


def _tidy(svg: str, salt: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{salt}-{found[1]}"' if found[1] in used else "", svg)
    svg = svg.replace('href="#', f'href="#{salt}-').replace("url(#", f"url(#{salt}-")
    svg = re.sub(r'\b(d|x|y)="([^"]*)"', lambda found: f'{found[1]}="{_shorter(found[2])}"', svg)
    return shrink_images(svg.replace("'DejaVu Sans'", PAGE_FONTS))


def _shorter(numbers: str) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", numbers)
