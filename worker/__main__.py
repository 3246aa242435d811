"""`python -m worker relay|email|audit|analytics`, `... migrate email|audit`, `... facts`, `... restored`."""

import argparse
import json
import sys

from svc.chassis import lifecycle, migrate, telemetry
from svc.chassis.config import ConfigError, Secrets, Settings, read
from svc.chassis.errors import AppError
from worker import restored, wiring
from worker.errors import Outage


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
            url, location = secrets.database_url(arguments.database), str(wiring.MIGRATIONS[arguments.database])
            migrate.upgrade(url, location, contract=not arguments.expand)
        elif command == "restored":
            print(json.dumps(restored.mark(secrets)))
        else:
            print(json.dumps(wiring.facts(secrets)))
    except ConfigError as error:
        print(f"weft: {error}", file=sys.stderr)
        return lifecycle.EXIT_CONFIG
    except (AppError, Outage) as error:
        print(f"weft: {error}", file=sys.stderr)
        return lifecycle.EXIT_FAILED
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker", description="Who reacts to events.")
    commands = parser.add_subparsers(dest="command", required=True)
    for worker in wiring.BUILDERS:
        commands.add_parser(worker, help=f"be the {worker} worker until SIGTERM")
    migration = commands.add_parser("migrate", help="bring a worker's database up to its newest migration")
    migration.add_argument("database", choices=sorted(wiring.MIGRATIONS))
    migration.add_argument(
        "--expand", action="store_true", help="stop before what the code released before cannot live with"
    )
    commands.add_parser("restored", help="after a restore: have every event sent again that a consumer has not handled")
    commands.add_parser("facts", help="print what workers have done as one line of JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
