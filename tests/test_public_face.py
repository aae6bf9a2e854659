"""What users see first: the names of `infohebb`, how fast they come, and the README's example."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import infohebb

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", infohebb.__all__)
def test_every_public_name_is_there_and_explains_itself(name):
    thing = getattr(infohebb, name)
    assert thing.__name__ == name
    assert thing.__module__.startswith("infohebb.")
    assert len(thing.__doc__) > 20


def test_all_home_and_type_checkers_agree_on_the_names():
    assert set(infohebb.__all__) == set(infohebb._HOME)
    assert len(infohebb.__all__) == len(set(infohebb.__all__))
    source = Path(infohebb.__file__).read_text()
    block = source[source.index("if TYPE_CHECKING:") : source.index("__version__")]
    imported = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    named = {alias.name for node in imported for alias in node.names}
    assert named == set(infohebb.__all__)


def test_dir_lists_the_public_names():
    assert set(infohebb.__all__) <= set(dir(infohebb))
    assert "__version__" in dir(infohebb)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'infohebb' has no attribute 'trian'"):
        _ = infohebb.trian
    assert not hasattr(infohebb, "_surely_not")


def test_importing_infohebb_imports_nothing_heavy(python):
    heavy = {"torch", "numpy", "matplotlib", "sklearn", "pydantic", "jaxtyping", "typer"}
    code = f"import sys, infohebb; print(sorted({heavy} & set(sys.modules)))"
    assert python(code) == (0, "[]\n", "")


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert infohebb.__version__ == version("infohebb")


def test_the_package_says_that_it_is_typed():
    assert (Path(infohebb.__file__).parent / "py.typed").exists()


README = (REPOSITORY / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_readme_has_examples():
    assert len(EXAMPLES) == README.count("```python") > 0


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_readmes_examples_run_when_pasted_into_an_empty_folder(example, python, tmp_path):
    answer = python(example, tmp_path)
    assert answer.status == 0, answer.err
    assert "Error" not in answer.err


def test_the_module_can_be_told_from_its_command(python):
    script = Path(sys.executable).with_name("infohebb")
    assert script.exists(), "the package is not installed: pip install -e ."
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Usage: infohebb" in done.stdout
