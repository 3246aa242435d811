"""`python -m svc.chassis.inspection NAME=DIRECTORY...`: what state databases are in, as JSON. It changes nothing.

Asked through the door that services use, so that it says what they get: whether a transaction of theirs is
serializable, and whether the schema is that of the migrations in the directory. Used by `weft check`.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import sqlalchemy
from alembic.runtime.migration import MigrationContext

from svc.chassis import migrate, telemetry
from svc.chassis.clock import SystemClock
from svc.chassis.config import ConfigError, Secrets, read
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import AppError
from svc.chassis.lifecycle import EXIT_CONFIG

#: A database that takes longer for three small questions is as good as away.
ANSWER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class State:
    """One database; empty fields where it did not answer."""

    name: str
    error: str = ""
    isolation: str = ""
    """As the database itself calls that of a transaction in which services write."""
    revision: str = ""
    """The last migration that was applied; empty: none was."""
    head: str = ""
    """The newest one there is."""
    clock_s: float = 0.0
    """By how much the server's clock is ahead of ours at the least; 0 where both may show the same."""


def inspect(name: str, url: str, migrations: Path) -> State:
    """Ask one database."""
    head = migrate.head(str(migrations))
    database = Database(url, pool_size=1, name=name)

    def ask(tx: Transaction) -> State:
        before = SystemClock().now().timestamp()
        now = float(tx.execute(sqlalchemy.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
        after = SystemClock().now().timestamp()
        return State(
            name,
            isolation=str(tx.execute(sqlalchemy.text("SHOW transaction_isolation")).scalar_one()),
            revision=MigrationContext.configure(tx).get_current_revision() or "",
            head=head,
            clock_s=round(now - min(max(now, before), after), 3),
        )

    try:
        return database.serializable(ask, deadline=Deadline.after(ANSWER_S))
    except AppError as error:
        return State(name, error=str(error), head=head)
    finally:
        database.close()


def main() -> int:
    """Returns the exit code: 0 all were asked, whatever they are like; 2 a setting or an argument is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m svc.chassis.inspection",
        description="Say what state databases are in.",
        epilog="example: python -m svc.chassis.inspection orders=svc/orders/migrations",
    )
    parser.add_argument(
        "databases", nargs="+", metavar="NAME=DIRECTORY", help="a database, and where its migrations lie"
    )
    telemetry.log_for_commands()
    try:
        secrets = read(Secrets)
        places = [given.partition("=") for given in parser.parse_args().databases]
        for name, _, directory in places:
            if not directory:
                parser.error(f"{name!r} is not NAME=DIRECTORY")
        asked = [(name, secrets.database_url(name), Path(directory)) for name, _, directory in places]
    except ConfigError as error:
        print(f"weft: {error}", file=sys.stderr)
        return EXIT_CONFIG
    # All at once: where a server is away, each would wait for its own end.
    with ThreadPoolExecutor(len(asked)) as pool:
        print(json.dumps([asdict(state) for state in pool.map(inspect, *zip(*asked, strict=True))]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
