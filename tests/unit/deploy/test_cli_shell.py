"""What all verbs of `weft` have in common: how they are found, completed, coloured, stopped and cut short."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cli import completion, exits, names, terminal
from deploy.cli.__main__ import run
from deploy.cli.app import Verb, Verbs, app
from deploy.cli.completion import Shell
from deploy.cli.names import Completer
from deploy.cli.terminal import Tone
from deploy.supervisor.config import child_environ

WEFT = Path(sys.executable).parent / "weft"


def every(group: Verbs, *above: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, Verbs):
            yield from every(command, *above, name)
        else:
            yield (*above, name)


VERBS = tuple(every(app))


@pytest.fixture
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WEFT_DATA", str(folder))
    return folder


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_teaches_with_an_example_of_its_own(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == run([*verb, "--help"])

    help_ = capsys.readouterr().out
    example = help_.partition("Example:")[2]
    assert f"Usage: weft {' '.join(verb)}" in help_
    assert f"weft {' '.join(verb)}" in example.replace(".venv/bin/", "")


def test_every_line_of_help_fits_the_terminal() -> None:
    every_verb = [*app.commands.values(), *(inner for group in groups() for inner in group.commands.values())]

    assert [] == [verb.name for verb in every_verb if not 10 <= len(str(verb.short_help)) <= 64]


def groups() -> list[Verbs]:
    return [command for command in app.commands.values() if isinstance(command, Verbs)]


def test_help_imports_no_verb() -> None:
    script = (
        "import sys; from deploy.cli.__main__ import run; code = run(['--help']); "
        "print(sorted({'grpc', 'psycopg', 'cryptography', 'structlog', 'google.protobuf', 'rich'} & {*sys.modules}))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], env=child_environ(), capture_output=True, text=True, check=True
    )

    assert "[]" == done.stdout.splitlines()[-1]


@pytest.mark.parametrize("arguments", [[], ["lane"], ["contracts"]])
def test_without_a_verb_it_shows_them_and_exits_with_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exits.USAGE == run(arguments)
    assert "Commands:" in capsys.readouterr().out


def test_a_misspelt_verb_is_answered_with_the_one_that_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert exits.USAGE == run(["statsu"])
    assert "Did you mean 'status'" in capsys.readouterr().err


def test_who_has_read_enough_is_not_complained_to() -> None:
    reading, writing = os.pipe()
    os.close(reading)

    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(
            [WEFT, "status", "--help"], env=child_environ(), stdout=closed, stderr=subprocess.PIPE, check=False
        )

    assert b"" == done.stderr
    assert done.returncode in (1, exits.OUTPUT_CLOSED)


def test_a_log_that_is_cut_short_ends_as_any_other_tool_would(data: Path) -> None:
    (data / "log").mkdir()
    (data / "log" / "orders-1.log").write_text("a line of some length\n" * 50_000)
    weft = f"{WEFT} logs orders-1 -n 50000"

    done = subprocess.run(
        ["bash", "-c", f"{weft} | head -n 1; echo ${{PIPESTATUS[0]}}"],
        env={**child_environ(), "WEFT_DATA": str(data)},
        capture_output=True,
        text=True,
        check=True,
    )

    line, code = done.stdout.splitlines()
    assert line.endswith("length")  # a log is read from its end, and may begin within a line
    assert str(exits.OUTPUT_CLOSED) == code
    assert "" == done.stderr


def test_ctrl_c_ends_what_follows_in_one_line(data: Path) -> None:
    (data / "log").mkdir()
    (data / "log" / "orders-1.log").write_text("first\n")
    environment = {**child_environ(), "WEFT_DATA": str(data)}

    with subprocess.Popen(
        [WEFT, "logs", "orders-1", "-f"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        assert "first\n" == following.stdout.readline()
        following.send_signal(signal.SIGINT)
        _, complaint = following.communicate(timeout=30)

    assert (exits.INTERRUPTED, "weft: stopped\n") == (following.returncode, complaint)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False), ("NO_COLOR", "", True)],
)
def test_colour_is_for_terminals_whose_owner_wants_it(
    name: str, value: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    master, slave = pty.openpty()

    with os.fdopen(slave, "w") as shown:
        assert expected == terminal.colour(shown)
    os.close(master)
    with (Path(os.devnull)).open("w") as file:
        assert not terminal.colour(file)


def test_columns_are_as_wide_as_their_widest_entry_whatever_the_colour() -> None:
    rows = [("orders-1", "ready"), ("a", "quarantined")]

    plain = terminal.table(("NAME", "STATE"), rows)
    coloured = terminal.table(("NAME", "STATE"), rows, tones=(Tone.GOOD, None), wanted=True)

    assert ["NAME      STATE", "orders-1  ready", "a         quarantined"] == plain.splitlines()
    assert plain == re.sub(r"\x1b\[[0-9]+m", "", coloured)
    assert "\x1b" not in coloured.splitlines()[2]


def completed(*words: str) -> list[str]:
    """What bash would offer for the last word."""
    script = (
        f'{completion._SCRIPTS[Shell.BASH] % "_WEFT_COMPLETE"}\nCOMP_WORDS=("$@")\nCOMP_CWORD=$(( $# - 1 ))\n'
        '_weft_completion "$1"\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", str(WEFT), *words],
        env={**child_environ(), "WEFT_DATA": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "" == done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("stat",), ["status"]),
        (("lane", "sh"), ["shift"]),
        (("call", "weft.orders.v1.OrderService/Pl"), ["weft.orders.v1.OrderService/PlaceOrder"]),
        (("restart", "orders"), []),
    ],
)
def test_bash_completes_verbs_and_names(words: tuple[str, ...], expected: list[str]) -> None:
    assert expected == completed(*words)


@pytest.mark.parametrize(
    ("complete", "word", "expected"),
    [
        (names.methods, "GetPro", ["GetProduct"]),
        (names.methods, "CatalogService/GetP", ["CatalogService/GetProduct"]),
        (names.scopes, "catalog.", ["catalog.read", "catalog.write"]),
        (names.laned, "ord", ["orders"]),
        (names.scalable, "gate", ["gateway"]),
    ],
)
def test_names_of_the_contracts_are_offered_without_a_mesh(
    complete: Completer, word: str, expected: list[str], data: Path
) -> None:
    assert expected == complete(word)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_their_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run(["completion", shell])
    script = capsys.readouterr().out

    assert f"complete_{shell}" in script
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n", "-c", script], check=True)


def test_names_of_parts_are_those_that_have_written_logs(data: Path) -> None:
    (data / "log").mkdir()
    for part in ("orders-1", "orders-2", "supervisor"):
        (data / "log" / f"{part}.log").touch()

    assert ["orders-1", "orders-2", "orders"] == names.logs("or")
    assert ["supervisor"] == names.logs("s")


def test_where_nothing_runs_there_is_nothing_to_choose_from(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [] == names.processes("")
    assert [] == names.lanes("")
    monkeypatch.setenv("WEFT_GATEWAY_PROT", "1")
    assert [] == names.logs("")


def test_a_trial_is_a_program_of_its_own_with_its_own_answer() -> None:
    command = [WEFT, "chaos", "--plan", "--seed", "7", "--seconds", "20"]

    done = subprocess.run(command, env=child_environ(), capture_output=True, text=True, check=True)

    assert {7} == {json.loads(line)["seed"] for line in done.stdout.splitlines()}


def test_a_verb_is_its_line_in_the_table_until_it_is_called() -> None:
    assert isinstance(app.commands["call"], Verb)
