"""Migrations: `python -m svc.<name> migrate` and `python -m worker migrate <name>` end here.

`upgrade` is safe to run twice and safe to run from two processes: the later one waits for the lock and finds nothing
to do. A database's migrations lie in one directory with `env.py` (two lines: `from svc.chassis.alembic_env import
run` and `run()`) and `versions/`.
"""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError, ProgrammingError

from svc.chassis import migration_steps
from svc.chassis.bounded import parse_url

# A row lock, as both databases have it; advisory locks are PostgreSQL's alone.
_LOCK_TABLE: Final = "CREATE TABLE IF NOT EXISTS migration_lock (id integer PRIMARY KEY)"
_LOCK_ROW: Final = "INSERT INTO migration_lock (id) VALUES (1) ON CONFLICT DO NOTHING"
_LOCK: Final = "SELECT id FROM migration_lock WHERE id = 1 FOR UPDATE"
# Two first runs at once both create the table, and one is refused; the next try finds it.
_CREATE_TRIES: Final = 3
_CONNECT_S: Final = 5


def _configuration(script_location: str) -> Config:
    directory = Path(script_location).resolve()
    config = Config()
    # The configuration parser interpolates percent signs.
    config.set_main_option("script_location", str(directory).replace("%", "%%"))
    if not ScriptDirectory.from_config(config).get_heads():
        raise ValueError(f"{directory} holds no migrations")
    return config


def _create_lock(engine: Engine) -> None:
    for attempt in range(1, _CREATE_TRIES + 1):
        try:
            with engine.begin() as connection:
                connection.execute(text(_LOCK_TABLE))
                connection.execute(text(_LOCK_ROW))
        except (IntegrityError, ProgrammingError):
            if attempt == _CREATE_TRIES:
                raise
        else:
            return


def upgrade(url: str, script_location: str, *, contract: bool = True) -> None:
    """Bring the database up to the newest migration of the directory.

    Without `contract` only as far as the code can live with that was released before (`migration_steps`).
    """
    config = _configuration(script_location)
    engine = create_engine(
        parse_url(url), poolclass=NullPool, hide_parameters=True, connect_args={"connect_timeout": _CONNECT_S}
    )
    _create_lock(engine)
    with engine.connect() as lock, engine.connect() as connection:
        lock.execute(text(_LOCK))
        config.attributes["connection"] = connection
        target: str | None = "head"
        if not contract:
            current = MigrationContext.configure(connection).get_current_revision()
            connection.rollback()
            target = migration_steps.before_contraction(Path(script_location), current)
        if target is not None:
            command.upgrade(config, target)
        lock.rollback()
