"""Write the measured figures of `results/` into README.md and docs/papers: `make docs`.

What stands between <!-- results RECIPE --> and <!-- end --> is replaced; a test keeps pages and records together.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from infohebb.experiments.record import Record, read_records
from infohebb.report.collect import sections
from infohebb.report.tables import matrix, matrix_text

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/papers/kernelized_bottleneck.md")
MARKED = re.compile(r"(<!-- results (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(records: list[Record]) -> str:
    """Columns of the paper down, data sets across: measured mean ± s.d. (published)."""
    section = sections(records)[0]
    lines = ["| | " + " | ".join(section.datasets) + " |", "|---|" + "---:|" * len(section.datasets)]
    for method, cells in zip(section.methods, zip(*matrix(section), strict=True), strict=True):
        lines.append(f"| {method} | " + " | ".join(matrix_text(cell) or "–" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def filled(text: str) -> str:
    """The page with each marked table written anew."""

    def replace(found: re.Match[str]) -> str:
        return found[1] + table(list(read_records(ROOT / "results" / found[2]))) + found[3]

    return MARKED.sub(replace, text)


def pages() -> Iterator[tuple[Path, str]]:
    """Each page with the text that it should have."""
    for name in PAGES:
        path = ROOT / name
        yield path, filled(path.read_text())


if __name__ == "__main__":
    for page, text in pages():
        page.write_text(text)
