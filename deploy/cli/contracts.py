"""The verbs of `weft contracts`: plan, check, consumers, docs, publish, rollback. Registered by app.py.

They compile the .proto files of this clone, not the generated code beside them, and call the compiler and the
publisher as processes of their own, as the supervisor does.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from deploy.cli import consumers as known
from deploy.cli import exits, sources
from deploy.cli.exits import Json
from deploy.cli.impact import Contracts
from deploy.cli.sources import CommandFailedError, python
from deploy.supervisor.config import PROJECT, Settings
from deploy.supervisor.errors import NotRunningError, RefusedError
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.messages import Publishing
from weft_protos.usage import Entry

RUNNING = "running"
NONE = "none"
DOCS = Path("build/docs/contracts")
#: Longer than any client needs to answer, its reconnection included.
WAIT_S = 30.0

Against = Annotated[
    str, typer.Option(help="A descriptor set, a commit, or `running`; where absent, the released contracts.")
]
Consumers = Annotated[
    str,
    typer.Option(
        "--consumers",
        metavar="running|none|FILE",
        help="Notes of consumers to ask: the running mesh's, none, or what `contracts consumers --json` printed; "
        "where absent, the running mesh's if one runs.",
    ),
]
Descriptors = Annotated[
    Path | None, typer.Option(help="A descriptor set instead of this clone's .proto files.", exists=True)
]
Wait = Annotated[bool, typer.Option("--wait", help="Until every client has accepted it; exit 1 where one refuses.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Directory to write or replace.")]
Sources = Annotated[
    str, typer.Option("--sources", metavar="URL", help="What links to file and line begin with; else this clone.")
]
Timeout = Annotated[float, typer.Option(min=1, max=3600, help="Wait so many seconds.")]


def plan(against: Against = "", descriptors: Descriptors = None, json_: Json = False) -> None:
    """Show what these contracts would change: routes, access, limits, timeouts, retries, caching, events.

    Example: weft contracts plan --against running
    """
    with _reporting(), sources.folder() as folder:
        after = sources.built(folder, descriptors)
        before = _baseline(against, folder)
        flags = ("--json",) if json_ else ()
        print(python("gateway", "plan", "--against", str(before), "--descriptors", str(after), *flags), end="")


def check(
    against: Against = "", descriptors: Descriptors = None, consumers_: Consumers = "", json_: Json = False
) -> None:
    """Name every rule these contracts break, and every change that breaks whoever calls or listens already.

    Where a mesh runs, each change of a field or a method comes with the consumers that use it, and when last.

    Example: weft contracts check --against HEAD~1
    """
    with _reporting(), sources.folder() as folder:
        # What cannot be read is said before anything is judged.
        notes = _notes(consumers_) if consumers_ else None
        after = sources.built(folder, descriptors)
        before = _baseline(against, folder)
        violations = [*sources.buf_breaking(after, before), *sources.policy_violations(after, before)]
        if violations:
            notes = notes if consumers_ else _notes("")
            _name_consumers(violations, notes, before=before.read_bytes())
    violations.sort(key=lambda found: (found["file"], found["line"], found["message"]))
    if json_:
        print(json.dumps({"violations": violations}, indent=2))
    for found in () if json_ else violations:
        fix = f"; {found['fix']}" if found["fix"] else ""
        print(f"{found['file']}:{found['line']}: {found['message']}{fix}", file=sys.stderr)
        for line in found.get("used", ()):
            print(f"    {line}", file=sys.stderr)
    if violations:
        count = len(violations)
        print(f"weft: the contracts have {count} violation{'s' if count > 1 else ''}", file=sys.stderr)
        raise typer.Exit(exits.FAILED)
    if not json_:
        print(f"the contracts keep every rule, and what {against or 'the released ones'} promised")


def consumers(json_: Json = False) -> None:
    """List who calls the services of the running mesh: contract, methods, the fields sent and read, and when last.

    Example: weft contracts consumers --json
    """
    with _reporting():
        notes = known.running(_publishing().environ)
    print(json.dumps(known.as_object(notes), indent=2) if json_ else "\n".join(known.lines(notes)))


def docs(out: Out = DOCS, sources_: Sources = "", descriptors: Descriptors = None, json_: Json = False) -> None:
    """Write the reference of these contracts as pages: methods, policies, errors, examples, events.

    Example: weft contracts docs --out build/docs/contracts
    """
    with _reporting(), sources.folder() as folder:
        built = sources.built(folder, descriptors)
        # Links lead to this clone's files unless another place is named.
        links = sources_ or f"{quote(os.path.relpath(PROJECT, out.resolve()))}/"
        where = ("--out", str(out.resolve()), "--sources", links)
        said = python("gateway", "docs", "--descriptors", str(built), *where)
    if json_:
        pages = sorted(str(page.relative_to(out)) for page in out.rglob("*.html"))
        print(json.dumps({"out": str(out.resolve()), "pages": pages}))
    else:
        print(said, end="")


def publish(
    wait: Wait = False, timeout: Timeout = WAIT_S, descriptors: Descriptors = None, json_: Json = False
) -> None:
    """Compile these contracts for the running mesh and have every gateway and service go by them.

    All of it is published at once or none. A client that refuses a part keeps what it accepted last in its place.

    Example: weft contracts publish --wait
    """
    publishing = _publishing()
    with _reporting(), sources.folder() as folder:
        built = sources.built(folder, descriptors)
        if descriptors is None and not sources.is_generated(built):
            print("weft: protos/gen is not what the contracts say; instances go by it: run `make gen`", file=sys.stderr)
        done = send(publishing, built, folder)
        did = "published" if done["changed"] else "current already:"
        said = f"{did} {done['manifest'][:12]}, number {done['number']}, {done['resources']} resources"
        _finish(publishing, done, said, timeout=timeout if wait else None, as_json=json_)


def send(publishing: Publishing, built: Path, folder: Path) -> dict[str, Any]:
    """Compile a descriptor set and publish it, its objectives as well; what the publisher says.

    Raises CommandFailedError where the compiler or the publisher refuses it; then nothing is published.
    """
    bundle = str(folder / "bundle")
    python("gateway", "compile", "--descriptors", str(built), "--out", bundle, *publishing.edge)
    done: dict[str, Any] = json.loads(python("lb", "publish", bundle, "--json", environ=publishing.environ))
    _watch(built, folder)
    return done


def rollback(wait: Wait = False, timeout: Timeout = WAIT_S, json_: Json = False) -> None:
    """Go back to what was published before the current contracts.

    Example: weft contracts rollback --wait
    """
    publishing = _publishing()
    with _reporting(), sources.folder() as folder:
        done = json.loads(python("lb", "rollback", "--json", environ=publishing.environ))
        said = f"back to {done['manifest'][:12]}, number {done['number']}; undone: {done['undone'][:12]}"
        _watch(_baseline(RUNNING, folder), folder)
        _finish(publishing, done, said, timeout=timeout if wait else None, as_json=json_)


def _finish(publishing: Publishing, done: dict[str, Any], said: str, *, timeout: float | None, as_json: bool) -> None:
    """Report what was done and, where `timeout` is given, what the clients made of it."""
    if not as_json:
        print(said, flush=True)
    verdict: dict[str, Any] = {}
    if timeout is not None:
        arguments = ("--wait", done["manifest"], "--timeout", f"{timeout:g}", "--json")
        verdict = json.loads(python("lb", "proxies", *arguments, environ=publishing.environ, answers=(0, 1)))
    if as_json:
        print(json.dumps({**done, **verdict}))
    if not verdict:
        return
    if verdict["state"] == "accepted":
        if not as_json:
            print(f"accepted by every connected client: {verdict['clients']}")
        return
    for reason in verdict["reasons"]:
        print(f"weft: {' '.join(reason.split())}", file=sys.stderr)
    if verdict["state"] == "refused":
        hint = "who refused goes on with what it accepted last; `weft contracts rollback` takes this one back"
    else:
        hint = f"not accepted by everybody within {timeout:g} s"
    print(f"weft: {hint}", file=sys.stderr)
    raise typer.Exit(exits.FAILED)


def _watch(published: Path, folder: Path) -> None:
    """Have the monitor go by the objectives of what was published; it is published whether this succeeds or not."""
    rules = folder / "slo.yml"
    try:
        python("gateway", "slo", "--descriptors", str(published), "--out", str(rules))
        Mesh(Settings.from_environ().data).watch(rules.read_text())
    except (CommandFailedError, NotRunningError, RefusedError) as error:
        print(f"weft: alerts still go by the objectives of before: {error}", file=sys.stderr)


def _name_consumers(violations: list[dict[str, Any]], notes: dict[Entry, int] | None, *, before: bytes) -> None:
    """Add to each violation who uses what it is about: `consumers` for programs, `used` for people."""
    if notes is None:
        return
    contracts, now = Contracts(before), datetime.now(UTC)
    for found in violations:
        impact = contracts.impact(found)
        if impact is None:
            continue
        users = known.uses(notes, impact)
        found["consumers"] = [use.as_object() for use in users]
        found["used"] = [f"used by {use}" for use in users] or [known.unused(notes, impact, now=now)]


def _notes(asked: str) -> dict[Entry, int] | None:
    """What is known of consumers; None where nothing is to be asked, or nobody is there and nobody was named."""
    if asked == NONE:
        return None
    if asked not in ("", RUNNING):
        try:
            return known.parse(Path(asked).read_bytes())
        except (OSError, ValueError) as error:
            raise CommandFailedError([f"--consumers: {asked}: {error}"], exits.USAGE) from error
    try:
        return known.running(_publishing().environ)
    except (NotRunningError, CommandFailedError) as error:
        if asked == RUNNING:
            raise
        if isinstance(error, CommandFailedError):
            print(f"weft: consumers are not known: {error}", file=sys.stderr)
        return None


def _publishing() -> Publishing:
    return Mesh(Settings.from_environ().data).publishing()


def _baseline(against: str, folder: Path) -> Path:
    """The descriptor set that `against` means."""
    if not against:
        return PROJECT / "protos" / "baseline.binpb"
    if against == RUNNING:
        bundle, found = str(folder / "running"), folder / "running.binpb"
        python("lb", "fetch", bundle, environ=_publishing().environ)
        python("gateway", "descriptors", bundle, "--out", str(found))
        return found
    path = Path(against)
    return path if path.is_file() else sources.of_commit(against, folder)


@contextmanager
def _reporting() -> Iterator[None]:
    """Leave with the lines of a command that failed, and with its exit code."""
    try:
        yield
    except CommandFailedError as error:
        for line in error.lines:
            print(f"weft: {line}", file=sys.stderr)
        raise typer.Exit(error.code) from error
