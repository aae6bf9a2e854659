"""Write the measured figures of `results/` into README.md and docs/papers: `make docs`.

What stands between <!-- KIND NAME --> and <!-- end --> is replaced, NAME being a recipe and KIND results, rivals,
report, epochs or sweeps, or a benchmark and KIND bench; reports and figures of some recipes are written whole. A test
keeps all of these and the records together.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from infohebb.experiments.recipe import load_recipe
from infohebb.experiments.record import Record, read_records
from infohebb.report import units
from infohebb.report.collect import sections
from infohebb.report.figures import methods_together, section_figures
from infohebb.report.numbers import number_sweeps
from infohebb.report.old_names import with_new_names
from infohebb.report.style import Drawing, Group
from infohebb.report.summary import Section
from infohebb.report.tables import markdown, matrix, matrix_text

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/papers/kernelized_bottleneck.md", "docs/papers/hsic_memory.md", "docs/papers/corinfomax.md")
REPORTED = ("kib/table2_small",)
NOTHING = "No records yet.\n"
HEADING = re.compile(r"^## (.*)\n", re.MULTILINE)
UNSPEAKABLE = re.compile(r"[^A-Za-z0-9]+")  # in the name of a file
DRAWN: dict[str, Callable[[Section], list[Group]]] = {
    "report": section_figures,
    "sweeps": lambda section: [number_sweeps(section)],
}
MARKED = re.compile(r"(<!-- (results|rivals|report|epochs|sweeps|bench) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(recipe: str) -> str:
    """Columns of the paper down, data sets across, in the recipe's order: measured mean ± s.d. (published)."""
    found = recorded(recipe)
    if not found:
        return NOTHING
    section = sections(found)[0]
    lines = ["| | " + " | ".join(section.datasets) + " |", "|---|" + "---:|" * len(section.datasets)]
    for method, cells in zip(section.methods, zip(*matrix(section), strict=True), strict=True):
        lines.append(f"| {method} | " + " | ".join(matrix_text(cell) or "–" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def recorded(recipe: str) -> list[Record]:
    """Records of a recipe, in its order."""
    return sorted(read_records(ROOT / "results" / recipe), key=place_in_recipe)


def place_in_recipe(record: Record) -> tuple[int, int]:
    """Where a record's row stands in its recipe, then its seed."""
    rows = [row.name for row in load_recipe(record.recipe)[1].row]
    return rows.index(record.row), record.seed


def reported(recipe: str) -> str:
    """The report's own tables of a recipe, and its pictures across rows."""
    found = recorded(recipe)
    if not found:
        return NOTHING
    text = HEADING.sub(r"\1:\n" if len(sections(found)) > 1 else "", markdown(found)).lstrip("\n")
    drawn = shown(pictures(found))
    return text + (f"\n{drawn}" if drawn else "")


def shown(drawn: Iterator[tuple[str, Drawing]]) -> str:
    """Pictures, a line each."""
    return "".join(f"![{drawing.title}](figures/{name})\n" for name, drawing in drawn)


def swept(recipe: str) -> str:
    """The pictures of a recipe's sweeps over one number alone."""
    return shown(pictures(recorded(recipe), DRAWN["sweeps"]))


def pictures(
    records: list[Record], groups: Callable[[Section], list[Group]] = section_figures
) -> Iterator[tuple[str, Drawing]]:
    """File name and drawing of each figure across rows."""
    for section in sections(records):
        for drawing in (drawing for group in groups(section) for drawing in group.drawings):
            yield f"{section.recipe.replace('/', '-')}-{UNSPEAKABLE.sub('-', drawing.title).strip('-')}.svg", drawing


EPOCHS = (1, 2, 3, 5, 10, 20, 50)


def course(recipe: str) -> str:
    """Test accuracy of each row and seed after some epochs and, where monitored, the first layer's angle there."""
    lines = ["| row, seed | " + " | ".join(map(str, EPOCHS)) + " |", "|---|" + "---:|" * len(EPOCHS)]
    for record in map(with_new_names, recorded(recipe)):
        accuracy = record.curves.get("test_accuracy", [])
        monitor = record.curves.get("monitor", {})
        angles = dict(zip(monitor.get("epoch", []), monitor.get("angle", {}).get("layers.0", []), strict=False))
        cells = [
            f"{accuracy[epoch - 1]:.2f}" + (f", {angles[epoch]:.1f}°" if epoch in angles else "")
            if epoch <= len(accuracy)
            else "–"
            for epoch in EPOCHS
        ]
        lines.append(f"| {record.row}, {record.seed} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else NOTHING


FAMILIES = {"sgd+divnorm": "kib/table2_sgd", "adamw+batchnorm": "kib/table2_adamw"}
WIDE = ("1x+divnorm", "1x+grouping+divnorm", "1x+grouping", "1x")  # rows of the large tables, the paper's own first


def rivals(recipe: str) -> str:
    """Methods down, optimizer families across: measured, and beside it the paper's number for its large network."""
    measured = {record.row: record for record in read_records(ROOT / "results" / recipe)}
    methods = dict.fromkeys(row.name.split("/")[1] for row in load_recipe(recipe)[1].row)
    heads = [f"{family} | paper, 1x, 500 epochs" for family in FAMILIES]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|---:|" * len(FAMILIES)]
    for method in methods:
        cells = [cell for family in FAMILIES for cell in _beside_the_paper(method, family, measured)]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _beside_the_paper(method: str, family: str, measured: dict[str, Record]) -> tuple[str, str]:
    """Test accuracy of the small network, and the paper's of the large one in the same family."""
    record = measured.get(f"cifar10/{method}/{family}")
    rows = {row.name: row for row in load_recipe(FAMILIES[family])[1].row}
    wide = WIDE if family == "sgd+divnorm" else WIDE[2:]  # there the paper's pHSIC rows have grouping alone
    row = next((rows[name] for mode in wide if (name := f"cifar10/{method}/{mode}") in rows), None)
    paper = units.published(row and row.published, sd=row and row.published_sd)
    return (f"{record.final['test_accuracy']:.2f}" if record else "–"), paper


def figures(name: str) -> str:
    """What a benchmark printed with --json, absolute times left out."""
    measured = json.loads((ROOT / "results" / "bench" / f"{name}.json").read_text())
    ratios = {figure: value for figure, value in measured.items() if not re.search(r"\(ms|second", figure)}
    lines = [f"| {figure} | {value:.3g} |\n" for figure, value in ratios.items()]
    return "".join(["| figure | measured |\n", "|---|---:|\n", *lines])


def filled(text: str) -> str:
    """The page with each marked table written anew."""

    kinds = {
        "results": table,
        "rivals": rivals,
        "report": reported,
        "epochs": course,
        "sweeps": swept,
        "bench": figures,
    }

    def replace(found: re.Match[str]) -> str:
        return found[1] + kinds[found[2]](found[3]) + found[4]

    return MARKED.sub(replace, text)


def pages() -> Iterator[tuple[Path, str]]:
    """Each page, report and figure with the text that it should have."""
    for name in PAGES:
        path = ROOT / name
        text = path.read_text()
        yield path, filled(text)
        for kind, recipe in ((kind, recipe) for _, kind, recipe, _ in MARKED.findall(text) if kind in DRAWN):
            for picture, drawing in pictures(recorded(recipe), DRAWN[kind]):
                yield path.parent / "figures" / picture, f"{drawing.svg}\n"
    for recipe in REPORTED:
        records = [*read_records(ROOT / "results" / recipe)]
        yield ROOT / "results" / recipe / "report.md", markdown(records)
        for panel in methods_together(sections(records)[0]).drawings:
            mode = panel.title.rpartition(", ")[2]
            yield ROOT / "docs" / "papers" / "figures" / f"{Path(recipe).name}-{mode}.svg", f"{panel.svg}\n"


if __name__ == "__main__":
    for page, text in pages():
        page.parent.mkdir(exist_ok=True)
        page.write_text(text)
