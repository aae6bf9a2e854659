"""The pages that transcribe the papers, read as tables."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def section(page, heading):
    """The lines of one section of a page of ../shared/specs."""
    if not SHARED.exists():
        pytest.skip(f"the pages that transcribe the paper are not on this machine: no folder {SHARED}")
    text = (SHARED / "specs" / page).read_text()
    assert text.count(heading) == 1
    return text.partition(heading)[2].partition("\n## ")[0].splitlines()


def table(lines):
    """The cells of a section's table, header first."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if set("".join(row)) - set("-")]
