"""One self-contained HTML page: tables beside the published numbers, figures of every row, how it was measured."""

import json
import shlex
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from infohebb.experiments.record import Record
from infohebb.files import write_whole
from infohebb.report import units
from infohebb.report.collect import diagnosed_epochs, differing_settings, read_all, sections
from infohebb.report.figures import across_rows, row_figures, section_figures
from infohebb.report.style import Drawing, Group
from infohebb.report.summary import Section, Summary
from infohebb.report.tables import (
    alignment_heads,
    alignment_tables,
    cells,
    epochs_text,
    heads,
    matrix,
    measured_text,
    spread_text,
)

MOST = 5  # of a row's runs, where it has many, of which the page tells one by one


@dataclass(frozen=True)
class RowView:
    """What the page says of one row."""

    anchor: str
    summary: Summary
    cells: list[str]
    figures: list[Group]
    command: str
    provenance: dict[str, str]
    differing: list[str]
    settings: str


@dataclass(frozen=True)
class SectionView:
    """What the page says of one recipe on one split."""

    anchor: str
    section: Section
    heads: list[str]
    rows: list[RowView]
    matrix: list[tuple[str, list[Summary | None]]]
    alignment_heads: list[str]
    alignment: list[tuple[str, list[list[str]]]]  # of each measure: its title and its lines
    across: Drawing
    together: list[Group]


def write_html(folder: Path, out: Path) -> Path:
    """Write the page of all records below `folder` to `out`.

    Raises UsageError when there is no record, CorruptFileError when one cannot be read.
    """
    text = page(read_all(folder))
    return write_whole(out, lambda part: part.write_text(text, encoding="utf-8"))


def page(records: Sequence[Record]) -> str:
    """The page as a string; the same records give the same bytes."""
    views = [_section_view(section, f"recipe-{i}") for i, section in enumerate(sections(records), 1)]
    opened = max((row for view in views[:1] for row in view.rows), key=_figure_count, default=None)
    template = _environment().get_template("report.html")
    return template.render(sections=views, facts=_facts(records, views), opened=opened)


def command(row: Summary) -> str:
    """What runs this row again."""
    record = row.records[0]
    path = record.config.get("data", {}).get("path")
    name = "/".join(["*", *row.row.split("/")[1:]]) if path else row.row
    words = ["infohebb", "run", record.origin or row.recipe, "--only", _quoted(name), "--seeds"]
    words.append(",".join(map(str, row.seeds)))
    words += ["--data", shlex.quote(path)] if path else []
    words += [part for setting in _settings(record) for part in ("--set", _quoted(setting))]
    words += ["--validate"] if row.measure.split == "validation" else []
    words += _diagnose(record)
    return " ".join(words)


def _diagnose(record: Record) -> list[str]:
    """The option, as far as two diagnoses tell how many epochs lie between them."""
    at = diagnosed_epochs(record)
    return ["--diagnose", f"every={at[1] - at[0]}"] if len(at) > 1 else []


def _quoted(text: str) -> str:
    return f"'{text}'" if "'" not in text else shlex.quote(text)


def _settings(record: Record) -> list[str]:
    """The overrides; records from before they were written still tell their precision."""
    precision = record.config.get("training", {}).get("precision", "fp32")
    return record.overrides or ([] if precision == "fp32" else [f"training.precision={precision}"])


def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("infohebb.report")
    strict = jinja2.StrictUndefined
    found = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=strict)
    found.filters.update(spread=spread_text, inline=_inline, breakable=_breakable)
    return found


def _facts(records: Sequence[Record], views: Sequence[SectionView]) -> dict[str, str]:
    recipes, rows = len({record.recipe for record in records}), sum(len(view.rows) for view in views)
    counts = {"recipe": recipes, "row": rows, "run": len(records)}
    facts = {name if count == 1 else f"{name}s": str(count) for name, count in counts.items()}
    return {**facts, "computing": units.duration(sum(record.wall_seconds for record in records))}


def _section_view(section: Section, anchor: str) -> SectionView:
    rows = [_row_view(row, section, f"{anchor}-row-{i}") for i, row in enumerate(section.rows, 1)]
    alignment = alignment_heads(section), alignment_tables(section)
    pictures = across_rows(section), section_figures(section)
    return SectionView(anchor, section, heads(section), rows, _matrix_view(section), *alignment, *pictures)


def _matrix_view(section: Section) -> list[tuple[str, list[Summary | None]]]:
    return list(zip(section.datasets, matrix(section), strict=True)) if section.is_matrix else []


def _row_view(row: Summary, section: Section, anchor: str) -> RowView:
    return RowView(
        anchor=anchor,
        summary=row,
        cells=cells(row, section),
        figures=row_figures(row),
        command=command(row),
        provenance=_provenance(row),
        differing=differing_settings(row.records),
        settings=json.dumps(row.records[0].config, indent=2, ensure_ascii=False),
    )


def _figure_count(row: RowView) -> int:
    return sum(len(group.drawings) for group in row.figures)


def _inline(drawing: Drawing) -> Markup:
    """The SVG, named for those who cannot see it: markup of our own making, while all else on the page is escaped."""
    label = Markup('<svg role="img" aria-label="{}" ').format(drawing.title)
    return Markup(drawing.svg.replace("<svg ", label, 1))


def _breakable(name: str) -> Markup:
    """A row's name that may be broken after its slashes and plus signs."""
    return escape(name).replace("/", Markup("/<wbr>")).replace("+", Markup("+<wbr>"))


def _provenance(row: Summary) -> dict[str, str]:
    runs, measure = row.records, row.measure
    methods, after = _each(run.peak_memory_method for run in runs), epochs_text(row)
    score = f"{measured_text(row)}, {measure.axis}" + (f" after epoch {after}" if after != units.NOTHING else "")
    train = f"{spread_text(row.train, measure.quantity)}, final {measure.label} of each run"
    return {
        "score": score,
        **({} if measure.study else {"train": train}),
        **{units.named(key): spread_text(found, key) for key, found in row.others.items()},
        "seeds": units.whole_numbers(row.seeds),
        "time": _each_number([run.wall_seconds for run in runs], units.duration),
        "peak memory": f"{_each_number([run.peak_memory_bytes for run in runs], units.memory)} ({methods})",
        "device": _each(run.device for run in runs),
        "versions": _each(", ".join(f"{name} {version}" for name, version in run.versions.items()) for run in runs),
        "commit": _each(run.commit or "not recorded" for run in runs),
    }


def _each(values: Iterable[str]) -> str:
    found = list(dict.fromkeys(values))
    rest = [f"and {len(found) - MOST} more"] if len(found) > MOST + 1 else []
    return "; ".join([*found[:MOST], *rest] if rest else found)


def _each_number(values: Sequence[int | float], unit: Callable[[int | float], str]) -> str:
    """Each that differs, or from which to which they go."""
    found = dict.fromkeys(map(unit, values))
    if len(found) <= MOST + 1:
        return "; ".join(found)
    return f"{unit(min(values))} to {unit(max(values))}, mean {unit(statistics.fmean(values))}"
