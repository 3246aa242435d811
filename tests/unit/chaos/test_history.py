"""A history is read as it was written; what is damaged is named."""

import io
import json
import threading
from pathlib import Path

import pytest

from tests.chaos import history, schedule
from tests.chaos.history import Books, Event, HistoryError, Recorder, operations
from tests.unit.chaos.simulated import Bug, Simulation


def test_many_threads_write_one_history_of_whole_operations() -> None:
    out = io.StringIO()
    recorder = Recorder(out)

    def work(number: int) -> None:
        for each in range(50):
            pending = recorder.begin("place", key=f"{number}-{each}")
            (pending.ok, pending.fail, pending.info)[each % 3](number=each)

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = operations(Event(**json.loads(line)) for line in out.getvalue().splitlines())
    assert 200 == len(found)
    assert {f"{number}-{each}": ("ok", "fail", "info")[each % 3] for number in range(4) for each in range(50)} == {
        each.asked["key"]: each.outcome for each in found
    }
    assert all(each.began_s <= each.ended_s for each in found)


def test_an_operation_without_an_outcome_may_have_happened() -> None:
    out = io.StringIO()
    Recorder(out).begin("place", key="k")

    (found,) = operations([Event(**json.loads(out.getvalue()))])

    assert ("info", float("inf")) == (found.outcome, found.ended_s)


def test_history_and_books_are_read_as_they_were_written(tmp_path: Path) -> None:
    run = Simulation(schedule.make(3, seconds=30), Bug.NONE)
    (tmp_path / "history.jsonl").write_text(run.text())
    run.books.write(tmp_path / "books.json")

    assert run.history == history.read(tmp_path / "history.jsonl")
    assert run.books == Books.read(tmp_path / "books.json")


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"at_s": 1}', '{"at_s": 1, "op": 1, "event": "perhaps", "name": "place", "value": {}}'],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(f'{{"at_s": 1, "op": 1, "event": "invoke", "name": "place", "value": {{}}}}\n{line}\n')

    with pytest.raises(HistoryError, match=r"history\.jsonl:2"):
        history.read(path)


@pytest.mark.parametrize("events", [("ok",), ("invoke", "ok", "fail"), ("invoke", "invoke")])
def test_outcomes_without_their_operation_are_refused(events: tuple[str, ...]) -> None:
    with pytest.raises(HistoryError, match="operation 1"):
        operations([Event(0.0, 1, event, "place") for event in events])
