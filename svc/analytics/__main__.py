"""`python -m svc.analytics serve|migrate|facts`: environment to settings, settings to the thing that was asked for."""

import argparse
import json
import sys
from pathlib import Path

from svc.analytics import facts, wiring
from svc.chassis import lifecycle, migrate
from svc.chassis.config import ConfigError, Secrets, Settings, read
from svc.chassis.context import Deadline
from svc.chassis.database import Database

SERVICE = "analytics"
# Counting every row of a large database takes its time.
_FACTS_S = 60.0


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m svc.{SERVICE}", description="What the shop sold.")
    parser.add_argument("command", choices=("serve", "migrate", "facts"))
    command = parser.parse_args().command
    if command == "serve":
        return lifecycle.serve(Settings.from_environ(), service=SERVICE, build=wiring.build)
    try:
        url = read(Secrets).database_url(SERVICE)
    except ConfigError as error:
        print(f"weft: {error}", file=sys.stderr)
        return lifecycle.EXIT_CONFIG
    if command == "migrate":
        migrate.upgrade(url, str(Path(__file__).parent / "migrations"))
    else:
        _print_facts(url)
    return 0


def _print_facts(url: str) -> None:
    database = Database(url, pool_size=1, name=SERVICE)
    try:
        print(json.dumps(database.read(facts.collect, deadline=Deadline.after(_FACTS_S))))
    finally:
        database.close()


if __name__ == "__main__":
    sys.exit(main())
