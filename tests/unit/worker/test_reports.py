"""Questions to the archive, computed by the real engine in its own process, against a count by hand."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import sales_history
from tests.fakes.sales_history import Sale, history, within
from tests.waiting import DEADLINE_S
from weft.analytics.v1.analytics_pb2 import ReportRow
from worker.handlers.archive import columns
from worker.handlers.archive.folder import Folder
from worker.handlers.reports import rows
from worker.handlers.reports.engine import Engine, EngineGoneError
from worker.handlers.reports.kinds import PLACED, TYPES
from worker.handlers.reports.stages import EVENTS_MAX, FILES_MAX, plan
from worker.manifest import File

DAY = date(2025, 12, 1)
KINDS = tuple(TYPES)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    started = Engine(memory_mb=256, threads=2, spill=tmp_path_factory.mktemp("engine") / "spill")
    yield started
    started.stop()


def ask(engine: Engine, question: Mapping[str, Any]) -> Mapping[str, Any]:
    engine.ask(question)
    answer = engine.answer(2 * DEADLINE_S)
    assert answer is not None
    return answer


def write(folder: Folder, sales: Sequence[Sale], *, parts: int) -> list[File]:
    """Sales in files of each type, in no order."""
    files = []
    for number in range(parts):
        events = [sale.event() for sale in sales[number::parts]]
        files += [
            folder.write(DAY, kind, columns.table([event for event in events if event.type == kind]))
            for kind in sorted({event.type for event in events})
        ]
    return files


def part(kind: str, file: File, root: Path, out: Path, **days: date | None) -> dict[str, Any]:
    return {
        "ask": "part",
        "kind": kind,
        "type": file.type,
        "files": [str(file.path(root))],
        **{name: None if day is None else day.isoformat() for name, day in days.items()},
        "out": str(out),
    }


def make(engine: Engine, kind: str, files: Sequence[File], root: Path, **options: Any) -> list[ReportRow]:
    limit = options.pop("limit", 100)
    outs = []
    for file in files:
        if file.type in TYPES[kind]:
            out = root / f"{kind}-{file.id}.parquet"
            assert {} == ask(engine, part(kind, file, root, out, **{"start": None, "end": None, **options}))
            outs.append(str(out))
    answer = ask(engine, {"ask": "whole", "kind": kind, "files": outs, "limit": limit})
    assert not answer["truncated"]
    return [ReportRow.FromString(rows.content(kind, row)) for row in answer["rows"]]


@pytest.mark.parametrize("damage", ["cut", "overwritten", "gone"])
def test_a_file_that_cannot_be_read_is_named_in_the_answer(engine: Engine, tmp_path: Path, damage: str) -> None:
    files = [one for one in write(Folder(tmp_path), history(300), parts=3) if one.type == PLACED]
    bad = files[1].path(tmp_path)
    content = bad.read_bytes()
    if damage == "gone":
        bad.unlink()
    else:
        half = len(content) // 2
        bad.write_bytes(content[:half] if damage == "cut" else b"\xff" * half + content[half:])
    question = part("top_products", files[0], tmp_path, tmp_path / "out.parquet", start=None, end=None)

    answer = ask(engine, {**question, "files": [str(one.path(tmp_path)) for one in files]})

    assert ("unreadable", str(bad), True) == (answer["error"], answer["file"], bool(answer["detail"]))
    assert {} == ask(engine, question), "the engine goes on"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", [1, 7])
def test_a_report_says_what_a_count_by_hand_says_however_it_is_cut(
    engine: Engine, tmp_path: Path, kind: str, parts: int
) -> None:
    sales = history(300)
    files = write(Folder(tmp_path), sales, parts=parts)

    assert sales_history.report(kind, sales, limit=100) == make(engine, kind, files, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_days_of_the_period_count_both_ends_included(engine: Engine, tmp_path: Path, kind: str) -> None:
    sales = history(200, seed=2)
    files = write(Folder(tmp_path), sales, parts=2)
    start, end = date(2025, 12, 24), date(2026, 1, 15)

    found = make(engine, kind, files, tmp_path, start=start, end=end, limit=5)

    assert sales_history.report(kind, within(sales, start, end), limit=5) == found


def test_an_order_of_before_the_country_was_in_the_contract_has_none(engine: Engine, tmp_path: Path) -> None:
    folder, sales = Folder(tmp_path), [sale for sale in history(20) if not sale.cancelled]
    table = columns.table([sale.event() for sale in sales]).drop_columns(["region_code"])
    files = [folder.write(DAY, "weft.orders.v1.OrderPlaced", table)]

    found = make(engine, "revenue_by_country", files, tmp_path)

    assert {""} == {row.country_revenue.region_code for row in found}
    assert len(sales) == sum(row.country_revenue.orders for row in found)


def test_revenue_is_exact_where_a_float_is_not(engine: Engine, tmp_path: Path) -> None:
    price = 10**13
    items = (("p1", "Thing", 1, price), ("p2", "Thing", 1, 1))
    sales = [Sale(f"orders/{n}", "users/a", "DE", "GBP", sales_history.OPENING, items) for n in range(1000)]
    files = write(Folder(tmp_path), sales, parts=3)

    (row,) = make(engine, "revenue_by_country", files, tmp_path)

    assert (1000 * (price + 1) // 100, 0) == (row.country_revenue.revenue.units, row.country_revenue.revenue.nanos)


def test_a_report_with_too_many_rows_is_cut_and_says_so(engine: Engine, tmp_path: Path) -> None:
    count = 10_001
    table = pa.table({"first": [f"{n:06}" for n in range(count)], "second": ["z"] * count, "orders": [1] * count})
    home = Folder(tmp_path).write(DAY, "x", table).path(tmp_path)

    answer = ask(engine, {"ask": "whole", "kind": "basket_pairs", "files": [str(home)], "limit": 20_000})

    assert (10_000, True) == (len(answer["rows"]), answer["truncated"])


def test_a_question_that_cannot_be_answered_leaves_the_engine_usable(engine: Engine, tmp_path: Path) -> None:
    missing = {"ask": "whole", "kind": "cohorts", "files": [str(tmp_path / "gone.parquet")], "limit": 1}

    assert "failed" == ask(engine, missing)["error"]
    files = write(Folder(tmp_path), history(5), parts=1)
    assert make(engine, "cohorts", files, tmp_path)


def test_a_question_that_needs_more_memory_than_it_may_have_says_so(tmp_path: Path) -> None:
    small = Engine(memory_mb=1, threads=1, spill=tmp_path / "spill")
    try:
        files = write(Folder(tmp_path), history(3000), parts=1)
        placed = next(file for file in files if file.type.endswith("OrderPlaced"))

        answer = ask(small, part("basket_pairs", placed, tmp_path, tmp_path / "out.parquet", start=None, end=None))

        assert "memory" == answer["error"]
    finally:
        small.stop()


def test_an_engine_that_is_killed_is_noticed_and_leaves_nothing(tmp_path: Path) -> None:
    killed = Engine(memory_mb=64, threads=1, spill=tmp_path / "spill")
    killed.stop()

    with pytest.raises(EngineGoneError):
        killed.answer(DEADLINE_S)
    assert [] == list(tmp_path.iterdir())


def file(number: int, kind: str, events: int) -> File:
    return File(day=DAY + timedelta(days=number % 50), type=kind, id=f"{number:08}", events=events, bytes=1)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 2 * EVENTS_MAX)), max_size=60),
)
def test_every_file_is_in_one_part_and_no_part_is_too_large(found: list[tuple[str, int]]) -> None:
    files = [file(number, kind, events) for number, (kind, events) in enumerate(found)]

    stages = plan(files)

    assert sorted(one.id for one in files) == sorted(one.id for stage in stages for one in stage.files)
    assert list(range(len(stages))) == [stage.number for stage in stages]
    for stage in stages:
        assert {stage.type} == {one.type for one in stage.files}
        assert stage.events <= EVENTS_MAX or len(stage.files) == 1


def test_a_part_names_a_bounded_number_of_files() -> None:
    stages = plan([file(number, "a", 1) for number in range(2 * FILES_MAX + 1)])

    assert [FILES_MAX, FILES_MAX, 1] == [len(stage.files) for stage in stages]


def test_no_worker_carries_what_only_the_process_that_computes_needs() -> None:
    heavy = "{'duckdb', 'ibis', 'pandas', 'pyarrow'} & set(sys.modules)"
    program = f"import sys, worker.__main__, worker.wiring; print(sorted({heavy}))"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[]" == ran.stdout.strip()
