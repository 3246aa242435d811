"""House rules that no linter knows, each with its reason."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "gateway",
    "lb",
    "svc",
    "worker",
    "deploy",
    "protos/py",
    "protos/clients",
    "tests",
    "bench",
    "console",
    "docs",
)

# Such modules collect what nobody wanted to name.
NAMELESS = {"utils", "util", "common", "helpers", "helper", "misc", "base", "shared", "core", "manager"}


def tracked(*suffixes: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path.suffix in suffixes and "gen" not in path.parts]


def sources() -> list[Path]:
    return [path for path in tracked(".py") if path.relative_to(ROOT).as_posix().startswith(PACKAGES)]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_a_file_fits_one_purpose_and_a_function_one_screen() -> None:
    long = []
    for path in sources():
        text = path.read_text()
        if text.count("\n") > 500:
            long.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        long += [
            f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
            for function in functions(parsed(path))
            if (function.end_lineno or 0) - function.lineno > 70
        ]

    assert [] == long


def test_a_file_of_the_page_fits_one_purpose_and_says_it() -> None:
    # How long a function may be is biome's to say: `make check`.
    page = [path for path in tracked(".ts", ".tsx", ".css") if path.relative_to(ROOT).parts[0] == "console"]

    assert [] == [path.relative_to(ROOT) for path in page if path.read_text().count("\n") > 500]
    assert [] == [path.relative_to(ROOT) for path in page if path.stem in NAMELESS]
    silent = [path for path in page if path.suffix != ".css" and not path.read_text().startswith("/** ")]
    assert [] == [path.relative_to(ROOT) for path in silent if path.relative_to(ROOT).parts[1] == "src"]


def test_every_module_says_what_it_is() -> None:
    silent = [path.relative_to(ROOT) for path in sources() if ast.get_docstring(parsed(path)) is None]

    assert [] == [path for path in silent if path.name != "conftest.py" and path.parts[0] != "tests"]


def test_no_module_is_called_by_what_it_is_not() -> None:
    assert [] == [path.relative_to(ROOT) for path in sources() if path.stem in NAMELESS]


def test_nothing_is_left_for_later_or_tied_to_one_machine() -> None:
    pattern = re.compile(r"\b(TODO|FIXME|XXX)\b|NotImplementedError|/(home|root|work)/")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(".py", ".proto", ".md", ".sh", ".lua", ".toml", ".yml", ".yaml", ".ts", ".tsx", ".css")
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line) and "third_party" not in path.parts
    ]

    assert [] == found


def test_no_test_sleeps() -> None:
    # A sleep is a guess at how long something takes: too short is a flaky test, too long a slow suite. What polls a
    # condition may pause for a moment between two looks.
    def sleeps(node: ast.AST) -> bool:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep"):
            return False
        pause = node.args[0] if node.args else None
        return not (isinstance(pause, ast.Constant) and isinstance(pause.value, int | float) and pause.value <= 0.05)

    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        if path.relative_to(ROOT).parts[0] == "tests"
        for node in ast.walk(parsed(path))
        if sleeps(node)
    ]

    assert [] == found


def test_a_broad_except_says_why() -> None:
    # What is swallowed without a word is lost: such a handler re-raises, or its comment gives the reason.
    silent = []
    for path in sources():
        lines = path.read_text().splitlines()
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
            )
            reraises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            if broad and not reraises and not any("#" in line for line in lines[node.lineno - 1 : node.lineno + 1]):
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno}")

    assert [] == silent
