"""What changes over the epochs: accuracy or error, and each layer's objective with its terms."""

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes

from infohebb.report import units
from infohebb.report.series import Series, layer_names, rate_drops, series
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
    marker,
    plot_canvas,
    svg_text,
)
from infohebb.report.summary import Summary

TERMS = {"objective": "objective", "compression": "compression, pHSIC(K, K)", "relevance": "relevance, pHSIC(Y, K)"}
COLOURS = (DARK, MIDDLE, LIGHT)


def learning_curve(row: Summary) -> Drawing | None:
    """Score against epoch on the test (or validation) and training set, beside the published number."""
    held_out, train = series(row.records, row.measure.key), series(row.records, row.measure.train_key)
    found = [curve for curve in (held_out, train) if curve is not None]
    if not found:
        return None
    with mpl.rc_context(LOOK):
        figure, axes = plot_canvas("Learning curves", "epoch", row.measure.label, legend=2)
        draw_curve(axes, train, "train (running)", LIGHT, LINES[1], MARKERS[1])
        draw_curve(axes, held_out, row.measure.curve, DARK, LINES[0], MARKERS[0])
        _published(axes, row)
        _drops(axes, row)
        epoch_axis(axes, [epoch for curve in found for epoch in curve.at])
        legend_below(figure, axes, columns=2)
    return Drawing("Learning curves", svg_text(figure, f"curves of {row.name}"), _curve_caption(row, train))


def objectives(row: Summary) -> Group:
    """One drawing per layer: its objective and the terms that it is made of, against epoch."""
    found = [_objective(row, name) for name in layer_names(row.records)]
    return Group("layers", tuple(drawing for drawing in found if drawing), _objective_caption(row))


def _objective(row: Summary, layer: str) -> Drawing | None:
    terms = {label: series(row.records, "objective", layer, key) for key, label in TERMS.items()}
    found = [curve for curve in terms.values() if curve is not None]
    if not found:
        return None
    title = f"Objective of {units.layer(layer)}"
    with mpl.rc_context(LOOK):
        figure, axes = plot_canvas(title, "epoch", "value (no unit)", width=PER_LAYER, legend=2)
        for (label, curve), colour, line, shape in zip(terms.items(), COLOURS, LINES, MARKERS, strict=False):
            draw_curve(axes, curve, label, colour, line, shape)
        epoch_axis(axes, [epoch for curve in found for epoch in curve.at])
        legend_below(figure, axes, columns=2)
    return Drawing(title, svg_text(figure, f"{title} of {row.name}"))


def draw_curve(axes: Axes, curve: Series | None, label: str, colour: str, line: str, shape: str, **look: Any) -> None:
    """The mean over the runs with the band of their range; markers where epochs are few, or as `look` says."""
    if curve is None:
        return
    if len(curve.runs) > 1:
        axes.fill_between(curve.at, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
    marks = {**look, "marker": shape} if look else marker(curve.at.tolist(), shape)
    axes.plot(curve.at, curve.mean, color=colour, linestyle=line, label=label, **marks)


def _published(axes: Axes, row: Summary) -> None:
    if row.published is not None:
        label = f"published {row.published_text}"
        axes.axhline(row.published, color=MUTED, linestyle=(0, (1, 1.6)), linewidth=1.6, label=label, zorder=1.5)


def _drops(axes: Axes, row: Summary) -> None:
    for i, epoch in enumerate(rate_drops(row.records)):
        label = "a learning rate falls" if i == 0 else None
        axes.axvline(epoch, color="#b9c1ca", linewidth=0.8, zorder=0.5, label=label)


def _curve_caption(row: Summary, train: Series | None) -> str:
    running = "Train values are running means during the epoch, with dropout where there is any." if train else ""
    return " ".join(filter(None, (running, band_caption(row))))


def band_caption(row: Summary) -> str:
    """What lines and bands are, where there are several seeds."""
    return f"Lines: mean of {len(row.records)} seeds; bands: smallest to largest." if len(row.records) > 1 else ""


def _objective_caption(row: Summary) -> str:
    rule = row.records[0].config.get("rule")
    gamma = rule.get("gamma") if isinstance(rule, dict) else None
    value = f" γ = {gamma:g}." if isinstance(gamma, (int, float)) else ""
    return f"Objective = compression − γ · relevance, which each layer lowers.{value} {band_caption(row)}".rstrip()
