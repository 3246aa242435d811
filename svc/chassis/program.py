"""The command line of a service: `serve`, `migrate`, `facts` and whatever else it adds. Called by each `__main__`.

Standard output carries nothing but an answer in JSON, one line; a failure is one line on standard error and an exit
code: 1 it failed, 2 a setting or an argument is wrong.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from svc.chassis import lifecycle, migrate, telemetry
from svc.chassis.config import ConfigError, Secrets, Settings, read
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import AppError
from svc.chassis.resources import Resources
from svc.chassis.server import Service

# Counting every row of a large database takes its time.
FACTS_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Program:
    """What tells one service from another on the command line."""

    service: str
    """`orders`; its package is `svc.orders`, its database `orders`."""
    summary: str
    migrations: Path
    build: Callable[[Resources], Sequence[Service]]
    facts: Callable[[Transaction], Mapping[str, object]]
    """What the database holds, read in one snapshot."""
    commands: Mapping[str, Callable[[Database, Secrets], object]] = field(default_factory=dict)
    """Further commands, by name; each returns its answer."""
    failures: tuple[type[Exception], ...] = ()
    """What these commands fail with beside AppError."""


def run(program: Program) -> int:
    """Do what the arguments say. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m svc.{program.service}",
        description=program.summary,
        epilog=f"example: python -m svc.{program.service} facts",
    )
    parser.add_argument("command", choices=("serve", "migrate", "facts", *program.commands))
    parser.add_argument(
        "--expand", action="store_true", help="of migrate: stop before what the code released before cannot live with"
    )
    arguments = parser.parse_args()
    command: str = arguments.command
    telemetry.log_uncaught()
    if command == "serve":
        return lifecycle.serve(Settings.from_environ(), service=program.service, build=program.build)
    telemetry.log_for_commands()
    failures: tuple[type[Exception], ...] = (AppError, *program.failures)
    try:
        if command == "migrate":
            url = read(Secrets).database_url(program.service)
            migrate.upgrade(url, str(program.migrations), contract=not arguments.expand)
        else:
            _once(program, command, read(Secrets))
    except ConfigError as error:
        print(f"weft: {error}", file=sys.stderr)
        return lifecycle.EXIT_CONFIG
    except failures as error:
        print(f"weft: {error}", file=sys.stderr)
        return lifecycle.EXIT_FAILED
    return 0


def _once(program: Program, command: str, secrets: Secrets) -> None:
    database = Database(secrets.database_url(program.service), pool_size=1, name=program.service)
    try:
        if command == "facts":
            print(json.dumps(database.read(program.facts, deadline=Deadline.after(FACTS_S))))
        else:
            print(json.dumps(program.commands[command](database, secrets)))
    finally:
        database.close()
