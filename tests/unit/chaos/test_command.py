"""`python -m tests.chaos` as somebody meets it who has a seed, or a run that was kept."""

import json
import threading
from pathlib import Path

import pytest

from tests.chaos import run, schedule
from tests.chaos.__main__ import main
from tests.chaos.history import FAIL
from tests.unit.chaos.simulated import Bug, Simulation

Captured = pytest.CaptureFixture[str]


def kept(folder: Path, bug: Bug, *, bites: bool = True) -> Path:
    simulation = Simulation(schedule.make(7, seconds=60), bug)
    lines = [json.loads(line) for line in simulation.text().splitlines()]
    for line in lines:
        if line["name"] == "fault" and line["event"] == "ok" and not bites:
            line |= {"event": FAIL, "value": {"why": "nobody was there"}}
    (folder / run.HISTORY).write_text("".join(json.dumps(line) + "\n" for line in lines))
    simulation.books.write(folder / run.BOOKS)
    return folder


@pytest.mark.parametrize(
    ("bug", "bites", "code", "says"),
    [
        (Bug.NONE, True, 0, "seed 7: passed"),
        (Bug.STOCK_TAKEN_TWICE, True, 1, "broken: stock is conserved"),
        (Bug.NONE, False, 3, "did not bite: nobody was there"),
    ],
)
def test_a_kept_run_is_judged_again_and_its_repetition_named(
    tmp_path: Path, capsys: Captured, bug: Bug, bites: bool, code: int, says: str
) -> None:
    folder = kept(tmp_path, bug, bites=bites)

    assert code == main(["--seed", "7", "--check", str(folder)])

    said = capsys.readouterr().out
    assert says in said
    assert "again: make chaos SEED=7 SCHEDULES=1 SECONDS=60\n" in said


def test_a_verdict_is_an_object_for_programs(tmp_path: Path, capsys: Captured) -> None:
    folder = kept(tmp_path, Bug.STOCK_TAKEN_TWICE)

    assert 1 == main(["--seed", "7", "--check", str(folder), "--json"])

    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert (7, "broken", str(folder)) == (said["seed"], said["state"], said["kept"])
    assert "stock_is_conserved" in said["broken"]


def test_a_plan_is_printed_step_by_step_for_each_seed(capsys: Captured) -> None:
    assert 0 == main(["--seed", "7", "--schedules", "2", "--seconds", "20", "--plan"])

    steps = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [7, 8] == sorted({step["seed"] for step in steps})
    expected = [step for seed in (7, 8) for step in schedule.make(seed, seconds=20).steps]
    assert [(step.at_s, step.fault, step.target) for step in expected] == [
        (step["at_s"], step["fault"], step["target"]) for step in steps
    ]


def test_a_run_on_three_servers_of_each_kind_is_repeated_on_as_many(tmp_path: Path, capsys: Captured) -> None:
    kept(tmp_path, Bug.NONE)

    main(["--seed", "7", "--profile", "ha", "--check", str(tmp_path)])

    assert "again: make chaos SEED=7 SCHEDULES=1 SECONDS=60 PROFILE=ha\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--seed", "-1"),
        ("--profile", "production"),
        ("--seed", "x"),
        ("--schedules", "0"),
        ("--seconds", "14"),
        ("--seconds", "nan"),
        ("--seconds", "soon"),
        ("--plan", "--check", "."),
    ],
)
def test_wrong_arguments_are_a_usage_error(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert 2 == ended.value.code


def test_a_folder_without_a_run_is_named(tmp_path: Path, capsys: Captured) -> None:
    assert 2 == main(["--seed", "7", "--check", str(tmp_path)])

    assert f"chaos: --check: {tmp_path} holds no run" in capsys.readouterr().err


def test_what_a_thread_died_of_is_told_to_the_run_it_belonged_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)  # pytest would take it for the test's own failure

    with run.deaths() as died:
        dying = threading.Thread(target=lambda: 1 / 0)
        dying.start()
        dying.join()

    assert ["ZeroDivisionError: division by zero"] == died
