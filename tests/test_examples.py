"""The examples run from an empty folder, as a user starts them, and print what their headers promise."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from processes import Answer, user_environment

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))
LONGEST = 60


def run(folder: Path, name: str, *words) -> Answer:
    """Run an example to its end; it must succeed, without warnings of ours."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, words)]
    done = subprocess.run(
        command, cwd=folder, env=user_environment(folder), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return Answer(done.returncode, done.stdout, done.stderr)


def accuracies(answer: Answer) -> list[float]:
    """All accuracies in percent, in the order in which they were printed."""
    return [float(number) for number in re.findall(r"accuracy (\d+\.\d) %", answer.out)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_to_run_it(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST
    assert f"python examples/{path.name}" in ast.get_docstring(ast.parse(text))
    assert "Prints" in ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_uses_public_names_only(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not any(alias.name.startswith("_") for alias in node.names)
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_") or node.attr == "__init__"


def test_each_example_is_run_by_a_test():
    own = Path(__file__).read_text()
    assert [path.stem for path in FILES if f'run(tmp_path, "{path.stem}"' not in own] == []


def test_resnet18(tmp_path):
    answer = run(tmp_path, "resnet18", "--width", 8, "--epochs", 3)
    assert len(accuracies(answer)) == 3
    assert accuracies(answer)[-1] > 60
    assert answer.out.count("label loss") == 3


def test_own_forward(tmp_path):
    answer = run(tmp_path, "own_forward", "--epochs", 4)
    assert "units: ['maps', 'dense', 'mix', 'deep']" in answer.out
    assert len(accuracies(answer)) == 5
    assert accuracies(answer)[-1] > 80


def test_convnext_vit(tmp_path):
    answer = run(tmp_path, "convnext_vit", "--epochs", 1)
    assert answer.out.count("ConvNeXt") == answer.out.count("ViT") == 3
    assert min(accuracies(answer)) > 15


def test_frozen_backbone(tmp_path):
    answer = run(tmp_path, "frozen_backbone", "--epochs", 5)
    assert accuracies(answer)[0] > 80
    assert "backbone unchanged: True" in answer.out


def test_own_rule(tmp_path):
    answer = run(tmp_path, "own_rule")
    difference = float(re.search(r"autograd (\S+)", answer.out)[1])
    assert difference < 1e-12
    assert int(re.search(r"(\d+) checks hold", answer.out)[1]) > 10
    rule, frozen = accuracies(answer)
    assert rule > frozen + 2


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install '.[peers]'")


@pytest.mark.peers
@pytest.mark.parametrize("mode", [[], ["--automatic"]], ids=["manual", "automatic"])
def test_lightning(tmp_path, mode):
    needs("lightning")
    (accuracy,) = accuracies(run(tmp_path, "lightning_module", "--epochs", 5, *mode))
    assert accuracy > 80


@pytest.mark.peers
def test_accelerate(tmp_path):
    needs("accelerate")
    (accuracy,) = accuracies(run(tmp_path, "accelerate_loop", "--epochs", 5))
    assert accuracy > 80
