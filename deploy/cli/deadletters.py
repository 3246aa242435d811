"""The verbs of `weft dlq`: list, show, replay, rehearse. Registered by app.py.

They run `python -m worker dlq` with the secrets of the mesh. Nothing but the broker has to run; for `rehearse` the
databases, too.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from deploy.cli import exits, names, sources, terminal
from deploy.cli.exits import Json, fail
from deploy.cli.sources import CommandFailedError
from deploy.supervisor.config import Settings, child_environ
from deploy.supervisor.layout import Layout
from weft_protos import mesh_parts, policy

#: Whose events may end here: the workers that contracts name, and those that every event reaches.
WORKERS: Final = tuple(sorted({*mesh_parts.OF_ALL, *policy.queues()}))
LIMIT: Final = 50

Queue = Annotated[
    str,
    typer.Option(
        "--queue",
        metavar="WORKER",
        help=f"Only of one worker: {', '.join(WORKERS)}.",
        autocompletion=names.one_of(WORKERS),
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Only where the reason has this in it.")]
Type = Annotated[str, typer.Option("--type", metavar="EVENT", help="Only of this type, such as OrderPlaced.")]


def list_letters(
    queue: Queue = "",
    reason: Reason = "",
    type_: Type = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = LIMIT,
    json_: Json = False,
) -> None:
    """Show events that a worker has put aside: which, and why. They lie there until they are replayed.

    An event ends here when it can never be handled, or has failed as often as its contract lets it.

    Example: weft dlq list --queue email --reason "failed 5 times"
    """
    said = _ask("list", *_filters(queue, reason, type_), "--limit", str(limit))
    if json_:
        print(json.dumps(said))
        return
    if said["letters"]:
        print(terminal.table(("WORKER", "ID", "EVENT", "SINCE", "REASON"), [*map(_row, said["letters"])]))
    shown, chosen = len(said["letters"]), said["chosen"]
    more = f", {shown} of them shown; --limit shows more" if shown < chosen else ""
    print(f"{chosen} dead letter{'' if chosen == 1 else 's'}{more}")


def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As `weft dlq list` shows it.")],
    queue: Queue = "",
    body: Annotated[bool, typer.Option("--body", help="Its bytes in base64 too, personal values included.")] = False,
    json_: Json = False,
) -> None:
    """Show one dead letter whole: the event, without what its contract marks sensitive, the reason and the trace.

    Example: weft dlq show 0b54c8e1-5a0e-4d0c-9a55-3c1f6f9d7b11
    """
    letters = _ask("show", id_, *_filters(queue, "", ""), *(("--body",) if body else ()))["letters"]
    if not letters:
        fail(exits.FAILED, f"{id_} is no dead letter{f' of {queue}' if queue else ''}; `weft dlq list` shows them")
    if json_:
        print(json.dumps({"letters": letters}))
        return
    for letter in letters:
        print(json.dumps(letter, indent=2))


def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Those of `weft dlq list`.")] = None,
    queue: Queue = "",
    reason: Reason = "",
    type_: Type = "",
    all_: Annotated[bool, typer.Option("--all", help="Every one; of one worker with --queue.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0: no limit.")] = 0,
    json_: Json = False,
) -> None:
    """Have workers try dead letters again, from their first attempt. Mend the cause first.

    Safe to repeat: an event that has taken effect by now takes none again, and one that fails again comes back here.
    Exit 1 where an ID is not among the dead letters.

    Example: weft dlq replay 0b54c8e1-5a0e-4d0c-9a55-3c1f6f9d7b11

    Example: weft dlq replay --queue email --reason "mail server"
    """
    if not (ids or reason or type_ or all_):
        fail(exits.USAGE, "say which: IDs, --reason, --type, or --all")
    if all_ and (ids or reason or type_):
        fail(exits.USAGE, "--all is every one: leave out IDs, --reason and --type")
    said = _ask("replay", *_filters(queue, reason, type_), "--limit", str(limit), "--", *(ids or ()))
    if json_:
        print(json.dumps(said))
    else:
        for name, sent in said["replayed"].items():
            print(f"{len(sent)} sent back to {name}")
        if not said["replayed"]:
            print("nothing to send back")
    if said["missing"]:
        fail(exits.FAILED, f"no dead letters: {', '.join(said['missing'])}")


def rehearse(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Among whose.", autocompletion=names.one_of(WORKERS))],
    json_: Json = False,
) -> None:
    """Put a copy of an event that a worker has handled among its dead letters, to rehearse with.

    Nothing is missing meanwhile, and sent back it takes no effect again; the alert DeadLetters fires until then.

    Example: weft dlq rehearse email
    """
    _known(worker, "WORKER")
    said = _ask("rehearse", worker)
    if not said:
        fail(exits.FAILED, f"{worker} has handled no event lately of which a copy could be put aside; place an order")
    if json_:
        print(json.dumps(said))
    else:
        print(f"{said['id']} of {said['queue']} is put aside; `weft dlq replay {said['id']}` sends it back")


def _known(worker: str, where: str) -> None:
    if worker not in WORKERS:
        fail(exits.USAGE, f"{where}: there is no worker {worker!r} with dead letters; there are {', '.join(WORKERS)}")


def _filters(queue: str, reason: str, type_: str) -> Sequence[str]:
    if queue:
        _known(queue, "--queue")
    # With an equals sign, so that a value that begins with a dash is a value.
    said = (("--queue", queue), ("--reason", reason), ("--type", type_))
    return [f"{flag}={value}" for flag, value in said if value]


def _ask(*arguments: str) -> Any:
    return ask("dlq", *arguments)


def ask(*arguments: str) -> Any:
    """What `python -m worker` answers to a question about this machine's mesh; exits with its words where it cannot."""
    secrets = Layout(Settings.from_environ().data).secrets
    if not secrets.is_dir():
        fail(exits.UNREACHABLE, "no mesh was ever started here; `weft up` does")
    try:
        return json.loads(
            sources.python("worker", *arguments, environ=child_environ() | {"WEFT_SECRETS": str(secrets)})
        )
    except CommandFailedError as error:
        fail(exits.UNREACHABLE, error.lines[-1].removeprefix("weft: "))


def _row(letter: Mapping[str, Any]) -> tuple[str, ...]:
    # A reason may quote what somebody has sent: it is shown in one line, without what a terminal would obey.
    cells = (letter["queue"], letter["id"], letter["type"].rpartition(".")[2], letter["parked"], letter["reason"])
    return tuple(terminal.printable(str(cell or "?")) for cell in cells)
