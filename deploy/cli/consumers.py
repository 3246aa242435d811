"""Whom a change of the contracts would meet: what services have noted of their consumers, and what a violation touches.

`weft contracts consumers` prints the notes; `weft contracts check` asks here who uses the field or the method that a
violation is about. Pure but for `running`, which asks the registry of the running mesh.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from deploy.cli.impact import Impact
from deploy.cli.sources import CommandFailedError, python
from weft_protos import consumer, usage
from weft_protos.usage import Entry, Kind

_TIMEOUT_S: Final = "10"


@dataclass(frozen=True, slots=True)
class Use:
    """One way in which one consumer uses what is to change."""

    consumer: str
    method: str
    how: str
    hour: int

    def as_object(self) -> dict[str, str]:
        """For --json."""
        return {"consumer": self.consumer, "method": self.method, "how": self.how, "last_use": moment(self.hour)}

    def __str__(self) -> str:
        return f"{self.consumer} {self.how} ({self.method.rpartition('/')[2]}), last {moment(self.hour)}"


def running(environ: Mapping[str, str]) -> dict[Entry, int]:
    """What the services of the running mesh have noted. Raises CommandFailedError."""
    documents = json.loads(python("lb", "consumers", "--timeout", _TIMEOUT_S, environ=environ))
    try:
        return usage.merge(*(usage.decode(content.encode()) for content in documents.values()))
    except ValueError as error:
        raise CommandFailedError([f"the registry holds what is no note of consumers: {error}"], 1) from error


def parse(content: bytes) -> dict[Entry, int]:
    """What `weft contracts consumers --json` printed. Raises ValueError."""
    try:
        found = json.loads(content)
        notes = {usage.since(service): _hour(time) for service, time in found["since"].items()}
        notes |= {usage.dropped(service): _hour(time) for service, time in found["dropped"].items()}
        for each in found["consumers"]:
            who = str(consumer.parse(str(consumer.Consumer(each["name"], each["version"], each["contract"]))))
            for method in each["methods"]:
                notes[Entry(method["method"], who, "call", "")] = _hour(method["last_use"])
                kinds: tuple[Kind, ...] = ("sent", "read")
                for kind in kinds:
                    for path, time in method[kind].items():
                        notes[Entry(method["method"], who, kind, path)] = _hour(time)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not what `weft contracts consumers --json` prints: {error!r}") from error
    return notes


def as_object(notes: usage.Usage) -> dict[str, object]:
    """The notes for --json: consumers by name, each with its methods and the fields it uses."""
    methods: dict[str, dict[str, dict[str, dict[str, int]]]] = defaultdict(dict)
    for entry in sorted(notes):
        if entry.consumer:
            kinds = methods[entry.consumer].setdefault(entry.method, {"call": {}, "sent": {}, "read": {}})
            kinds[entry.kind][entry.path] = notes[entry]
    return {
        "consumers": [
            {
                **consumer.parse(who)._asdict(),
                "current": consumer.parse(who).contract == consumer.contract_hash(),
                "methods": [
                    {
                        "method": method,
                        "last_use": moment(max(hour for hours in kinds.values() for hour in hours.values())),
                        "sent": {path: moment(hour) for path, hour in kinds["sent"].items()},
                        "read": {path: moment(hour) for path, hour in kinds["read"].items()},
                    }
                    for method, kinds in found.items()
                ],
            }
            for who, found in sorted(methods.items())
        ],
        "since": _moments(notes, "since"),
        "dropped": _moments(notes, "dropped"),
    }


def lines(notes: usage.Usage) -> Iterator[str]:
    """The notes for people."""
    found: Any = as_object(notes)
    if not found["consumers"]:
        yield "no consumer has been noted"
    for each in found["consumers"]:
        said = f"contract {each['contract']}" if each["contract"] else "names no contract"
        state = " (that of this clone)" if each["current"] else ""
        yield f"{each['name']}{'/' if each['version'] else ''}{each['version']}  {said}{state}"
        for method in each["methods"]:
            yield f"  {method['method']:<60} last {method['last_use']}"
            if "/" not in method["method"]:
                yield "    consumes the event, and reads the whole of it"
                continue
            reads = "the whole answer" if usage.WHOLE in method["read"] else ", ".join(method["read"])
            yield f"    sends {', '.join(method['sent']) or 'nothing'}; reads {reads or 'nothing'}"
    for service, time in found["since"].items():
        yield f"{service} notes its consumers since {time}"
    for service, time in found["dropped"].items():
        yield f"{service} left out notes for want of room, last at {time}"


def uses(notes: usage.Usage, impact: Impact) -> tuple[Use, ...]:
    """Who uses what is to change, the latest first, one line for each consumer, method and way."""
    found: dict[tuple[str, str, str], int] = {}
    for entry, hour in notes.items():
        how = impact.how(entry) if entry.consumer else ""
        if how:
            key = entry.consumer, entry.method, how
            found[key] = max(hour, found.get(key, 0))
    made = (Use(who, method, how, hour) for (who, method, how), hour in found.items())
    return tuple(sorted(made, key=lambda use: (-use.hour, use.consumer, use.method, use.how)))


def unused(notes: usage.Usage, impact: Impact, *, now: datetime) -> str:
    """What to say where nobody on record uses it: since when that is known, or that nothing is."""
    begun = [notes.get(usage.since(service)) for service in impact.services]
    if not begun or None in begun:
        return "nothing is known of its consumers"
    oldest = int((now - timedelta(hours=usage.KEPT_HOURS)).timestamp()) // 3600
    known = max(oldest, *(hour for hour in begun if hour is not None))
    left_out = any(usage.dropped(service) in notes for service in impact.services)
    but = "; some notes were left out for want of room" if left_out else ""
    return f"no consumer has sent or asked for it since {moment(known)}{but}"


def moment(hour: int) -> str:
    """An hour since 1970 as RFC 3339."""
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _hour(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC).timestamp()) // 3600


def _moments(notes: usage.Usage, kind: Kind) -> dict[str, str]:
    return {entry.method: moment(hour) for entry, hour in sorted(notes.items()) if entry.kind == kind}
