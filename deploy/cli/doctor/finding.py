"""What was found, and how it is told: a line for each, in groups, with what to do about what is not right. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from deploy.cli import exits
from deploy.cli.terminal import Tone, toned


class State(StrEnum):
    """How something is."""

    OK = "ok"
    WARN = "warn"
    """It works, and somebody should look."""
    FAIL = "fail"
    NONE = "none"
    """It could not be looked at: what it belongs to does not run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line."""

    group: str
    name: str
    state: State
    detail: str = ""
    hint: str = ""
    """What to do; only where something is not right."""


_TONES: Final = {State.OK: Tone.GOOD, State.WARN: Tone.DOUBTFUL, State.FAIL: Tone.BAD, State.NONE: None}
_WORD: Final = 4


@dataclass(frozen=True, slots=True)
class Group:
    """Makes the findings of one group."""

    name: str

    def ok(self, name: str, detail: str = "") -> Finding:
        """It is right."""
        return Finding(self.name, name, State.OK, detail)

    def warn(self, name: str, detail: str, hint: str) -> Finding:
        """It works, and somebody should look."""
        return Finding(self.name, name, State.WARN, detail, hint)

    def fail(self, name: str, detail: str, hint: str) -> Finding:
        """It is wrong."""
        return Finding(self.name, name, State.FAIL, detail, hint)

    def none(self, name: str, detail: str, hint: str = "") -> Finding:
        """It could not be looked at."""
        return Finding(self.name, name, State.NONE, detail, hint)


def lines(findings: Iterable[Finding], *, colour: bool) -> Iterator[str]:
    """What people are shown."""
    group = ""
    for one in findings:
        if one.group != group:
            yield from ("",) * bool(group)
            group = one.group
            yield group
        state = toned(f"{one.state:<{_WORD}}", _TONES[one.state], wanted=colour)
        yield f"  {state}  {one.name}{f': {one.detail}' if one.detail else ''}"
        if one.hint:
            yield f"        {one.hint}"


def summary(findings: Sequence[Finding]) -> str:
    """The last line."""
    counts = {state: sum(one.state is state for one in findings) for state in State}
    words = ((State.OK, "right"), (State.WARN, "to look at"), (State.FAIL, "wrong"))
    return ", ".join(f"{counts[state]} {word}" for state, word in words if counts[state] or state is State.OK)


def as_object(findings: Sequence[Finding], *, running: bool, only_machine: bool) -> dict[str, Any]:
    """What `--json` prints; `ok` is what the exit code says."""
    return {
        "ok": exit_code(findings, running=running, only_machine=only_machine) == 0,
        "running": running,
        "checks": [asdict(one) for one in findings],
    }


def exit_code(findings: Iterable[Finding], *, running: bool, only_machine: bool) -> int:
    """1 where something is wrong, else 3 where no mesh runs that was to be looked at; what is to look at is fine."""
    if any(one.state is State.FAIL for one in findings):
        return exits.FAILED
    return 0 if running or only_machine else exits.UNREACHABLE
