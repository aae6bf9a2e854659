"""README and the papers' pages show the figures of the committed records: `make docs` has been run."""

import importlib.util
import re
from pathlib import Path

from infohebb.experiments.record import Record, record_path, write_record

ROOT = Path(__file__).resolve().parents[1]


def load_tables():
    spec = importlib.util.spec_from_file_location("docs_tables", ROOT / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_show_the_committed_records():
    stale = [path.name for path, text in load_tables().pages() if not path.exists() or path.read_text() != text]
    assert stale == [], "run `make docs`"


def test_readme_names_every_folder_of_the_package():
    text = (ROOT / "README.md").read_text()
    folders = [path.name for path in (ROOT / "src" / "infohebb").iterdir() if path.is_dir() and path.name[0] != "_"]
    assert [name for name in folders if f"{name}/" not in text] == []


def test_a_recipes_records_become_the_reports_table_and_pictures(tmp_path, monkeypatch):
    tables = load_tables()
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert tables.reported("wmh/memory_sweep") == tables.NOTHING
    for size in (16, 2, 4):
        write_sweep_record(tmp_path / "results", size)
    text = tables.reported("wmh/memory_sweep")
    rows = re.findall(r"^\| `(\S+)` \| (\S+) ", text, re.MULTILINE)
    assert rows == [(f"mnist/pub/N={size}", f"{80 + size}.00") for size in (2, 4, 16)]
    assert "##" not in text
    shown = re.findall(r"!\[.+\]\(figures/(wmh-memory_sweep-[A-Za-z0-9-]+\.svg)\)", text)
    assert shown == [name for name, _ in tables.pictures(tables.recorded("wmh/memory_sweep"))]
    assert any("memory" in name.removeprefix("wmh-memory_sweep") for name in shown)


def write_sweep_record(results, size):
    row, scores = f"mnist/pub/N={size}", {"train_accuracy": 90.0, "test_accuracy": 80.0 + size}
    curves = {"epoch": [1, 2], "samples": [12000, 24000]} | {name: [50.0, score] for name, score in scores.items()}
    record = Record(
        recipe="wmh/memory_sweep",
        row=row,
        seed=0,
        published=None,
        final=scores,
        curves=curves,
        config={"training": {"batch": size}},
        versions={},
        commit=None,
        device="cpu",
        wall_seconds=1.0,
        peak_memory_bytes=2**20,
        peak_memory_method="none",
    )
    write_record(record, record_path(results, record.recipe, row, 0))
