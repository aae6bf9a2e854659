"""What one neuron is given around stimulus onsets: activity before and after its synapse, and the third factor."""

import matplotlib as mpl
import numpy as np

from infohebb.report.arrays import first_with, regular
from infohebb.report.style import DARK, LOOK, MIDDLE, MUTED, Drawing, Group, legend_below, stacked, svg_text
from infohebb.report.summary import Summary

NAMES = "trace_time", "trace_onset", "trace_pre", "trace_post", "trace_third_factor"
SHOWN = {
    "trace_pre": ("presynaptic", DARK),
    "trace_post": ("postsynaptic", DARK),
    "trace_third_factor": ("third factor", MIDDLE),
}
TALL = 0.85  # inches
MOST = 12  # onsets that can be told apart


def neuron_traces(row: Summary) -> Group:
    """One drawing of three axes, of the first seed that has the traces."""
    found = first_with(row, NAMES)
    if found is None or len({values.shape for values in found[1].values()}) > 1 or found[1]["trace_time"].ndim != 1:
        return Group("plots", ())
    record, arrays = found
    part, left_out = _part(arrays["trace_onset"].astype(bool))
    arrays = {name: values[part].astype(float) for name, values in arrays.items()}
    if not arrays["trace_time"].size:
        return Group("plots", ())
    even = regular(arrays["trace_time"])
    at = arrays["trace_time"] if even else np.arange(float(len(arrays["trace_time"])))
    title = "One neuron around stimulus onsets"
    with mpl.rc_context(LOOK):
        figure, stack = stacked(title, [TALL] * len(SHOWN), legend=1)
        for axes, (name, (label, colour)) in zip(stack, SHOWN.items(), strict=True):
            for i, onset in enumerate(at[arrays["trace_onset"] > 0]):
                look = {"color": MUTED, "linestyle": (0, (1, 1.6)), "linewidth": 1.1, "zorder": 1.5}
                axes.axvline(onset, label="stimulus onset" if i == 0 else None, **look)
            axes.plot(at, arrays[name], color=colour, linewidth=1.5)
            axes.set_ylabel(f"{label}\n(no unit)", fontsize=8)
            axes.grid(visible=False, axis="x")
        stack[-1].set_xlabel("time (ms)" if even else "recorded step")
        stack[-1].set_xlim(at[0], at[-1] if len(at) > 1 else at[0] + 1)
        figure.align_ylabels(stack)
        legend_below(figure, stack[-1], columns=1)
    words = [f"Seed {record.seed}.", f"The first {MOST} onsets; {left_out} more were recorded." if left_out else ""]
    name = f"traces of {row.name} seed {record.seed}"
    return Group("plots", (Drawing(title, svg_text(figure, name), " ".join(filter(None, words))),))


def _part(onset: np.ndarray) -> tuple[slice, int]:
    """The steps up to the onset that is one too many, and how many onsets lie beyond."""
    at = np.flatnonzero(onset)
    return (slice(0, int(at[MOST])), len(at) - MOST) if len(at) > MOST else (slice(None), 0)
