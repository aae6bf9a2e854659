"""The information plane: what each layer keeps about the labels against what it keeps in all, as it trains."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from infohebb.report import units
from infohebb.report.series import Series, layer_names, series
from infohebb.report.style import (
    INK,
    LOOK,
    MARKERS,
    Drawing,
    depths,
    legend_below,
    plot_canvas,
    powers_of_ten,
    svg_text,
)
from infohebb.report.summary import Summary

CAPTION = (
    "One trajectory per layer: hollow marker, first epoch; filled marker, last. "
    "Up is more about the labels, left is more compressed."
)
WIDE = 30.0  # ratio of largest to smallest value from which an axis is logarithmic


def information_plane(row: Summary) -> Drawing | None:
    """Relevance against compression, one trajectory per layer, mean over seeds."""
    paths = {name: path for name in layer_names(row.records) if (path := _path(row, name)) is not None}
    if not paths:
        return None
    with mpl.rc_context(LOOK):
        xlabel, ylabel = "compression, pHSIC(K, K) (no unit)", "relevance, pHSIC(Y, K) (no unit)"
        figure, axes = plot_canvas("Information plane", xlabel, ylabel, legend=2 + max(len(paths) - 5, 0) // 4)
        for (name, path), colour, shape in zip(paths.items(), depths(len(paths)), MARKERS * len(paths), strict=False):
            _trajectory(axes, units.layer(name), path, colour, shape)
        _scales(axes, list(paths.values()))
        legend_below(figure, axes, columns=4)
    return Drawing("Information plane", svg_text(figure, f"plane of {row.name}"), CAPTION)


def _path(row: Summary, layer: str) -> np.ndarray | None:
    both = [series(row.records, "objective", layer, term) for term in ("compression", "relevance")]
    if both[0] is None or both[1] is None:
        return None
    x, y = (_means(term) for term in both if term is not None)
    shared = np.intersect1d(both[0].at, both[1].at)
    return np.array([[x[epoch], y[epoch]] for epoch in shared]).T if shared.size else None


def _means(term: Series) -> dict[float, float]:
    return dict(zip(term.at.tolist(), term.mean.tolist(), strict=True))


def _trajectory(axes: Axes, name: str, path: np.ndarray, colour: str, shape: str) -> None:
    axes.plot(*path, color=colour, linewidth=1.5)
    axes.plot(*path[:, :1], shape, color=colour, markerfacecolor="white", markeredgewidth=1.5, markersize=7)
    axes.plot(*path[:, -1:], shape, color=colour, markeredgecolor=INK, markersize=7.5, label=name, linestyle="none")


def _scales(axes: Axes, paths: list[np.ndarray]) -> None:
    points = np.concatenate(paths, axis=1)
    for values, axis, scale in zip(points, (axes.xaxis, axes.yaxis), (axes.set_xscale, axes.set_yscale), strict=True):
        if values.min() > 0 and values.max() / values.min() > WIDE:
            scale("log")
            powers_of_ten(axis)
        else:
            axis.set_major_locator(MaxNLocator(nbins=6))
