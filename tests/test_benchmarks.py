"""The benchmarks run: a small round of each that tests can afford. Their figures are for `make bench`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL = {
    "corinfomax.py": ["--rounds", "1"],
    "conv.py": ["--factor", "0.0625", "--rounds", "1", "--steps", "0", "--batch", "4", "--whole-factor", "0.0625"],
    "gpu.py": ["--device", "cpu", "--factor", "0.0625", "--batches", "1"],
    "learner.py": ["--factor", "0.0625", "--rounds", "1", "--batch", "4", "--whole-factor", "0.0625"],
    "online.py": ["--rounds", "1", "--repeats", "2", "--eager"],
    "step.py": ["--rounds", "1", "--threads", "1"],
    "leaky.py": ["--rounds", "1", "--eager"],
    "memory.py": [],
    "resnet.py": ["--data", "digits", "--samples", "128", "--rules", "kib,backprop", "--epochs", "1", "--pool", "2"],
    "startup.py": [],
    "streams.py": ["--rounds", "1"],
    "window.py": ["--rounds", "1", "--eager"],
}
SIZES = {  # of those that have no option for them
    "online.py": "online.INPUTS, online.WIDTHS, online.GROUPS = 32, (16, 16), 4",
    "step.py": "step.BATCH, step.INPUTS, step.WIDTHS = 32, 64, (64, 64, 64)",
    "memory.py": "memory.BATCH = memory.WIDTH = 64",
}
HELPERS = {
    "autograd_window.py",
    "corinfomax_plain.py",
    "jax_peers.py",
    "peer.py",
    "resnet18.py",
    "resnets.py",
    "steps.py",
    "streamed.py",
    "timing.py",
}
MORE = [
    ("resnet.py", ["--resnet18", "--width", "8", "--batch", "4", "--rounds", "1"])
]  # other things that they measure


def start(name):
    """What Python is told, to run a benchmark in its small size."""
    module = name.removesuffix(".py")
    return ["-c", f"import {module}; {SIZES[name]}; {module}.main()"] if name in SIZES else [str(FOLDER / name)]


def test_none_is_left_out():
    assert {path.name for path in FOLDER.glob("*.py")} == SMALL.keys() | HELPERS


@pytest.mark.slow
@pytest.mark.parametrize(("name", "small"), [*SMALL.items(), *MORE])
def test_a_small_round_prints_its_figures(name, small, tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, *start(name), *small, "--json", str(figures)]
    paths = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
    answer = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}
    )
    assert answer.returncode == 0, answer.stderr
    measured = json.loads(figures.read_text())
    assert measured
    assert all(value > 0 for value in measured.values())
    assert all(name in answer.stdout for name in measured)
