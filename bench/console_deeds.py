"""What is done to a mesh, what becomes true by it, and how the console's page says each of these. Pure.

`do` does it, wherever; `ask` asks whoever knows first what becomes of it: the supervisor for its status, Prometheus for
the names of the alerts that fire.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.console_page import Seen
from deploy.supervisor.messages import Process, Status

Do = Callable[[], object]
Ask = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Truth:
    """Something that is not so before a deed, and is so from some moment on."""

    name: str
    shown: Callable[[Seen], bool]
    """Whether the page says it."""
    told: Callable[[Any], bool] | None = None
    """Whether whoever knows first says it; None: it is so when the deed is done."""


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that is done."""

    place: str
    """The page that shows what becomes of it."""
    before: Callable[[Seen], bool]
    """Whether the page shows what is so before."""
    do: Do
    truths: Sequence[Truth]
    ask: Ask = lambda: None


def kill(process: Process, do: Do, ask: Ask, *, tells: bool = False) -> Deed:
    """A process is killed. `tells`: the page has its news from it alone, and may say that it has none."""
    name, again = process.name, process.restarts + 1

    def is_dead(seen: Seen) -> bool:
        row = seen.process(name)
        changed = row is not None and (row["State"] != "ready" or int(row["restarts"]) >= again)
        return changed or (tells and seen.is_old)

    back = Truth(f"{name} is back", partial(shows, name=name, restarts=again), partial(runs, name=name, restarts=again))
    before = partial(shows, name=name, restarts=process.restarts)
    return Deed(f"services/{process.service}", before, do, (Truth(f"{name} is killed", is_dead), back), ask)


def grow(service: str, size: int, do: Do, ask: Ask) -> Deed:
    """A service that has so many instances gets one more."""
    newest = f"{service}-{size + 1}"
    there = Truth(
        "scale up: the instance is there",
        lambda seen: seen.process(newest) is not None,
        lambda status: any(each.name == newest for each in status.processes),
    )
    ready = Truth(
        "scale up: it is ready", partial(shows, name=newest, restarts=0), partial(runs, name=newest, restarts=0)
    )

    def before(seen: Seen) -> bool:
        return seen.says(f"{size} of {size} ready") and seen.process(newest) is None

    return Deed(f"services/{service}", before, do, (_wanted("scale up", service, size + 1), there, ready), ask)


def shrink(service: str, size: int, do: Do, ask: Ask) -> Deed:
    """A service that has one instance more than so many gets rid of it."""
    newest = f"{service}-{size + 1}"
    gone = Truth(
        "scale down: the instance is gone",
        lambda seen: seen.process(newest) is None,
        lambda status: all(each.name != newest for each in status.processes),
    )
    before = partial(shows, name=newest, restarts=0)
    return Deed(f"services/{service}", before, do, (_wanted("scale down", service, size), gone), ask)


def _wanted(what: str, service: str, size: int) -> Truth:
    return Truth(
        f"{what}: the size is wanted",
        lambda seen: seen.says(f"wanted: {size},"),
        lambda status: status.sizes[service].desired == size,
    )


def roll(processes: Sequence[Process], do: Do, ask: Ask) -> Deed:
    """All instances of a service are replaced, one after another."""
    service = processes[0].service
    replaced = [
        Truth(
            "roll: an instance is replaced",
            partial(shows, name=each.name, restarts=each.restarts + 1),
            partial(runs, name=each.name, restarts=each.restarts + 1),
        )
        for each in processes
    ]

    def is_over(status: Status) -> bool:
        return service not in status.rolling and all(truth.told is None or truth.told(status) for truth in replaced)

    def shows_all(seen: Seen, more: int) -> bool:
        return all(shows(seen, name=each.name, restarts=each.restarts + more) for each in processes)

    begun = Truth("roll: it has begun", lambda seen: seen.says("ready, rolling"), lambda said: service in said.rolling)
    over = Truth("roll: it is over", lambda seen: shows_all(seen, 1) and not seen.says("ready, rolling"), is_over)
    before = partial(shows_all, more=0)
    return Deed(f"services/{service}", before, do, (begun, *replaced, over), ask)


def put_aside(worker: str, reason: str, do: Do) -> Deed:
    """An event becomes the only dead letter of a worker."""
    truths = (
        Truth("dead letter: it is counted", partial(_counts, worker=worker, letters=1)),
        Truth("dead letter: it is listed", partial(_lists, reason=reason)),
    )
    return Deed("queues", lambda seen: _counts(seen, worker, 0) and not _lists(seen, reason), do, truths)


def take_away(worker: str, reason: str, do: Do) -> Deed:
    """It lies there no longer."""
    truths = (
        Truth("dead letter: it is counted no more", partial(_counts, worker=worker, letters=0)),
        Truth("dead letter: it is listed no more", lambda seen: not _lists(seen, reason)),
    )
    return Deed("queues", lambda seen: _counts(seen, worker, 1) and _lists(seen, reason), do, truths)


def _counts(seen: Seen, worker: str, letters: int) -> bool:
    row = seen.row("Queues", worker)
    return row is not None and row["dead"] == str(letters)


def _lists(seen: Seen, reason: str) -> bool:
    return any(row["Reason"] == reason for row in seen.tables.get("Dead letters", ()))


def fire(alert: str, do: Do, ask: Ask) -> Deed:
    """An alert begins to fire."""
    truth = Truth("alert: it fires", partial(_fires, alert=alert), lambda firing: alert in firing)
    return Deed("alerts", lambda seen: seen.title == "Alerts" and not _fires(seen, alert), do, (truth,), ask)


def cease(alert: str, do: Do, ask: Ask) -> Deed:
    """It ceases to."""
    truth = Truth("alert: it is over", lambda seen: not _fires(seen, alert), lambda firing: alert not in firing)
    return Deed("alerts", partial(_fires, alert=alert), do, (truth,), ask)


def _fires(seen: Seen, alert: str) -> bool:
    row = seen.row("Alerts", alert)
    return row is not None and "about to fire" not in row["Alert"]


def shows(seen: Seen, name: str, restarts: int) -> bool:
    """Whether the page shows a process as ready that was started so often again, and vouches for it."""
    row = seen.process(name)
    return row is not None and (row["State"], row["restarts"]) == ("ready", str(restarts)) and not seen.is_old


def runs(status: Status, name: str, restarts: int) -> bool:
    """Whether the supervisor says the same."""
    return any((each.name, each.state, each.restarts) == (name, "ready", restarts) for each in status.processes)
