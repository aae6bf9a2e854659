"""The tables beside the paper's numbers, as Markdown and in the terminal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from infohebb.experiments.record import Record
from infohebb.files import write_whole
from infohebb.report import units
from infohebb.report.collect import read_all, sections
from infohebb.report.summary import Measure, Section, Spread, Summary

EMPTY = "No records."
ANGLES = "Angle to backprop's gradient (degrees)"
RATIOS = "Norm ratio to backprop's gradient (rule / backprop, no unit)"
BESIDE = 2  # other numbers of a study that a terminal has room for
STYLES = {"above": "green", "near": "", "below": "yellow", "": ""}


def spread_text(spread: Spread | None, quantity: str) -> str:
    """Mean ± s.d., without the s.d. where there is but one run."""
    if spread is None or spread.sd is None:
        return units.score(spread and spread.mean, quantity)
    return f"{units.score(spread.mean, quantity)} ± {units.deviation(spread.sd, quantity)}"


def measured_text(row: Summary) -> str:
    """Mean ± s.d. (n)."""
    text = spread_text(row.measured, row.measure.quantity)
    return f"{text} ({row.measured.n})" if row.measured else text


def epochs_text(row: Summary) -> str:
    """The number of epochs, or the range where seeds differ."""
    fewest, most = min(row.epochs), max(row.epochs)
    if most == 0:
        return units.NOTHING
    return str(most) if fewest == most else f"{fewest}–{most}"


def heads(section: Section) -> list[str]:
    """The columns of a section's table."""
    measure, others = section.measure, list(map(units.named, section.others))
    points = " (points)" if measure.is_percent else ""
    measured = f"{_judged(measure)}, mean ± s.d. (n)", "published", f"gap{points}"
    train = [] if measure.study else [f"train {units.named(measure.quantity)}"]
    epochs = ["epochs"] if not measure.study or section.has_epochs else []
    return ["row", *measured, *train, *others, *epochs, "time", "peak memory"]


def short_heads(section: Section) -> list[str]:
    """The columns after the row's name, in words that leave a terminal of 80 columns room for that name."""
    measure, unit = section.measure, " %" if section.measure.is_percent else ""
    if measure.study:
        paper = ["paper", "gap"] if section.has_published else []
        return [f"{measure.label} (n)", *paper, *map(units.named, section.others[:BESIDE]), "time"]
    return [f"{measure.split}{unit} (n)", "paper", "gap", f"train{unit}", "time"]


def cells(row: Summary, section: Section) -> list[str]:
    """One row of the table that `heads` heads."""
    quantity, study = row.measure.quantity, row.measure.study
    return [
        row.row,
        measured_text(row),
        row.published_text,
        units.signed(row.gap, quantity),
        *([] if study else [spread_text(row.train, quantity)]),
        *(spread_text(row.others.get(key), key) for key in section.others),
        *([epochs_text(row)] if not study or section.has_epochs else []),
        units.duration(row.seconds),
        units.memory(row.memory),
    ]


def _judged(measure: Measure) -> str:
    name = units.named(measure.quantity)
    return name if measure.study else f"{measure.split} {name}"


def matrix(section: Section) -> list[list[Summary | None]]:
    """Data sets down, method/mode across, as the papers print it."""
    found = {(row.dataset, row.method): row for row in section.rows}
    return [[found.get((dataset, method)) for method in section.methods] for dataset in section.datasets]


def matrix_text(row: Summary | None) -> str:
    """Measured (published)."""
    if row is None:
        return ""
    text = spread_text(row.measured, row.measure.quantity)
    return text if row.published is None else f"{text} ({row.published_text})"


def alignment_heads(section: Section) -> list[str]:
    """The columns of the tables of angles and norm ratios."""
    return ["row", "after epoch", *map(units.layer, section.layers)]


def alignment_tables(section: Section) -> list[tuple[str, list[list[str]]]]:
    """Angle and norm ratio of each layer when last measured, mean ± s.d., of every row that was diagnosed.

    Two tables, each with its title; none where nothing was diagnosed.
    """
    if not section.layers:
        return []
    angles = _by_layer(section, lambda row: row.angles, units.degrees)
    return [(ANGLES, angles), (RATIOS, _by_layer(section, lambda row: row.ratios, units.ratio))]


def _by_layer(
    section: Section, measure: Callable[[Summary], Mapping[str, Spread | None]], unit: Callable[[float], str]
) -> list[list[str]]:
    return [
        [
            row.row,
            units.whole_numbers(row.diagnosed),
            *(_last_text(measure(row).get(layer), unit) for layer in section.layers),
        ]
        for row in section.rows
        if row.angles
    ]


def _last_text(spread: Spread | None, unit: Callable[[float], str]) -> str:
    """Mean ± s.d., without the s.d. where there is but one run."""
    if spread is None:
        return units.NOTHING
    return unit(spread.mean) + ("" if spread.sd is None else f" ± {unit(spread.sd)}")


def markdown(records: Iterable[Record]) -> str:
    """One pipe table per recipe and split, and the matrix where rows make one."""
    return "\n".join(_markdown_section(section) for section in sections(records)) or f"{EMPTY}\n"


def write_markdown(folder: Path, out: Path) -> Path:
    """Write the tables of all records below `folder` to `out`.  Raises UsageError when there is no record."""
    text = markdown(read_all(folder))
    return write_whole(out, lambda part: part.write_text(text, encoding="utf-8"))


def terminal(records: Iterable[Record]) -> Group:
    """One table per recipe and split, for `rich.print`."""
    return Group(*[_terminal_table(section) for section in sections(records)] or [EMPTY])


def _markdown_section(section: Section) -> str:
    parts = [f"## {section.title}\n", _pipes(heads(section), _named(cells(row, section) for row in section.rows))]
    if section.is_matrix:
        texts = [list(map(matrix_text, line)) for line in matrix(section)]
        lines = [[dataset, *line] for dataset, line in zip(section.datasets, texts, strict=True)]
        parts += ["Measured (published):\n", _pipes(["", *map(_code, section.methods)], _named(lines))]
    for title, lines in alignment_tables(section):
        parts += [f"{title}, when last measured:\n", _pipes(alignment_heads(section), _named(lines))]
    return "\n".join(parts)


def _named(lines: Iterable[Sequence[str]]) -> list[list[str]]:
    return [[_code(name), *rest] for name, *rest in lines]


def _pipes(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *body))


def _code(name: str) -> str:
    return f"`{name.replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _terminal_table(section: Section) -> Table:
    title = Text(section.title, style="bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.caption_justify = "left"
    table.add_column("row", overflow="fold")
    for head in short_heads(section):
        table.add_column(head, justify="right", no_wrap=True)
    for row in section.rows:
        table.add_row(*_short_cells(row, section))
    unshown = section.others[BESIDE:] if section.measure.study else ()
    if unshown:
        table.caption = Text(f"In the report, too: {', '.join(map(units.words, unshown))}")
    return table


def _short_cells(row: Summary, section: Section) -> list[Text]:
    """One row of the table that `short_heads` heads."""
    name, measured, paper, gap = map(Text, cells(row, section)[:4])
    gap.stylize(STYLES[row.standing])
    time = Text(units.duration(row.seconds))
    if section.measure.study:
        beside = [paper, gap] if section.has_published else []
        others = [Text(spread_text(row.others.get(key), key)) for key in section.others[:BESIDE]]
        return [name, measured, *beside, *others, time]
    train = Text(units.score(row.train and row.train.mean, section.measure.quantity))
    return [name, measured, paper, gap, train, time]
