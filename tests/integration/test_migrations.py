"""Code that was released before a migration works on the schema after it, on a real server."""

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from svc.chassis import migrate
from tests.unit.svc.chassis.test_migration_steps import written

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
USER = "id, email, display_name, scopes, create_time, update_time"
SESSION = "id, user_id, actor, requested_scopes, create_time, expire_time, revoke_time"
ORDER = "id, user_id, currency, total_minor, state, revision, create_time, update_time"
VALUES: Mapping[str, object] = {
    "id": "u",
    "email": "u@weft.example",
    "display_name": "U",
    "scopes": ["catalog.read"],
    "create_time": NOW,
    "update_time": NOW,
    "email_key": "u@weft.example",
    "password_hash": "h",
    "after": "",
    "limit": 5,
    "user_id": "u",
    "actor": "",
    "requested_scopes": [],
    "expire_time": NOW,
    "revoke_time": None,
    "now": NOW,
    "digest": b"d",
    "session_id": "u",
    "use_time": NOW,
    "ids": ["u"],
    "kids": ["k"],
    "kid": "k",
    "sealed": b"s",
    "public_jwk": json.dumps({}),
    "activate_time": NOW,
    "order_id": uuid.UUID(int=1),
}

#: By database: a directory of migrations, and what the code sent that knew only its first one. Whoever adds a
#: migration that expands adds the statements of the code before it.
RELEASED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "identity": (
        "svc/identity/migrations",
        (
            f"INSERT INTO users ({USER}, email_key, password_hash) VALUES (:id, :email, :display_name, :scopes, "
            ":create_time, :update_time, :email_key, :password_hash) ON CONFLICT DO NOTHING RETURNING id",
            f"SELECT {USER} FROM users WHERE id = :id",
            f"SELECT {USER}, password_hash FROM users WHERE email_key = :email_key",
            f"SELECT {USER} FROM users WHERE id > :after ORDER BY id LIMIT :limit",
            "UPDATE users SET display_name = :display_name, scopes = :scopes, update_time = :update_time "
            "WHERE id = :id",
            "UPDATE users SET email = :email, email_key = :email_key, display_name = :display_name, scopes = :scopes, "
            "update_time = :update_time, password_hash = :password_hash WHERE id = :id",
            f"INSERT INTO sessions ({SESSION}) VALUES (:id, :user_id, :actor, :requested_scopes, :create_time, "
            ":expire_time, :revoke_time)",
            f"SELECT {SESSION} FROM sessions WHERE id = :id",
            "INSERT INTO refresh_tokens (digest, session_id, use_time) VALUES (:digest, :session_id, :use_time)",
            "SELECT digest, session_id, use_time FROM refresh_tokens WHERE digest = :digest",
            "UPDATE refresh_tokens SET use_time = :use_time WHERE digest = :digest",
            "UPDATE sessions SET revoke_time = :now WHERE id = :id",
            "SELECT id FROM sessions WHERE expire_time <= :now ORDER BY expire_time LIMIT :limit",
            "INSERT INTO signing_keys (kid, sealed, public_jwk, activate_time) VALUES (:kid, :sealed, :public_jwk, "
            ":activate_time)",
            "SELECT kid, sealed, public_jwk, activate_time FROM signing_keys",
            "DELETE FROM refresh_tokens WHERE session_id = ANY(:ids)",
            "DELETE FROM sessions WHERE id = ANY(:ids)",
            "DELETE FROM signing_keys WHERE kid = ANY(:kids)",
        ),
    ),
    "orders": (
        "svc/orders/migrations",
        (
            f"INSERT INTO orders ({ORDER}) VALUES (:order_id, :user_id, 'EUR', 100, 'placed', 1, :create_time, "
            ":update_time)",
            f"SELECT {ORDER} FROM orders WHERE id = :order_id",
            "UPDATE orders SET total_minor = 0, state = 'cancelled', revision = 2, update_time = :now "
            "WHERE id = :order_id AND revision = 1",
        ),
    ),
}


@pytest.mark.parametrize("database", RELEASED)
def test_released_code_runs_on_the_expanded_schema(
    postgres_url: Callable[[str], str], clone: Path, database: str
) -> None:
    location, statements = RELEASED[database]
    url = postgres_url(database)
    migrate.upgrade(url, str(clone / location), contract=False)
    engine = sqlalchemy.create_engine(url)

    with engine.begin() as connection:
        touched = [
            connection.execute(statement, {name: VALUES[name] for name in statement.compile().params}).rowcount
            for statement in map(sqlalchemy.text, statements)
        ]

    # Each finds, or changes, the one row there is.
    assert [1] * len(statements) == touched
    engine.dispose()


def test_a_contraction_waits_until_it_is_asked_for(postgres_url: Callable[[str], str], tmp_path: Path) -> None:
    url = postgres_url("steps")
    location = written(
        tmp_path,
        'op.create_table("t", sa.Column("id", sa.Text, primary_key=True), sa.Column("old", sa.Text))',
        'op.add_column("t", sa.Column("new", sa.Text))',
        'op.drop_column("t", "old")',
        names=("0001_t.py", "0002_pre_new.py", "0003_post_old.py"),
    )
    (location / "env.py").write_text("from svc.chassis.alembic_env import run\n\nrun()\n")

    def columns() -> set[str]:
        with psycopg.connect(url.replace("+psycopg", "")) as session:
            found = session.execute("SELECT column_name FROM information_schema.columns WHERE table_name = 't'")
            return {row[0] for row in found}

    for _ in range(2):
        migrate.upgrade(url, str(location), contract=False)
        assert {"id", "old", "new"} == columns()
    migrate.upgrade(url, str(location))
    assert {"id", "new"} == columns()
