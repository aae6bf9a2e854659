"""The house: absolute imports, and no file that looks up. Floors are those of DESIGN.md, section 1."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import infohebb

PACKAGE = Path(infohebb.__file__).parent

FLOORS = {  # the part of the package below `infohebb`: its height
    "errors": -1,
    "files": -1,
    "functional": 0,
    "networks": 1,
    "data": 1,
    "rules": 2,
    "learner": 3,
    "training": 3,
    "callbacks": 3,
    "testing": 3,
    "experiments": 4,
    "estimator": 4,
    "report": 5,
    "cli": 6,
    "__main__": 6,
}
BLIND = [{"networks", "data"}]  # parts of one floor that do not see each other
SHARED_BY_RULES = {
    f"infohebb.rules.{name}"
    for name in (
        "base",
        "carried_errors",
        "circuit",
        "contract",
        "escaped_weights",
        "grouped",
        "layered",
        "memories",
        "settling",
        "transport",
        "two_phases",
    )
}
REPORT_READS = {"infohebb.experiments.record"}
FUNCTIONAL_USES = {"torch", "jaxtyping"} | sys.stdlib_module_names - {"numpy"}


class Import(NamedTuple):
    module: str  # as written, relative dots included
    names: tuple[str, ...]  # what is taken from it; () for `import module`

    @property
    def targets(self) -> list[str]:
        """All that it may bring in: the module itself, and names that could be its modules."""
        return [self.module, *(f"{self.module}.{name}" for name in self.names)]


def imports(source: str) -> Iterator[Import]:
    """Every import, those inside functions and under TYPE_CHECKING too, and importlib with a literal name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield Import("." * node.level + (node.module or ""), tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (Import(alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            yield from (
                Import(a.value, ()) for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
            )


def part(module: str) -> str | None:
    """Which part of the package a module belongs to; None for the root and for other packages."""
    words = module.split(".")
    return words[1] if words[0] == "infohebb" and len(words) > 1 and words[1] in FLOORS else None


def violations(module: str, source: str) -> Iterator[str]:
    """What one file imports that it may not: `module` is its dotted name."""
    for found in imports(source):
        wrong = _wrong(module, found)
        if wrong:
            yield f"{module} imports {found.module} ({', '.join(found.names)}): {wrong}"


def _wrong(module: str, found: Import) -> str | None:
    here, there = part(module), {part(target) for target in found.targets} - {None}
    if found.module.startswith("."):
        return "relative"
    if any(name.startswith("_") for name in found.names) and found.module.startswith("infohebb"):
        return "a private name"
    if here == "functional" and found.module.split(".")[0] not in FUNCTIONAL_USES and there != {here}:
        return "floor 0 uses torch and jaxtyping only"
    if here == "report" and found.module.split(".")[0] in ("torch", "safetensors"):
        return "a report touches no tensor"
    if found.module == "infohebb" and found.names and not any(part(target) for target in found.targets):
        return "the public face is for users"
    if found.module.split(".")[0] != "infohebb":
        return None
    return next((wrong for target in there if (wrong := _between(module, here, found, target))), None)


def _between(module: str, here: str, found: Import, there: str) -> str | None:
    if FLOORS[there] > FLOORS[here]:
        return f"{there} is above {here}"
    if any({here, there} == pair for pair in BLIND):
        return f"{here} does not see {there}"
    if here == there == "rules" and module.count(".") == 2 and not _only(found, SHARED_BY_RULES):
        return "a rule never imports another rule"
    if here == "training" and there == "rules" and not _only(found, {"infohebb.rules.base", "infohebb.rules.contract"}):
        return "training names no rule"
    if here == "report" and there == "experiments" and not _only(found, REPORT_READS):
        return "a report reads records only"
    return None


def _only(found: Import, allowed: set[str]) -> bool:
    """Whether the import reaches nothing but the allowed modules."""
    return found.module in allowed or (bool(found.names) and set(found.targets[1:]) <= allowed)


def modules() -> dict[str, Path]:
    """Every file of the package, by the dotted name of its module."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        words = ["infohebb", *path.relative_to(PACKAGE).with_suffix("").parts]
        found[".".join(words[:-1] if words[-1] == "__init__" else words)] = path
    return found


FILES = modules()


@pytest.mark.parametrize("module", [name for name in FILES if name != "infohebb"])
def test_every_file_has_a_floor_and_looks_down_only(module):
    assert part(module) is not None, f"{module} has no floor in DESIGN.md"
    assert list(violations(module, FILES[module].read_text())) == []


def test_the_root_loads_its_names_lazily():
    root = ast.parse(FILES["infohebb"].read_text())
    eager = [node for node in root.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    brought = {alias.name if isinstance(node, ast.Import) else node.module for node in eager for alias in node.names}
    assert brought == {"importlib", "typing"}


def test_the_whole_package_is_looked_at():
    assert {part(name) for name in FILES} - {None} == set(FLOORS) - {"estimator"} or "infohebb.estimator" in FILES
    assert len(FILES) > 50
    seen = [name for name, path in FILES.items() for found in imports(path.read_text()) if part(found.module)]
    assert len(seen) > 150, "the checker no longer finds the imports"


def test_recipes_are_data():
    assert not [path for path in (PACKAGE / "recipes").rglob("*") if path.is_file() and path.suffix != ".toml"]


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("infohebb.data.images", "from infohebb.networks import MLP", "data does not see networks"),
        ("infohebb.networks.mlp", "import infohebb.data.digits", "networks does not see data"),
        ("infohebb.networks.mlp", "from infohebb import data", "networks does not see data"),
        ("infohebb.networks.mlp", "from infohebb.rules.base import Signals", "rules is above networks"),
        ("infohebb.functional.hsic", "from infohebb.networks import Block", "torch and jaxtyping only"),
        ("infohebb.functional.hsic", "from infohebb.errors import UsageError", "torch and jaxtyping only"),
        ("infohebb.functional.hsic", "import numpy as np", "torch and jaxtyping only"),
        ("infohebb.functional.hsic", "def f():\n    from scipy.special import gamma", "torch and jaxtyping only"),
        ("infohebb.errors", "from infohebb.functional import hsic", "functional is above errors"),
        ("infohebb.files", "from infohebb.data import load", "data is above files"),
        ("infohebb.rules.mine", "from infohebb.rules.backprop import Backprop", "never imports another rule"),
        ("infohebb.rules.mine", "from infohebb.rules import Backprop", "never imports another rule"),
        ("infohebb.rules.mine", "from infohebb.rules import backprop", "never imports another rule"),
        ("infohebb.rules.mine", "import infohebb.rules.backprop", "never imports another rule"),
        ("infohebb.rules.layered", "from infohebb.rules.backprop import forward", "never imports another rule"),
        ("infohebb.rules.mine", "from infohebb.training import train", "training is above rules"),
        ("infohebb.training.loop", "from infohebb.rules import LearningRule", "training names no rule"),
        ("infohebb.training.loop", "from infohebb.rules.backprop import Backprop", "training names no rule"),
        ("infohebb.training.loop", "def f():\n  import infohebb.experiments.run", "experiments is above training"),
        ("infohebb.testing", "from infohebb.experiments.build import NETWORKS", "experiments is above testing"),
        ("infohebb.experiments.run", "from infohebb.report import terminal", "report is above experiments"),
        ("infohebb.experiments.run", "from infohebb.cli import main", "cli is above experiments"),
        ("infohebb.report.html", "import torch", "touches no tensor"),
        ("infohebb.report.html", "def f():\n    from torch import Tensor", "touches no tensor"),
        ("infohebb.report.html", "from infohebb.experiments.run import run_recipe", "reads records only"),
        ("infohebb.report.html", "from infohebb.experiments import build", "reads records only"),
        (
            "infohebb.data.images",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from infohebb.rules import LearningRule",
            "rules is above data",
        ),
        ("infohebb.data.images", "import importlib\nimportlib.import_module('infohebb.rules')", "rules is above data"),
        ("infohebb.data.images", "from .arrays import as_inputs", "relative"),
        ("infohebb.data.images", "from .. import errors", "relative"),
        ("infohebb.data.images", "from infohebb.data.arrays import _as_labels", "a private name"),
        ("infohebb.experiments.run", "from infohebb import train", "public face is for users"),
    ],
)
def test_the_checker_finds_what_is_wrong(module, source, wrong):
    (found,) = violations(module, source)
    assert wrong in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("infohebb.functional.hsic", "import math\nimport torch\nfrom jaxtyping import Float"),
        ("infohebb.functional.hsic", "from infohebb.functional import kernels\nimport infohebb.functional.hsic"),
        ("infohebb.rules", "from infohebb.rules.backprop import Backprop"),
        (
            "infohebb.rules.mine",
            "from infohebb.rules.base import Signals\nfrom infohebb.rules.layered import LayeredRule",
        ),
        ("infohebb.rules.mine", "from infohebb.rules import base, layered"),
        ("infohebb.training.loop", "from infohebb.rules.base import LearningRule\nfrom infohebb.data import load"),
        ("infohebb.experiments.build", "from infohebb import rules\nimport infohebb"),
        ("infohebb.report.html", "import numpy\nfrom infohebb.experiments.record import Record"),
        ("infohebb.report.html", "from infohebb.experiments import record"),
        ("infohebb.cli", "from infohebb.report import terminal\nfrom infohebb.testing import check_rule"),
    ],
)
def test_the_checker_lets_pass_what_is_right(module, source):
    assert list(violations(module, source)) == []
