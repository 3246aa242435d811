"""Which migrations may run beside the code that was released before them."""

from pathlib import Path

import pytest
from sqlalchemy_cockroachdb.base import CockroachDBDialect

from svc.chassis import migration_steps
from svc.chassis.migration_steps import DIALECTS, Migration, Step, before_contraction, recorded

ROOT = Path(__file__).resolve().parents[4]
LOCATIONS = migration_steps.locations(ROOT)
TABLE = 'op.create_table("users", sa.Column("id", sa.Text, primary_key=True))'


def written(folder: Path, *bodies: str, names: tuple[str, ...] = ()) -> Path:
    """A directory of migrations, one for each body, the first one's file being `0001_x.py`."""
    (folder / "versions").mkdir()
    (folder / "env.py").touch()
    for number, body in enumerate(bodies, 1):
        name = names[number - 1] if names else f"{number:04}_x.py"
        before = f'"{number - 1:04}"' if number > 1 else "None"
        (folder / "versions" / name).write_text(
            f'import sqlalchemy as sa\nfrom alembic import op\nrevision = "{number:04}"\ndown_revision = {before}\n'
            f"def upgrade():\n    {body}\n"
        )
    return folder


def judged(folder: Path, body: str) -> Migration:
    return recorded(written(folder, TABLE, body))[-1]


@pytest.mark.parametrize(
    "body",
    [
        'op.create_table("t", sa.Column("id", sa.Text, nullable=False), sa.CheckConstraint("id > 1"))',
        'op.add_column("users", sa.Column("nick", sa.Text))',
        'op.add_column("users", sa.Column("state", sa.Text, nullable=False, server_default="active"))',
        'op.create_index("users_by_nick", "users", ["nick"])',
        'op.create_index("users_by_nick", "users", ["nick"], postgresql_concurrently=True)',
        'op.alter_column("users", "nick", nullable=True)',
        'op.drop_constraint("users_state_known", "users", type_="check")',
        'op.execute("UPDATE users SET nick = id")',
        'op.execute("ALTER TABLE users SET (fillfactor = 50)")',
        'op.get_bind().exec_driver_sql("CREATE INDEX i ON users (nick)")',
        'op.add_column("users", sa.Column("n", sa.Text)); op.create_check_constraint("c", "users", "n <> id")',
        'op.create_table("t", sa.Column("id", sa.Text)); op.create_index("i", "t", ["id"], unique=True)',
    ],
)
def test_what_released_code_does_not_notice_expands(tmp_path: Path, body: str) -> None:
    found = judged(tmp_path, body)

    assert {Step.EXPAND} == found.steps
    assert () == found.faults()


@pytest.mark.parametrize(
    "body",
    [
        'op.drop_table("users")',
        'op.drop_column("users", "nick")',
        'op.rename_table("users", "people")',
        'op.alter_column("users", "nick", new_column_name="alias")',
        'op.alter_column("users", "nick", nullable=False)',
        'op.alter_column("users", "nick", type_=sa.BigInteger)',
        'op.alter_column("users", "nick", server_default=None)',
        'op.add_column("users", sa.Column("state", sa.Text, nullable=False))',
        'op.create_index("users_one_nick", "users", ["nick"], unique=True)',
        'op.create_check_constraint("c", "users", "length(id) < 9")',
        'op.create_unique_constraint("u", "users", ["nick"])',
        'op.create_foreign_key("f", "users", "people", ["id"], ["id"])',
        'op.execute("ALTER TABLE users ALTER COLUMN nick SET NOT NULL")',
        'op.execute("DROP TABLE users")',
        'op.execute("CREATE TRIGGER t BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION refuse()")',
    ],
)
def test_what_breaks_released_code_contracts_and_says_so_in_its_name(tmp_path: Path, body: str) -> None:
    found = judged(tmp_path, body)

    assert {Step.CONTRACT} == found.steps
    assert "name it 0002_post_x.py" in found.faults()[0]


def test_a_migration_that_does_both_is_refused(tmp_path: Path) -> None:
    found = judged(tmp_path, 'op.add_column("users", sa.Column("a", sa.Text)); op.drop_column("users", "b")')

    assert "expands the schema and contracts it (DropColumn); make two of it" in found.faults()[0]


def test_a_name_that_promises_a_contraction_is_held_to_it(tmp_path: Path) -> None:
    names = ("0001_users.py", "0002_post_nick.py")
    expanding = recorded(written(tmp_path, TABLE, 'op.add_column("users", sa.Column("a", sa.Text))', names=names))

    assert "and it does not" in expanding[-1].faults()[0]
    assert () == expanding[0].faults()


def test_expanding_stops_before_the_first_contraction_that_is_still_ahead(tmp_path: Path) -> None:
    add, drop = 'op.add_column("users", sa.Column("a", sa.Text))', 'op.drop_column("users", "b")'
    folder = written(tmp_path, TABLE, add, drop, add, drop)

    assert "0002" == before_contraction(folder, None)
    assert "0002" == before_contraction(folder, "0001")
    assert "0002" == before_contraction(folder, "0002")
    assert "0004" == before_contraction(folder, "0003")
    assert "0005" == before_contraction(folder, "0005")


def test_every_migration_of_the_project_expands_or_contracts() -> None:
    migrations = [migration for location in LOCATIONS for migration in recorded(location)]

    assert 6 <= len(LOCATIONS)
    assert [] == [fault for migration in migrations for fault in migration.faults()]
    assert all(migration.steps for migration in migrations)


@pytest.mark.parametrize("location", LOCATIONS, ids=lambda path: path.parent.name)
def test_every_migration_compiles_for_both_databases(location: Path) -> None:
    postgres, cockroach = (recorded(location, dialect) for dialect in DIALECTS)

    assert CockroachDBDialect.name == DIALECTS[1]
    assert [one.revision for one in postgres] == [one.revision for one in cockroach]
    for one, other in zip(postgres, cockroach, strict=True):
        assert one.sql.count("CREATE TABLE") == other.sql.count("CREATE TABLE")
        # What CockroachDB does not know.
        assert not any(word in other.sql for word in ("fillfactor", "TRIGGER", "plpgsql", "advisory"))
