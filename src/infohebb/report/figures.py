"""Which figures a page shows: those across a recipe's rows, and those of one row."""

from infohebb.report.across import across_rows
from infohebb.report.alignment import alignment_curves
from infohebb.report.compartments import compartment_traces
from infohebb.report.curves import learning_curve, objectives
from infohebb.report.grams import gram_matrices
from infohebb.report.monitor import information_curves, monitor_curves
from infohebb.report.numbers import number_sweeps
from infohebb.report.plane import information_plane
from infohebb.report.samples import samples_seen
from infohebb.report.style import Group
from infohebb.report.summary import Section, Summary
from infohebb.report.sweep import memory_sweeps
from infohebb.report.third_factor import third_factors
from infohebb.report.together import methods_together
from infohebb.report.traces import neuron_traces

__all__ = ["across_rows", "methods_together", "row_figures", "section_figures"]


def section_figures(section: Section) -> list[Group]:
    """All that its rows' records hold the material for, several rows to a figure."""
    groups = methods_together(section), samples_seen(section), memory_sweeps(section), number_sweeps(section)
    return [group for group in groups if group.drawings]


def row_figures(row: Summary) -> list[Group]:
    """All that the records of `row` hold the material for."""
    plots = tuple(drawing for drawing in (learning_curve(row), information_plane(row)) if drawing)
    in_time = Group("plots", (*third_factors(row).drawings, *neuron_traces(row).drawings))
    curves = Group("plots", (*plots, *monitor_curves(row).drawings))
    settling = information_curves(row), compartment_traces(row)
    groups = curves, alignment_curves(row), *settling, in_time, objectives(row), gram_matrices(row)
    return [group for group in groups if group.drawings]
