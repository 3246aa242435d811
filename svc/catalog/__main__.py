"""`python -m svc.catalog serve|migrate|facts`: environment to settings, settings to the thing that was asked for."""

import argparse
import json
import sys
from pathlib import Path
from typing import Final

import structlog

from svc.catalog import facts, wiring
from svc.chassis import lifecycle, migrate
from svc.chassis.config import ConfigError, Secrets, Settings, read
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from svc.chassis.errors import AppError

SERVICE: Final = "catalog"
# Counting every row of a large database takes its time.
_FACTS_S: Final = 60.0


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m svc.{SERVICE}", description="Products and their prices.")
    parser.add_argument("command", choices=("serve", "migrate", "facts"))
    command = parser.parse_args().command
    if command == "serve":
        return lifecycle.serve(Settings.from_environ(), service=SERVICE, build=wiring.build)
    try:
        _run(command, read(Secrets))
    except ConfigError as error:
        print(f"weft: {error}", file=sys.stderr)
        return lifecycle.EXIT_CONFIG
    except AppError as error:
        print(f"weft: {error}", file=sys.stderr)
        return lifecycle.EXIT_FAILED
    return 0


def _run(command: str, secrets: Secrets) -> None:
    # The answer is the only line on stdout.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    url = secrets.database_url(SERVICE)
    if command == "migrate":
        migrate.upgrade(url, str(Path(__file__).parent / "migrations"))
        return
    database = Database(url, pool_size=1, name=SERVICE)
    try:
        print(json.dumps(database.read(facts.collect, deadline=Deadline.after(_FACTS_S))))
    finally:
        database.close()


if __name__ == "__main__":
    sys.exit(main())
