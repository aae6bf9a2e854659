"""Gram matrices of each layer's activity before and after training, samples sorted by class."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from infohebb.report import units
from infohebb.report.arrays import read_arrays
from infohebb.report.maps import colour_bar, colours, limits_of
from infohebb.report.style import INK, LOOK, PER_LAYER, Drawing, Group, svg_text
from infohebb.report.summary import Summary

HEIGHT, BOTTOM, SIDE, LEFTS = 2.45, 0.4, 1.42, (0.42, 1.98)  # of a pair, in inches
MOST_CLASSES = 20  # with more, lines and numbers would cover the matrix
BEFORE, AFTER = "gram_before_", "gram_after_"
WHAT = "Cosine similarity of each layer's activity, less its mean over the samples"


def gram_matrices(row: Summary) -> Group:
    """One drawing per layer, of the first seed that has pictures."""
    record = next((run for run in row.records if run.pictures), None)
    if record is None:
        return Group("layers", ())
    arrays = read_arrays(record)
    pairs = tuple(_gram_pair(arrays, layer, f"{row.name} seed {record.seed}") for layer in _layers(arrays))
    caption = "Lines part the classes. Each layer has one colour scale for both matrices, drawn from off the diagonal."
    return Group("layers", pairs, f"{WHAT}, seed {record.seed}. {caption}")


def colour_limits(grams: list[np.ndarray]) -> tuple[float, float]:
    """The range of the finite entries off the diagonals, which would else outshine all the rest."""
    entries = np.concatenate([gram[~np.eye(len(gram), dtype=bool)] for gram in grams])
    return limits_of(entries)


def _layers(arrays: dict[str, np.ndarray]) -> list[str]:
    square = [name for name, gram in arrays.items() if gram.ndim == 2 and gram.shape[0] == gram.shape[1]]
    found = (name.removeprefix(BEFORE).removeprefix(AFTER) for name in square if name.startswith((BEFORE, AFTER)))
    return list(dict.fromkeys(found))


def _gram_pair(arrays: dict[str, np.ndarray], layer: str, name: str) -> Drawing:
    pair = {"before training": arrays.get(BEFORE + layer), "after training": arrays.get(AFTER + layer)}
    grams = {moment: gram.astype(float) for moment, gram in pair.items() if gram is not None}
    limits = colour_limits(list(grams.values()))
    title = f"Gram matrix of {units.layer(layer)}"
    with mpl.rc_context({**LOOK, "axes.grid": False}):
        figure = Figure(figsize=(PER_LAYER, HEIGHT))
        figure.text(0.1 / PER_LAYER, 1 - 0.22 / HEIGHT, title, fontsize=10.5, fontweight="bold", color=INK)
        for (moment, gram), left in zip(grams.items(), LEFTS, strict=False):
            axes = figure.add_axes((left / PER_LAYER, BOTTOM / HEIGHT, SIDE / PER_LAYER, SIDE / HEIGHT))
            _matrix(axes, gram, arrays.get("labels", np.array([])), limits)
            axes.set_title(moment, fontsize=9, fontweight="normal", loc="center", pad=5)
        figure.axes[0].set_ylabel("sample, by class")
        colour_bar(figure, (3.5, BOTTOM), SIDE, limits, "K")
    return Drawing(title, svg_text(figure, f"{title} of {name}"))


def _matrix(axes: Axes, gram: np.ndarray, labels: np.ndarray, limits: tuple[float, float]) -> None:
    axes.imshow(gram, cmap=colours(), vmin=limits[0], vmax=limits[1], interpolation="none")
    axes.set_xlabel("sample, by class")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    classes, first = np.unique(labels, return_index=True)
    if len(labels) == len(gram) and 1 < len(classes) <= MOST_CLASSES:
        _class_lines(axes, classes, np.sort(first), len(gram))


def _class_lines(axes: Axes, classes: np.ndarray, first: np.ndarray, size: int) -> None:
    for edge in first[1:] - 0.5:
        axes.axhline(edge, color="white", linewidth=0.6, alpha=0.75)
        axes.axvline(edge, color="white", linewidth=0.6, alpha=0.75)
    middles = (first + np.append(first[1:], size) - 1) / 2
    for ticks in (axes.set_xticks, axes.set_yticks):
        ticks(middles, [str(name) for name in classes], fontsize=6.5)
    axes.tick_params(length=0, pad=2)
