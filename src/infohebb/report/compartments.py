"""One neuron's compartments along the two phases, before and after training, and the objective that layers climb."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from infohebb.report import units
from infohebb.report.arrays import first_with
from infohebb.report.style import (
    DARK,
    INK,
    LIGHT,
    LINES,
    LOOK,
    MIDDLE,
    MUTED,
    PLOT,
    Drawing,
    Group,
    legend_below,
    svg_text,
)
from infohebb.report.summary import Summary

WHEN = {"before": "before training", "after": "after training"}
PARTS = {
    "basal": ("basal dendrite", DARK, LINES[0], 1.5),
    "apical": ("apical dendrite", MIDDLE, LINES[1], 1.5),
    "soma": ("soma", LIGHT, LINES[0], 2.4),
    "rate": ("rate", INK, (0, (1, 1.6)), 1.5),
}
AXES = "compartments_neuron", "compartments_layer", "compartments_sweep", "compartments_onset"
POTENTIALS = tuple(f"compartments_{when}_{part}" for when in WHEN for part in PARTS)
OBJECTIVES = tuple(f"objective_{when}" for when in WHEN)
TALL, TOP, BOTTOM, LEFT, RIGHT, BETWEEN = 1.25, 0.88, 0.92, 0.72, 0.14, 0.42  # inches


def compartment_traces(row: Summary) -> Group:
    """Potentials of one neuron of each layer, and the layers' objectives, of the first seed that has them."""
    found = first_with(row, (*AXES, *POTENTIALS, *OBJECTIVES))
    if found is None or not _fit(found[1]):
        return Group("plots", ())
    record, arrays = found
    name = f"{row.name} seed {record.seed}"
    words = f"Seed {record.seed}, the first held-out sample of the first class."
    return Group("plots", (_neurons(arrays, name, words), _objectives(arrays, name, words)))


def _fit(arrays: dict[str, np.ndarray]) -> bool:
    neurons, layers, sweeps, onset = (arrays[name] for name in AXES)
    shapes = {arrays[name].shape for name in POTENTIALS}
    count = (len(sweeps), len(np.unique(layers)))
    fitting = shapes == {(len(sweeps), len(neurons))} and {arrays[name].shape for name in OBJECTIVES} == {count}
    return fitting and layers.shape == neurons.shape and onset.ndim == 0 and len(sweeps) > 0


def _neurons(arrays: dict[str, np.ndarray], name: str, words: str) -> Drawing:
    """The first neuron of each layer that was kept, one below the other."""
    title = "One neuron's compartments along the two phases"
    first = np.unique(arrays["compartments_layer"], return_index=True)[1]
    with mpl.rc_context(LOOK):
        figure, rows = _pairs(title, len(first))
        for pair, neuron in zip(rows, first, strict=True):
            for axes, when in zip(pair, WHEN, strict=True):
                for part, (label, colour, line, width) in PARTS.items():
                    values = arrays[f"compartments_{when}_{part}"][:, neuron].astype(float)
                    look = {"color": colour, "linestyle": line, "linewidth": width, "label": label}
                    axes.plot(arrays["compartments_sweep"], values, **look)
            name_of_neuron = units.layer(str(arrays["compartments_neuron"][neuron]))
            pair[0].set_title(name_of_neuron, fontsize=9, fontweight="normal", pad=4, x=0)
            pair[0].set_ylabel("potential, rate\n(no unit)", fontsize=8)
        _finish(figure, rows, arrays)
    kept = (
        "Of each hidden layer the most active neuron after training whose rate is not cut off at 1, if there is one; "
        "of the output the target. Each phase starts somata from rates."
    )
    return Drawing(title, svg_text(figure, f"compartments of {name}"), f"{words} {kept}")


def _objectives(arrays: dict[str, np.ndarray], name: str, words: str) -> Drawing:
    """Each with its own scale: their levels before and after training are of other weights."""
    title = "Objective of each layer along the two phases"
    layers = arrays["objective_before"].shape[1]
    labels = [*(f"layer {place}" for place in range(1, layers)), "output"]
    with mpl.rc_context(LOOK):
        figure, rows = _pairs(title, layers, gap=0.56, share=False)
        for place, (pair, label) in enumerate(zip(rows, labels, strict=True)):
            for axes, when in zip(pair, WHEN, strict=True):
                values = arrays[f"objective_{when}"][:, place].astype(float)
                axes.plot(arrays["compartments_sweep"], values, color=DARK, linewidth=1.5, label="objective")
                axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
            pair[0].set_title(label, fontsize=9, fontweight="normal", pad=4, x=0)
            pair[0].set_ylabel("objective (no unit)", fontsize=8)
        _finish(figure, rows, arrays)
    climbs = (
        "Each layer climbs its own while the others move, so that it may fall; the output's has the nudge's term from "
        "its onset on."
    )
    scales = "Each pair of axes has a scale of its own."
    return Drawing(title, svg_text(figure, f"objectives along settling of {name}"), f"{words} {climbs} {scales}")


def _pairs(title: str, count: int, *, gap: float = 0.2, share: bool = True) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """Rows of two axes, before and after training, that may share a scale; room below for a legend of two lines."""
    height = TOP + BOTTOM + count * TALL + (count - 1) * BETWEEN
    figure = Figure(figsize=(PLOT, height))
    figure.text(0.1 / PLOT, 1 - 0.26 / height, title, fontsize=10.5, fontweight="bold", color=INK)
    wide, rows = (PLOT - LEFT - RIGHT - gap) / 2, []
    for place in range(count):
        below = BOTTOM + (count - 1 - place) * (TALL + BETWEEN)
        box = [(left / PLOT, below / height, wide / PLOT, TALL / height) for left in (LEFT, LEFT + wide + gap)]
        one = figure.add_axes(box[0])
        rows.append((one, figure.add_axes(box[1], sharex=one, sharey=one if share else None)))
        rows[-1][1].tick_params(labelleft=not share)
    return figure, rows


def _finish(figure: Figure, rows: list[tuple[Axes, Axes]], arrays: dict[str, np.ndarray]) -> None:
    sweeps, onset = arrays["compartments_sweep"], float(arrays["compartments_onset"]) - 0.5
    for place, pair in enumerate(rows):
        for axes in pair:
            axes.axvline(onset, color=MUTED, linestyle=LINES[2], linewidth=1.1, label="nudge begins", zorder=1.5)
            axes.grid(visible=False, axis="x")
            axes.set_xlim(float(sweeps[0]), float(sweeps[-1]) if len(sweeps) > 1 else float(sweeps[0]) + 1)
            axes.tick_params(labelbottom=place == len(rows) - 1)
    for axes, when in zip(rows[0], WHEN.values(), strict=True):
        axes.annotate(when, (1, 1), (0, 18), "axes fraction", textcoords="offset points", ha="right", fontsize=9)
    for axes in rows[-1]:
        axes.set_xlabel("sweep")
    figure.align_ylabels([pair[0] for pair in rows])
    legend_below(figure, rows[0][0], columns=3)
