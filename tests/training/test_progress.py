"""The progress bar: on a terminal, and only there."""

import re

import pytest
from training_toys import data, network, rule

from infohebb import train


def shown(capsys, **options):
    train(network(), rule(), data(), epochs=3, batch=25, **options)
    out, err = capsys.readouterr()
    assert out == ""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", err)


def test_nothing_is_shown_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert shown(capsys) == ""


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_rule_epoch_accuracy_speed_and_time(capsys):
    text = shown(capsys)
    last = [line for line in re.split(r"[\r\n]", text) if "epoch" in line][-1]
    assert re.search(r"KernelizedBottleneck .*epoch 3/3 +\d+\.\d %.* \d+ batches/s.* \d+:\d\d:\d\d", last), text


@pytest.mark.usefixtures("terminal")
def test_nothing_is_shown_where_it_is_not_wanted(capsys):
    assert shown(capsys, progress=False) == ""
