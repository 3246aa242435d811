"""The workers' processes, and what people ask of them.

python -m worker relay|<worker>                                   be a worker until SIGTERM
python -m worker migrate <worker>                                 bring a worker's database up to date
python -m worker facts                                            what workers have done
python -m worker dlq list|show|replay|rehearse                    dead letters
python -m worker verify-audit                                     whether the audit log is whole
python -m worker reconcile                                        whether the roll-up is what the archive says
python -m worker restored                                         after a restore: send again what somebody has missed
"""

import argparse
import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from svc.chassis import lifecycle, migrate, telemetry
from svc.chassis.clock import SystemClock
from svc.chassis.config import ConfigError, Secrets, Settings, read
from svc.chassis.context import Deadline
from svc.chassis.errors import AppError
from worker import config, operating, rehearsal, restored, wiring
from worker.deadletter import Choice
from worker.errors import Outage

_LIMIT: Final = 50
_EVERYTHING: Final = 10**9

#: Longest that `reconcile` waits for events that are on their way to the archive.
ARRIVE_S: Final = 60.0


def main() -> int:
    """Returns the exit code."""
    parser = _parser()
    arguments = parser.parse_args()
    command: str = arguments.command
    telemetry.log_uncaught()
    if command in wiring.BUILDERS:
        return lifecycle.run_worker(Settings.from_environ(), name=wiring.NAMES[command], build=wiring.BUILDERS[command])
    telemetry.log_for_commands()
    answer: Callable[[argparse.Namespace, Secrets], object] = arguments.answer
    try:
        said = answer(arguments, read(Secrets))
    except ConfigError as error:
        print(f"weft: {error}", file=sys.stderr)
        return lifecycle.EXIT_CONFIG
    except (AppError, Outage) as error:
        print(f"weft: {error}", file=sys.stderr)
        return lifecycle.EXIT_FAILED
    if said is not None:
        print(json.dumps(said, default=str))
    return 0 if arguments.holds(said) else lifecycle.EXIT_FAILED


def _migrate(arguments: argparse.Namespace, secrets: Secrets) -> None:
    url, location = secrets.database_url(arguments.database), str(wiring.MIGRATIONS[arguments.database])
    migrate.upgrade(url, location, contract=not arguments.expand)


def _restored(arguments: argparse.Namespace, secrets: Secrets) -> object:
    return restored.mark(secrets, arguments.as_of or SystemClock().now())


def _moment(text: str) -> datetime:
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment
    raise argparse.ArgumentTypeError(f"{text!r} is no moment; give one such as 2026-11-23T12:00:00Z")


def _list(arguments: argparse.Namespace, secrets: Secrets) -> object:
    return operating.list_letters(secrets, _workers(arguments), _choice(arguments), most=arguments.limit or _LIMIT)


def _show(arguments: argparse.Namespace, secrets: Secrets) -> object:
    return operating.show_letter(secrets, _workers(arguments), arguments.id, body=arguments.body)


def _replay(arguments: argparse.Namespace, secrets: Secrets) -> object:
    choice = _choice(arguments, *arguments.ids)
    return operating.replay_letters(secrets, _workers(arguments), choice, most=arguments.limit or _EVERYTHING)


def _verify_audit(arguments: argparse.Namespace, secrets: Secrets) -> object:
    def progress(done: int, records: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done} of {records} records", end="" if done < records else "\n", file=sys.stderr, flush=True)

    return operating.verify_audit(secrets, arguments.noted, progress)


def _reconcile(_arguments: argparse.Namespace, secrets: Secrets) -> object:
    # Here and not above: it brings Arrow with it, and workers are not to carry its 70 MB.
    from worker import reconcile

    settings = config.Archive.read()
    snapshot = wiring.read_archive(secrets, reconcile.read)
    waited, ticking = Deadline.after(ARRIVE_S), threading.Event()
    while (late := wiring.read_archive(secrets, lambda tx: reconcile.arrived(tx, snapshot))) is None:
        if waited.expired():
            return {"even": False, "unarchived": len(snapshot.unarchived), "differences": []}
        ticking.wait(0.5)
    since = reconcile.whole_since(SystemClock().now().astimezone(UTC).date(), settings.keep)
    found = [asdict(one) for one in reconcile.differences(snapshot, late, settings.events, since=since)]
    return {"even": not found, "unarchived": 0, "differences": found}


def _is_even(said: Any) -> bool:
    return bool(said["even"])


def _workers(arguments: argparse.Namespace) -> list[str]:
    return [arguments.queue] if arguments.queue else list(operating.WORKERS)


def _choice(arguments: argparse.Namespace, *ids: str) -> Choice:
    return Choice(frozenset(ids), arguments.reason, arguments.type)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(holds=lambda said: True)
    commands = parser.add_subparsers(dest="command", required=True)
    for worker in wiring.BUILDERS:
        commands.add_parser(worker, help=f"be the {worker} worker until SIGTERM")
    migration = commands.add_parser("migrate", help="bring a worker's database up to its newest migration")
    migration.add_argument("database", choices=sorted(wiring.MIGRATIONS))
    migration.add_argument(
        "--expand", action="store_true", help="stop before what the code released before cannot live with"
    )
    migration.set_defaults(answer=_migrate)
    again = commands.add_parser("restored", help="after a restore: have sent again what a consumer has not handled")
    again.add_argument(
        "--as-of", type=_moment, metavar="TIME",
        help="the moment the backup is of, RFC 3339 with an offset; not said: now. Events that are more than 30 days "
        "older stay as they are",
    )  # fmt: skip
    again.set_defaults(answer=_restored)
    facts = commands.add_parser("facts", help="print what workers have done as one line of JSON")
    facts.set_defaults(answer=lambda _arguments, secrets: wiring.facts(secrets))
    _add_dead_letters(commands.add_parser("dlq", help="list, show and replay dead letters, as one line of JSON"))
    audit = commands.add_parser("verify-audit", help="say whether the audit log is whole, as one line of JSON")
    audit.add_argument(
        "--noted", action="append", default=[], type=operating.parse_head, metavar="SEQUENCE:HASH",
        help="a head that an earlier walk has named; repeatable",
    )  # fmt: skip
    audit.set_defaults(answer=_verify_audit)
    reconcile = commands.add_parser("reconcile", help="compare the roll-up of sales with the archive of all events")
    reconcile.set_defaults(answer=_reconcile, holds=_is_even)
    return parser


def _add_dead_letters(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="the letters, oldest first")
    listing.set_defaults(answer=_list)
    showing = verbs.add_parser("show", help="everything about one letter")
    showing.add_argument("id")
    showing.add_argument("--body", action="store_true", help="its bytes too, in base64, whatever they hold")
    showing.set_defaults(answer=_show)
    replaying = verbs.add_parser("replay", help="send letters back to the queues they came from")
    replaying.add_argument("ids", nargs="*", metavar="id")
    replaying.set_defaults(answer=_replay)
    rehearsing = verbs.add_parser("rehearse", help="put a copy of an event aside that a worker has handled")
    rehearsing.add_argument("worker", choices=operating.WORKERS)
    rehearsing.set_defaults(answer=lambda arguments, secrets: rehearsal.put_aside(secrets, arguments.worker))
    for verb in (listing, showing, replaying):
        verb.add_argument("--queue", default="", choices=("", *operating.WORKERS), help="only this worker's")
    for verb in (listing, replaying):
        verb.add_argument("--reason", default="", help="only those whose reason has this in it")
        verb.add_argument("--type", default="", help="only this type of event")
        verb.add_argument("--limit", type=int, default=0, help="at most so many")


if __name__ == "__main__":
    sys.exit(main())
