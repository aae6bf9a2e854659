"""Which source a record came from."""

import platform
import subprocess

import numpy as np
import pytest
import torch

import infohebb
from infohebb.experiments.provenance import commit, versions


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "repository" / "infohebb"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    monkeypatch.setattr(infohebb, "__file__", str(folder / "__init__.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return folder


def git(folder, *words):
    identity = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_there_is_no_commit_outside_a_repository(package):
    assert commit() is None


def test_there_is_no_commit_without_git(package, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_a_repository_without_commits_has_none(package):
    git(package.parent, "init", "-q")
    assert commit() is None


def test_the_commit_is_named_and_changes_in_the_package_are_marked(package):
    git(package.parent, "init", "-q")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-q", "-m", "one")
    head = git(package.parent, "rev-parse", "HEAD")
    assert len(head) == 40
    assert commit() == head
    (package.parent / "notes").write_text("outside the package")
    assert commit() == head
    (package / "__init__.py").write_text("changed = True")
    assert commit() == head + "+changes"
    git(package.parent, "checkout", "-q", ".")
    (package / "new.py").write_text("")
    assert commit() == head + "+changes"


def test_versions_are_those_that_run():
    assert versions() == {
        "python": platform.python_version(),
        "infohebb": infohebb.__version__,
        "torch": torch.__version__.partition("+")[0],
        "numpy": np.__version__,
    } | {"torch": versions()["torch"]}
    assert torch.__version__.startswith(versions()["torch"].partition("+")[0])
