"""Write the measured figures of `results/` into README.md and docs/papers: `make docs`.

What stands between <!-- results RECIPE --> or <!-- bench NAME --> and <!-- end --> is replaced; a test keeps pages and
records together.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from infohebb.experiments.recipe import load_recipe
from infohebb.experiments.record import Record, read_records
from infohebb.report.collect import sections
from infohebb.report.tables import matrix, matrix_text

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/papers/kernelized_bottleneck.md")
MARKED = re.compile(r"(<!-- (results|bench) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(recipe: str) -> str:
    """Columns of the paper down, data sets across, in the recipe's order: measured mean ± s.d. (published)."""
    found = sorted(read_records(ROOT / "results" / recipe), key=place_in_recipe)
    if not found:
        return "No records yet.\n"
    section = sections(found)[0]
    lines = ["| | " + " | ".join(section.datasets) + " |", "|---|" + "---:|" * len(section.datasets)]
    for method, cells in zip(section.methods, zip(*matrix(section), strict=True), strict=True):
        lines.append(f"| {method} | " + " | ".join(matrix_text(cell) or "–" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def place_in_recipe(record: Record) -> tuple[int, int]:
    """Where a record's row stands in its recipe, then its seed."""
    rows = [row.name for row in load_recipe(record.recipe)[1].row]
    return rows.index(record.row), record.seed


def figures(name: str) -> str:
    """What a benchmark printed with --json, absolute times left out."""
    measured = json.loads((ROOT / "results" / "bench" / f"{name}.json").read_text())
    lines = [f"| {figure} | {value:.3g} |\n" for figure, value in measured.items() if "(ms" not in figure]
    return "".join(["| figure | measured |\n", "|---|---:|\n", *lines])


def filled(text: str) -> str:
    """The page with each marked table written anew."""

    def replace(found: re.Match[str]) -> str:
        return found[1] + (table if found[2] == "results" else figures)(found[3]) + found[4]

    return MARKED.sub(replace, text)


def pages() -> Iterator[tuple[Path, str]]:
    """Each page with the text that it should have."""
    for name in PAGES:
        path = ROOT / name
        yield path, filled(path.read_text())


if __name__ == "__main__":
    for page, text in pages():
        page.write_text(text)
