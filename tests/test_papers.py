"""Equations are findable: each tag stands on one function, and each page says where its paper's equations are."""

import ast
import re
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "infohebb"
PAGES = {
    "KIB": ROOT / "docs" / "papers" / "kernelized_bottleneck.md",
    "WMH": ROOT / "docs" / "papers" / "hsic_memory.md",
    "CIM": ROOT / "docs" / "papers" / "corinfomax.md",
}
EQUATIONS = {"KIB": 22, "WMH": 37, "CIM": 27}  # of the paper, and of our own reading of the others
TAG = re.compile(r"\[([A-Z]+)(?: eq\.)? (\d+(?:\.\d+)?)\]")
LISTED = re.compile(r"^\| (\d+(?:\.\d+)?) \| (?:`([A-Za-z_0-9.]+)`|(not code)[^|]*) \|", re.MULTILINE)


def functions():
    """Every function and method of the package: its dotted place and its docstring."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield f"{module}.{node.name}", ast.get_docstring(node) or ""


def tagged():
    """(paper, equation) of every tag, with the function it stands on."""
    return [(tag, place) for place, text in functions() for tag in TAG.findall(text)]


def listed(paper):
    """Equation numbers on the paper's page, with the function named there, or None for what is not code."""
    return {number: place or None for number, place, _ in LISTED.findall(PAGES[paper].read_text())}


def test_each_tag_stands_on_exactly_one_function():
    counts = Counter(tag for tag, _ in tagged())
    assert counts, "no tags found"
    assert {tag: n for tag, n in counts.items() if n > 1} == {}


def test_a_tag_stands_in_the_first_line_of_a_docstring():
    late = [place for place, text in functions() if TAG.search(text) and not TAG.search(text.splitlines()[0])]
    assert late == []


@pytest.mark.parametrize("paper", PAGES)
def test_the_page_and_the_tags_say_the_same(paper):
    assert {n: place for n, place in listed(paper).items() if place} == {
        number: place for (name, number), place in tagged() if name == paper
    }


@pytest.mark.parametrize("paper", PAGES)
def test_the_page_lists_every_equation_of_the_paper_once_and_without_a_gap(paper):
    rows = [number for number, _, _ in LISTED.findall(PAGES[paper].read_text())]
    assert len(rows) == len(set(rows)) == EQUATIONS[paper]
    numbers = sorted([int(part) for part in row.split(".")] for row in rows)
    sections = {head: [rest for _, *rest in those] for head, those in groupby(numbers, lambda number: number[0])}
    assert list(sections) == list(range(1, len(sections) + 1))
    for parts in sections.values():
        assert parts in ([[]], [[part] for part in range(1, len(parts) + 1)])


@pytest.mark.parametrize("paper", PAGES)
def test_the_page_pins_the_version_of_the_paper(paper):
    assert re.search(r"arXiv:\d{4}\.\d{5}v\d", PAGES[paper].read_text())


def test_no_tag_names_a_paper_without_a_page():
    assert {paper for (paper, _), _ in tagged()} <= set(PAGES)
