"""The page of faults names tests, commands and figures that are there, and each of its rows names one."""

import ast
import importlib.util
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/faults.md").read_text()
TRIED, _, NOT_TRIED = PAGE.partition("\n## Not tried here\n")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
MODULE = re.compile(r"`python -m ([\w.]+)[^`]*`")
FIGURE = re.compile(r"([\d.]+) \(`(\w+)`\)")
LAYERS = (
    "Processes",
    "Network",
    "etcd and control planes",
    "Gateway",
    "Database",
    "Cache",
    "Broker and workers",
    "Machine and clock",
)


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of its tables, without their heads."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| fault |"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


@cache
def functions(path: str) -> frozenset[str]:
    """The functions of a file, none where there is no such file."""
    if not (ROOT / path).is_file():
        return frozenset()
    body = ast.parse((ROOT / path).read_text()).body
    return frozenset(each.name for each in body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


def missing(text: str) -> list[str]:
    """Tests that it names and that are not there."""
    return [f"{path}::{name}" for path, name in TEST.findall(text) if name not in functions(path)]


def test_every_test_it_names_is_there() -> None:
    assert len(TEST.findall(PAGE)) > 100
    assert [] == missing(PAGE)
    assert PAGE.count(".py::") == len(TEST.findall(PAGE)), "a name that is not written as the others are"


@pytest.mark.parametrize(
    "name", ["tests/contract/test_faults_page.py::test_nothing", "tests/test_nothing.py::test_every_test_it_names"]
)
def test_a_test_that_is_not_there_is_found(name: str) -> None:
    assert [name] == missing(f"| a fault | a promise | `{name}` |")


def test_every_command_it_names_is_there() -> None:
    names = set(MODULE.findall(PAGE)) - {"bench.NAME"}

    assert [] == sorted(name for name in names if importlib.util.find_spec(name) is None)


def test_every_layer_is_there_and_every_row_says_what_is_seen_and_where() -> None:
    assert (*LAYERS, "Not tried here") == tuple(re.findall(r"^## (.+)$", PAGE, re.MULTILINE))

    assert {3} == {len(row) for row in rows(PAGE)}
    assert [] == [row[0] for row in rows(TRIED) if not (TEST.search(row[2]) or MODULE.search(row[2]))]
    assert [] == [row[0] for row in rows(NOT_TRIED) if not all(row)]


def test_its_figures_are_those_that_were_measured() -> None:
    said = FIGURE.findall(TRIED)
    measured = [str(json.loads((ROOT / f"bench/results/{name}.json").read_text())["figure"]) for _, name in said]

    assert len(said) > 3
    assert measured == [figure for figure, _ in said], (
        "write the figures of bench/results into docs/reference/faults.md"
    )
