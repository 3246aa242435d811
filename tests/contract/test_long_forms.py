"""Nothing is left out of `make test` unseen: what is long has a short form in its module, or says why it has none."""

import importlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / "tests").rglob("test_*.py")
    if path != Path(__file__) and "mark.long" in path.read_text()
)


def marks_of(test: object, name: str) -> list[pytest.Mark]:
    """Marks of a function, a module or a row of parameters."""
    found = getattr(test, "marks", ()) or getattr(test, "pytestmark", ())
    every = found if isinstance(found, list | tuple) else (found,)
    return [mark for mark in (getattr(one, "mark", one) for one in every) if mark.name == name]


def tables_of(test: object) -> list[Sequence[object]]:
    return [mark.args[1] for mark in marks_of(test, "parametrize")]


def long_of(test: object) -> list[pytest.Mark]:
    """What is said of each of its cases that `make test` leaves out."""
    rows = [row for table in tables_of(test) for row in table]
    return [mark for one in (test, *rows) for mark in marks_of(one, "long")]


def stays(test: object) -> bool:
    """Whether some case of it is left in `make test`."""
    tables = tables_of(test)
    return not marks_of(test, "long") and all(any(not marks_of(row, "long") for row in table) for table in tables)


def wrong(module: ModuleType) -> list[str]:
    """What is wrong with the long tests of a module."""
    tests = {name: test for name, test in inspect.getmembers(module, inspect.isfunction) if name.startswith("test_")}
    found = [f"{module.__name__} is long as a whole" for _ in marks_of(module, "long")]
    for name, test in tests.items():
        for mark in long_of(test):
            short, reason = mark.kwargs.get("short"), mark.kwargs.get("reason")
            if mark.args or set(mark.kwargs) not in ({"short"}, {"reason"}):
                found.append(f"{name}: say `short`, the test that stays, or `reason`, why none does")
            elif short is not None and (short not in tests or not stays(tests[short])):
                found.append(f"{name}: {short} is no test of the module that stays")
            elif short is None and not str(reason).strip():
                found.append(f"{name}: the reason is empty")
    return found


def test_there_are_long_tests() -> None:
    assert "tests.integration.test_ha" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_every_long_test_names_the_short_one_that_stays_or_says_why_there_is_none(name: str) -> None:
    assert [] == wrong(importlib.import_module(name))


def planted(**tests: Callable[..., object]) -> ModuleType:
    module = ModuleType("planted")
    vars(module).update(tests)
    return module


def test_a_long_test_without_a_short_one_is_found() -> None:
    def short() -> None: ...

    def make(*marks: pytest.MarkDecorator) -> Callable[..., object]:
        def test() -> None: ...

        for mark in marks:
            test = mark(test)
        return test

    long = pytest.mark.long
    both = pytest.mark.parametrize("size", [1, pytest.param(20, marks=long(short="test_sizes"))])
    alone = pytest.mark.parametrize("size", [pytest.param(20, marks=long(short="test_sizes"))])

    assert [] == wrong(planted(test_short=short, test_it=make(long(short="test_short"))))
    assert [] == wrong(planted(test_it=make(long(reason="the disk of a year has no short form"))))
    assert [] == wrong(planted(test_sizes=make(both)))
    for module in (
        planted(test_it=make(long())),
        planted(test_it=make(long(short="test_gone"))),
        planted(test_it=make(long(short="test_it"))),
        planted(test_it=make(long(reason=" "))),
        planted(test_short=short, test_it=make(long(short="test_short", reason="both"))),
        planted(test_sizes=make(alone)),
    ):
        assert 1 == len(wrong(module))
