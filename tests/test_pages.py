"""README and the papers' pages show the figures of the committed records: `make docs` has been run."""

import importlib.util
from pathlib import Path

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
