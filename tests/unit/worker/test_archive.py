"""Events as rows of Parquet files, and which files are merged."""

import os
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf.message_factory import GetMessageClass

from svc.chassis import crash
from svc.chassis.crash import Point
from tests.fakes.worker import NOON, event, order_placed, user_created
from weft_protos import policy, redaction
from worker import reconcile
from worker.delivery import Event
from worker.errors import Outage, Unreadable
from worker.handlers.archive import columns, upkeep
from worker.handlers.archive.folder import Folder
from worker.handlers.archive.upkeep import due
from worker.manifest import File

DAY = date(2011, 12, 5)
PLACED = "weft.orders.v1.OrderPlaced"
MB = 1 << 20


def placed(count: int) -> list[Event]:
    return [event(order_placed(f"orders/{number}", minor=250 + number)) for number in range(count)]


def file(number: int, *, day: date = DAY, size: int = 1000, kind: str = PLACED) -> File:
    return File(day=day, type=kind, id=f"{number:08x}-0000-4000-8000-000000000000", events=1, bytes=size)


def spoil(path: Path, damage: str) -> None:
    """What can become of a file on a disk."""
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        # Its end is whole, what that tells of is not.
        path.write_bytes(b"\xff" * (len(content) // 2) + content[len(content) // 2 :])


def test_a_row_holds_what_the_event_said() -> None:
    one = event(order_placed(minor=250))
    (row,) = columns.table([one]).to_pylist()

    assert (one.id, NOON, "orders", "ada") == tuple(
        row[name] for name in ("event_id", "event_time", "event_source", "event_subject")
    )
    assert ("orders/1", {"currency_code": "GBP", "units": 2, "nanos": 500_000_000}) == (row["order"], row["total"])
    assert [("22423", 2)] == [(item["product_id"], item["quantity"]) for item in row["items"]]
    assert (NOON, "") == (row["place_time"], row["region_code"])


@pytest.mark.parametrize("kind", policy.EVENTS, ids=lambda kind: kind.full_name)
def test_every_event_of_the_contracts_has_columns_for_all_its_fields(kind: Any) -> None:
    payload = GetMessageClass(kind)()
    one = replace(event(order_placed()), type=kind.full_name, payload=payload)

    rows = columns.table([one])

    assert {field.name for field in kind.fields} <= set(rows.column_names)
    assert columns.schema(kind) == rows.schema


def test_what_the_contracts_mark_personal_is_not_in_a_file(tmp_path: Path) -> None:
    created = redaction.redacted(user_created(name="Ada Lovelace", email="ada@example.org"))
    one = replace(event(user_created()), payload=created)
    folder = Folder(tmp_path)

    written = folder.write(DAY, one.type, columns.table([one]))

    content = written.path(tmp_path).read_bytes()
    assert (b"ada@example.org" not in content, b"Lovelace" not in content) == (True, True)
    assert [redaction.MARK] == pq.read_table(written.path(tmp_path)).column("email").to_pylist()


def test_a_file_lies_in_the_partition_of_its_day_and_type(tmp_path: Path) -> None:
    written = Folder(tmp_path).write(DAY, PLACED, columns.table(placed(3)))

    path = tmp_path / "day=2011-12-05" / f"type={PLACED}" / f"{written.id}.parquet"
    assert (path, 3, path.stat().st_size) == (written.path(tmp_path), written.events, written.bytes)


@pytest.mark.parametrize("point", [Point.FILE_WRITTEN, Point.FILE_SYNCED])
def test_a_crash_before_the_rename_leaves_nothing_that_looks_whole(
    tmp_path: Path, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strike(passed: Point) -> None:
        if passed is point:
            raise KeyboardInterrupt

    monkeypatch.setattr(crash._Current, "strike", strike)
    folder = Folder(tmp_path)

    with pytest.raises(KeyboardInterrupt):
        folder.write(DAY, PLACED, columns.table(placed(1)))

    assert ({}, 1) == (folder.finished(-1), len(folder.unfinished(-1)))


def test_a_disk_that_takes_nothing_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "day=2011-12-05").write_text("in the way")

    with pytest.raises(Outage, match=r"ENOTDIR|EEXIST"):
        Folder(tmp_path).write(DAY, PLACED, columns.table(placed(1)))


def test_merged_files_hold_the_same_events_and_old_ones_have_no_value_in_a_new_column(tmp_path: Path) -> None:
    folder, events = Folder(tmp_path), placed(20)
    today = columns.schema(policy.EVENTS[[one.full_name for one in policy.EVENTS].index(PLACED)])
    # A file of before the country was in the contract, and before items had a price.
    old = columns.table(events[:5]).drop_columns(["region_code"])
    items = [[{"product_id": "22423", "display_name": "CAKESTAND", "quantity": 2}]] * 5
    old = old.set_column(old.column_names.index("items"), "items", pa.array(items))
    files = [folder.write(DAY, PLACED, old), folder.write(DAY, PLACED, columns.table(events[5:]))]

    merged = folder.merge(files, today)

    rows = pq.read_table(merged.path(tmp_path))
    assert ([one.id for one in events], 20) == (rows.column("event_id").to_pylist(), merged.events)
    assert [None] * 5 + [""] * 15 == rows.column("region_code").to_pylist()
    assert {"product_id": "22423", "display_name": "CAKESTAND", "quantity": 2, "unit_price": None} == (
        rows.column("items").to_pylist()[0][0]
    )


def test_what_a_later_release_has_kept_is_kept_when_this_one_merges_it(tmp_path: Path) -> None:
    """Both run while versions roll, and files of the later one lie there after it was taken back."""
    folder, events = Folder(tmp_path), placed(6)
    today = columns.schema(policy.EVENTS[[one.full_name for one in policy.EVENTS].index(PLACED)])
    mine, later = columns.table(events[:3]), columns.table(events[3:])
    # A column, a field of a message, and a field of a repeated one.
    later = later.append_column("gift_note", pa.array(["for Ada"] * 3))
    total = [{**row, "discount": 7} for row in later.column("total").to_pylist()]
    later = later.set_column(later.column_names.index("total"), "total", pa.array(total))
    items = [[{**item, "colour": {"name": "red"}} for item in row] for row in later.column("items").to_pylist()]
    later = later.set_column(later.column_names.index("items"), "items", pa.array(items))
    files = [folder.write(DAY, PLACED, rows) for rows in (mine, later)]

    merged = folder.merge(files, today)
    again = folder.merge([merged, folder.write(DAY, PLACED, columns.table(placed(1)))], today)

    rows = pq.read_table(again.path(tmp_path))
    assert today.names == rows.column_names[: len(today)]
    assert [None] * 3 + ["for Ada"] * 3 + [None] == rows.column("gift_note").to_pylist()
    assert [None] * 3 + [7] * 3 + [None] == [row["discount"] for row in rows.column("total").to_pylist()]
    colours = [row[0]["colour"] for row in rows.column("items").to_pylist()]
    assert [None] * 3 + [{"name": "red"}] * 3 + [None] == colours
    # What both know is as it was.
    known = columns.table(events).column("total").to_pylist()
    assert known == [{name: row[name] for name in known[0]} for row in rows.column("total").to_pylist()[:6]]


@pytest.mark.parametrize("damage", ["cut", "overwritten", "gone"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, damage: str) -> None:
    folder = Folder(tmp_path)
    good, bad = (folder.write(DAY, PLACED, columns.table(placed(50))) for _ in range(2))
    spoil(bad.path(tmp_path), damage)

    with pytest.raises(Unreadable, match=f"{bad.id}.parquet cannot be read: ") as refused:
        folder.merge([good, bad], columns.schema(policy.EVENTS[0]))
    assert bad.id == refused.value.file_id
    with pytest.raises(Unreadable, match=f"{bad.id}.parquet cannot be read: "):
        reconcile.fold([good, bad], tmp_path)


def test_removing_a_file_removes_the_partition_that_is_empty_then(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    first, second = (folder.write(DAY, PLACED, columns.table(placed(1))) for _ in range(2))

    folder.remove([first.path(tmp_path)])
    assert [second.id] == list(folder.finished(-1))
    folder.remove([second.path(tmp_path), first.path(tmp_path)])

    assert [] == os.listdir(tmp_path)


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "day=2011-12-05" / "type=x"
    home.mkdir(parents=True)
    (home / "notes.parquet").write_text("mine")

    assert {} == Folder(tmp_path).finished(-1)


@pytest.mark.parametrize(
    ("files", "groups"),
    [
        ([file(n) for n in range(7)], []),
        ([file(n) for n in range(9)], [9]),
        # Of another size, day or type: none of them is written again for the others.
        ([file(n) for n in range(7)] + [file(8, size=MB)], []),
        ([file(n) for n in range(7)] + [file(8, kind="weft.orders.v1.OrderCancelled")], []),
        ([file(n, size=MB) for n in range(8)] + [file(9)], [8]),
        # A day that is past gets no more: two files are one too many. Large ones stay.
        ([file(n, day=DAY - timedelta(days=2)) for n in range(2)], [2]),
        ([file(n, day=DAY - timedelta(days=1)) for n in range(2)], []),
        ([file(n, day=DAY - timedelta(days=2), size=40 * MB) for n in range(3)], []),
        ([file(n, size=65 * MB) for n in range(9)], []),
        # Whatever no contract knows is not read, so it is not written again either.
        ([file(n, kind="weft.gone.v1.Event") for n in range(9)], []),
    ],
)
def test_files_of_about_one_size_are_merged_and_a_past_day_wholly(files: list[File], groups: list[int]) -> None:
    assert groups == [len(group) for group in due(files, DAY)]


def test_each_event_is_written_again_a_few_times_only() -> None:
    """Merging as files come leaves few of them, at a cost that grows with the logarithm of their number."""
    files: list[File] = []
    rewritten = 0
    for number in range(1024):
        files.append(file(number, size=10_000))
        for group in due(files, DAY):
            rewritten += sum(one.bytes for one in group)
            files = [one for one in files if one not in group]
            files.append(file(10_000 + number, size=sum(one.bytes for one in group)))

    assert 1024 * 10_000 == sum(one.bytes for one in files)
    assert (True, True) == (len(files) < 4 * upkeep.FAN_IN, rewritten <= 5 * 1024 * 10_000)


def test_days_are_those_of_utc() -> None:
    late = event(order_placed(when=datetime(2011, 12, 5, 23, 59, 59, tzinfo=UTC)))

    assert datetime(2011, 12, 5, 23, 59, 59, tzinfo=UTC) == columns.table([late]).to_pylist()[0]["place_time"]
