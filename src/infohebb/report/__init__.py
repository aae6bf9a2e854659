"""Floor 5: tables, figures and one HTML page from records; touches no tensor."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infohebb.report.html import write_html
    from infohebb.report.tables import markdown, terminal, write_markdown

__all__ = ["markdown", "terminal", "write_html", "write_markdown"]

_HOME = {"markdown": "tables", "terminal": "tables", "write_html": "html", "write_markdown": "tables"}


def __getattr__(name: str) -> Any:
    """Load a public name on its first use, so that tables do not wait for matplotlib."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
