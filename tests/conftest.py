"""What several folders of tests share: the command line, in this process and in one of its own."""

import signal
from pathlib import Path

import pytest

from processes import Answer, start

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job in the background: the tests' own processes would
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not hear Ctrl-C either


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """An empty working folder, and no way to the user's data."""
    monkeypatch.delenv("INFOHEBB_DATA", raising=False)
    monkeypatch.setenv("INFOHEBB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(nowhere, capsys):
    """Call the command line in this process, where shapes and types are checked."""
    from infohebb.cli import main

    def call(*words) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        return Answer(stop.value.code or 0, *capsys.readouterr())

    return call


@pytest.fixture
def python(tmp_path):
    """Run code in a process of its own; nothing of it outlives the test."""
    started = []

    def call(code: str, folder: Path = tmp_path, *, wait: bool = True):
        started.append(start(code, folder))
        if not wait:
            return started[-1]
        out, err = started[-1].communicate(timeout=300)
        return Answer(started[-1].returncode, out, err)

    yield call
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
