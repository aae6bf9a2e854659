"""The benchmarks run: a small round of each that tests can afford. Their figures are for `make bench`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL = {
    "conv.py": ["--factor", "0.0625", "--rounds", "1", "--steps", "0", "--batch", "4", "--whole-factor", "0.0625"],
    "gpu.py": ["--device", "cpu", "--factor", "0.0625", "--batches", "1"],
}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_round_prints_its_figures(name, tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(FOLDER / name), *SMALL[name], "--json", str(figures)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    measured = json.loads(figures.read_text())
    assert measured
    assert all(value > 0 for value in measured.values())
    assert all(name in answer.stdout for name in measured)
