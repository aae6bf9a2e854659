"""Rules by their path: a module that cannot be imported is one line."""

import pytest

from infohebb.errors import UsageError
from infohebb.testing.paths import import_rule


@pytest.mark.parametrize("code", ["import sys; sys.exit(3)", "raise ValueError('a\\nb' * 200)"])
def test_a_module_that_exits_or_raises_cannot_be_imported(tmp_path, monkeypatch, code):
    (tmp_path / "leaves_at_once.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="leaves_at_once cannot be imported: ") as caught:
        import_rule("leaves_at_once:Rule")
    assert len(str(caught.value)) <= 300
    assert "\n" not in str(caught.value)
