"""What each migration does to code that knows nothing of it: it expands the schema, or it contracts it.

Expanding leaves everything as the released code knows it, so it goes first, while that code runs. Contracting takes
away what only that code needs, so it comes last, when it has gone. A migration does one or the other: one that did both
could be run at no moment. `python -m svc.chassis.migration_steps` checks all of them; `migrate --expand` stops before
the first that contracts.

Nothing is run: a migration is recorded, on a dialect without a server.
"""

import enum
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic.config import Config
from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory

DIALECTS: Final = ("postgresql", "cockroachdb")
#: Part of the file name of a migration that contracts: `0007_post_without_nicknames.py`.
POST: Final = "_post_"


class Step(enum.Enum):
    """When a migration, or one of its operations, may run."""

    EXPAND = "expand"
    """While code runs that does not know of it."""
    CONTRACT = "contract"
    """When no code runs any more that needs what it takes away."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One change of the schema, in words, and when it may run."""

    step: Step
    words: str


@dataclass(frozen=True, slots=True)
class Migration:
    """What one migration does."""

    revision: str
    file: Path
    operations: tuple[Operation, ...]
    sql: str
    """What a server of the dialect would be sent."""

    @property
    def steps(self) -> frozenset[Step]:
        """The steps it does: one, or it is wrong."""
        return frozenset(operation.step for operation in self.operations)

    def faults(self) -> tuple[str, ...]:
        """What is wrong with it, each in a line."""
        contracts = [operation.words for operation in self.operations if operation.step is Step.CONTRACT]
        if contracts and Step.EXPAND in self.steps:
            return (f"{self.file}: expands the schema and contracts it ({'; '.join(contracts)}); make two of it",)
        if contracts and POST not in self.file.name:
            return (f"{self.file}: contracts the schema ({'; '.join(contracts)}); name it {_named(self.file)}",)
        if not contracts and POST in self.file.name:
            return (f"{self.file}: its name says that it contracts the schema, and it does not",)
        return ()


def _named(file: Path) -> str:
    number, _, rest = file.name.partition("_")
    return f"{number}{POST}{rest.removeprefix('pre_')}"


@dataclass(slots=True)
class _Made:
    """What a migration has made itself: nobody knows it yet, so it may be restricted."""

    tables: set[str] = field(default_factory=set)
    columns: set[tuple[str, str]] = field(default_factory=set)

    def only_new(self, table: str, text: str) -> bool:
        """Whether a rule about a table touches nothing that was there before."""
        return table in self.tables or any(
            table == owner and re.search(rf"\b{re.escape(column)}\b", text) for owner, column in self.columns
        )


class _Recorder:
    """Notes what a migration asks of `alembic.op`, or of the connection behind it."""

    def __init__(self, operations: Operations) -> None:
        self.found: list[Operation] = []
        self._made = _Made()
        self._context = operations.migration_context
        self._invoke = operations.invoke
        bind: Any = sa.create_mock_engine(f"{self._context.dialect.name}+psycopg://", self._executed)
        bind.exec_driver_sql = self._written
        # Both are asked of this one object, whoever imports `alembic.op`.
        vars(operations).update(invoke=self._invoked, get_bind=lambda: bind)

    def _invoked(self, operation: Any) -> Any:
        self.found.append(_judged(operation, self._made))
        return self._invoke(operation)

    def _executed(self, statement: Any, *_: Any, **__: Any) -> None:
        self._written(str(statement.compile(dialect=self._context.dialect)))

    def _written(self, text: str) -> None:
        self.found.append(_judged_sql(text, self._made))
        self._context.impl.static_output(text)


def _judged(operation: Any, made: _Made) -> Operation:
    match operation:
        case ops.CreateTableOp():
            made.tables.add(operation.table_name)
            return Operation(Step.EXPAND, f"creates {operation.table_name}")
        case ops.AddColumnOp():
            made.columns.add((operation.table_name, operation.column.name))
            column = operation.column
            bare = not column.nullable and column.server_default is None and column.identity is None
            added = f"adds {operation.table_name}.{column.name}"
            if bare and operation.table_name not in made.tables:
                # The released code inserts rows without it.
                return Operation(Step.CONTRACT, f"{added}, not null and without a server default")
            return Operation(Step.EXPAND, added)
        case ops.CreateIndexOp():
            unique = operation.unique and operation.table_name not in made.tables
            return Operation(Step.CONTRACT if unique else Step.EXPAND, f"indexes {operation.table_name}")
        case ops.DropIndexOp() | ops.BulkInsertOp() | ops.CreateTableCommentOp() | ops.DropTableCommentOp():
            return Operation(Step.EXPAND, type(operation).__name__)
        case ops.DropConstraintOp():
            return Operation(Step.EXPAND, f"drops the constraint {operation.constraint_name}")
        case ops.AddConstraintOp():
            table = str(getattr(operation, "table_name", getattr(operation, "source_table", "")))
            text = str(getattr(operation, "condition", getattr(operation, "columns", "")))
            new = made.only_new(table, text)
            return Operation(Step.EXPAND if new else Step.CONTRACT, f"restricts {table}")
        case ops.AlterColumnOp():
            return _judged_alteration(operation)
        case ops.ExecuteSQLOp():
            return _judged_sql(str(operation.sqltext), made)
        case _:  # drops, renames, and what is not known
            return Operation(Step.CONTRACT, re.sub(r"Op$", "", type(operation).__name__))


def _judged_alteration(operation: ops.AlterColumnOp) -> Operation:
    where = f"{operation.table_name}.{operation.column_name}"
    narrows = {
        "renames": operation.modify_name is not None,
        "changes the type of": operation.modify_type is not None,
        "forbids null in": operation.modify_nullable is False,
        "takes the default of": operation.modify_server_default is None,
    }
    if wrong := [words for words, holds in narrows.items() if holds]:
        return Operation(Step.CONTRACT, f"{wrong[0]} {where}")
    return Operation(Step.EXPAND, f"loosens {where}")


_EXPANDS: Final = re.compile(
    r"\s*(CREATE\s+(OR\s+REPLACE\s+)?(TABLE|INDEX|FUNCTION|VIEW|SEQUENCE)\b"
    r"|INSERT\b|UPDATE\b|SELECT\b|SET\b|DROP\s+INDEX\b|ALTER\s+TABLE\s+\S+\s+(RE)?SET\s*\()",
    re.IGNORECASE,
)
_CREATES: Final = re.compile(r"\s*CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?\"?(\w+)", re.IGNORECASE)
_TRIGGER: Final = re.compile(r"\s*CREATE\s+(?:OR\s+REPLACE\s+)?TRIGGER\b.*?\bON\s+(\w+)", re.IGNORECASE | re.DOTALL)


def _judged_sql(text: str, made: _Made) -> Operation:
    words = " ".join(text.split())[:60]
    if created := _CREATES.match(text):
        made.tables.add(created.group(1))
    trigger = _TRIGGER.match(text)
    expands = trigger.group(1) in made.tables if trigger else _EXPANDS.match(text)
    return Operation(Step.EXPAND if expands else Step.CONTRACT, words)


def recorded(location: Path, dialect: str = DIALECTS[0]) -> tuple[Migration, ...]:
    """Every migration of a directory, oldest first, as it would run on a dialect."""
    config = Config()
    config.set_main_option("script_location", str(location.resolve()).replace("%", "%%"))
    scripts = list(ScriptDirectory.from_config(config).walk_revisions())
    return tuple(_record(script, dialect) for script in reversed(scripts))


def _record(script: Script, dialect: str) -> Migration:
    written = _Buffer()
    engine = sa.create_mock_engine(f"{dialect}+psycopg://", lambda *_, **__: None)
    context = MigrationContext.configure(dialect=engine.dialect, opts={"as_sql": True, "output_buffer": written})
    with Operations.context(context) as operations:
        recorder = _Recorder(operations)
        script.module.upgrade()
    return Migration(script.revision, Path(script.path), tuple(recorder.found), written.text)


class _Buffer:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        return


def before_contraction(location: Path, current: str | None) -> str | None:
    """The newest revision that the released code can live with: all up to the first later one that contracts."""
    reached, passed = current, current is None
    for migration in recorded(location):
        if passed and Step.CONTRACT in migration.steps:
            break
        if passed:
            reached = migration.revision
        passed = passed or migration.revision == current
    return reached


def locations(root: Path) -> Sequence[Path]:
    """Every directory of migrations below the project's root."""
    return sorted([*root.glob("svc/*/migrations"), *root.glob("worker/handlers/*/migrations")])


def main() -> int:
    """Print what each migration does; 1 where one of them is wrong."""
    root = Path(__file__).resolve().parents[2]
    migrations = [migration for location in locations(root) for migration in recorded(location)]
    for migration in migrations:
        steps = "+".join(sorted(step.value for step in migration.steps))
        print(f"{steps:<16} {migration.file.relative_to(root)}")
    faults = [fault for migration in migrations for fault in migration.faults()]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
