"""The third factor as it is and as an auxiliary network predicts it, over time."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from infohebb.experiments.record import Record
from infohebb.report import units
from infohebb.report.arrays import first_with, regular
from infohebb.report.maps import colour_bar, colours, limits_of
from infohebb.report.style import DARK, LINES, LOOK, MIDDLE, PLOT, Drawing, Group, legend_below, stacked, svg_text
from infohebb.report.summary import Summary

NAMES = "third_factor_exact", "third_factor_predicted", "third_factor_time"
FEW = 3  # units that are drawn as lines; of more, those whose exact factor moves most
MAP, LINE = 1.05, 0.8  # inches tall
RIGHT = 0.8
EXPLAINED = ("r2_test", "r2", "r2_validation")  # keys of a record's final, the strictest first
JUMPS = "The time axis counts recorded steps: their times are not evenly spaced."


def third_factors(row: Summary) -> Group:
    """Maps of all units where there are more than three, and lines of three, of the first seed that has them."""
    found = first_with(row, NAMES)
    if found is None:
        return Group("plots", ())
    record, arrays = found
    exact, predicted, time = (arrays[name].astype(float) for name in NAMES)
    exact, predicted = (values[:, None] if values.ndim == 1 else values for values in (exact, predicted))
    if exact.ndim != 2 or exact.shape != predicted.shape or time.shape != exact.shape[:1] or exact.size == 0:
        return Group("plots", ())
    drawings = [_lines(row, record, exact, predicted, time)]
    if exact.shape[1] > FEW:
        drawings.insert(0, _maps(row, record, exact, predicted, time))
    return Group("plots", tuple(drawings))


def _maps(row: Summary, record: Record, exact: np.ndarray, predicted: np.ndarray, time: np.ndarray) -> Drawing:
    title = f"Third factor, exact and predicted{_explained(record)}"
    limits = limits_of(exact)
    with mpl.rc_context({**LOOK, "axes.grid": False}):
        figure, both = stacked(title, (MAP, MAP), top=0.66, right=RIGHT)
        for axes, values, what in zip(both, (exact, predicted), ("exact", "predicted"), strict=True):
            first, last = _ends(time)
            box = (first, last, exact.shape[1] + 0.5, 0.5)
            look = {"vmin": limits[0], "vmax": limits[1], "interpolation": "none", "aspect": "auto"}
            axes.imshow(values.T, cmap=colours(), extent=box, **look)
            axes.set_title(what, fontsize=9, fontweight="normal", pad=5)
            axes.set_ylabel("entry")
            axes.set_yticks([1, exact.shape[1]])
        both[-1].set_xlabel(_clock(time))
        bottom = both[-1].get_position().y0 * figure.get_figheight()
        colour_bar(figure, (PLOT - RIGHT + 0.16, bottom), MAP, limits, "ξ")
    caption = f"{_seed(record)} Both have the range of the exact one as their colours; what lies beyond has the last."
    name = f"third factor of {row.name} seed {record.seed}"
    return Drawing(title, svg_text(figure, name), " ".join(filter(None, (caption, _jumps(time)))))


def _lines(row: Summary, record: Record, exact: np.ndarray, predicted: np.ndarray, time: np.ndarray) -> Drawing:
    """One pair of axes for each of up to three units."""
    moving = np.nan_to_num(np.nanstd(exact, axis=0))
    shown = np.sort(np.argsort(-moving, kind="stable")[:FEW])
    title = f"Third factor over time{_explained(record)}"
    with mpl.rc_context(LOOK):
        figure, stack = stacked(title, [LINE] * len(shown), legend=1)
        for axes, unit in zip(stack, shown, strict=True):
            _pair(axes, _at(time), exact[:, unit], predicted[:, unit])
            axes.set_ylabel(f"ξ of entry {unit + 1}", fontsize=8)
        stack[-1].set_xlabel(_clock(time))
        legend_below(figure, stack[-1], columns=2)
    most = f"Of {exact.shape[1]} entries the three that move most." if exact.shape[1] > FEW else ""
    name = f"third factor lines of {row.name} seed {record.seed}"
    return Drawing(title, svg_text(figure, name), " ".join(filter(None, (_seed(record), most, _jumps(time)))))


def _pair(axes: Axes, at: np.ndarray, exact: np.ndarray, predicted: np.ndarray) -> None:
    axes.plot(at, exact, color=DARK, linestyle=LINES[0], linewidth=1.5, label="exact")
    axes.plot(at, predicted, color=MIDDLE, linestyle=LINES[1], linewidth=1.3, label="predicted")
    axes.grid(visible=False, axis="x")
    axes.set_xlim(at[0], at[-1] if len(at) > 1 else at[0] + 1)


def _at(time: np.ndarray) -> np.ndarray:
    return time if regular(time) else np.arange(float(len(time)))


def _ends(time: np.ndarray) -> tuple[float, float]:
    """The edges of the first and last step."""
    at = _at(time)
    half = (at[-1] - at[0]) / (2 * max(len(at) - 1, 1)) or 0.5
    return float(at[0] - half), float(at[-1] + half)


def _clock(time: np.ndarray) -> str:
    return "time (ms)" if regular(time) else "recorded step"


def _jumps(time: np.ndarray) -> str:
    return "" if regular(time) or len(time) < 2 else JUMPS


def _explained(record: Record) -> str:
    """Two decimals of what the record says of the whole, of which the picture may show a part."""
    key = next((key for key in EXPLAINED if key in record.final), None)
    return f" ({units.words(key)} {units.signed(record.final[key]).removeprefix('+')})" if key else ""


def _seed(record: Record) -> str:
    return f"Seed {record.seed}."
