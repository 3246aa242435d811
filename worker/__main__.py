"""The workers' command line.

`python -m worker relay|email|audit|analytics|archive|reports`, `python -m worker migrate email|audit`,
`python -m worker facts`, `python -m worker reconcile`
"""

import argparse
import json
import sys
import threading
from dataclasses import asdict
from datetime import UTC
from typing import Final

from svc.chassis import lifecycle, migrate, telemetry
from svc.chassis.clock import SystemClock
from svc.chassis.config import ConfigError, Secrets, Settings, read
from svc.chassis.context import Deadline
from svc.chassis.errors import AppError
from worker import config, wiring
from worker.errors import Outage

#: Longest that `reconcile` waits for events that are on their way to the archive.
ARRIVE_S: Final = 60.0


def main() -> int:
    """Returns the exit code."""
    arguments = _arguments()
    command: str = arguments.command
    telemetry.log_uncaught()
    if command in wiring.BUILDERS:
        return lifecycle.run_worker(Settings.from_environ(), name=wiring.NAMES[command], build=wiring.BUILDERS[command])
    telemetry.log_for_commands()
    try:
        secrets = read(Secrets)
        if command == "migrate":
            migrate.upgrade(secrets.database_url(arguments.database), str(wiring.MIGRATIONS[arguments.database]))
        elif command == "reconcile":
            return _reconcile(secrets)
        else:
            print(json.dumps(wiring.facts(secrets)))
    except ConfigError as error:
        print(f"weft: {error}", file=sys.stderr)
        return lifecycle.EXIT_CONFIG
    except (AppError, Outage) as error:
        print(f"weft: {error}", file=sys.stderr)
        return lifecycle.EXIT_FAILED
    return 0


def _reconcile(secrets: Secrets) -> int:
    # Here and not above: it brings Arrow with it, and workers are not to carry its 70 MB.
    from worker import reconcile

    settings = config.Archive.read()
    snapshot = wiring.read_archive(secrets, reconcile.read)
    waited, ticking = Deadline.after(ARRIVE_S), threading.Event()
    while (late := wiring.read_archive(secrets, lambda tx: reconcile.arrived(tx, snapshot))) is None:
        if waited.expired():
            told = {"even": False, "unarchived": len(snapshot.unarchived), "differences": []}
            print(json.dumps(told))
            return lifecycle.EXIT_FAILED
        ticking.wait(0.5)
    since = reconcile.whole_since(SystemClock().now().astimezone(UTC).date(), settings.keep)
    found = [asdict(one) for one in reconcile.differences(snapshot, late, settings.events, since=since)]
    print(json.dumps({"even": not found, "unarchived": 0, "differences": found}, default=str))
    return lifecycle.EXIT_FAILED if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker", description="Who reacts to events.")
    commands = parser.add_subparsers(dest="command", required=True)
    for worker in wiring.BUILDERS:
        commands.add_parser(worker, help=f"be the {worker} worker until SIGTERM")
    migration = commands.add_parser("migrate", help="bring a worker's database up to its newest migration")
    migration.add_argument("database", choices=sorted(wiring.MIGRATIONS))
    commands.add_parser("facts", help="print what workers have done as one line of JSON")
    commands.add_parser("reconcile", help="compare the roll-up of sales with the archive of all events; 0: they agree")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
