"""Backup and restore against real database servers, without the rest of the mesh; and with all of it, at the end."""

import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from deploy.backup import ORDER, bundle, postgres, restoring, taking
from deploy.backup.bundle import BackupError
from deploy.cli.replay import books
from deploy.supervisor.config import Settings, child_environ
from deploy.supervisor.errors import ConfigError, RefusedError
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.workspace import temporary
from worker.config import OUTBOXES

MIGRATED = tuple(f"migrate-{name}" for name in ORDER)
SOME_TIME = datetime.now(UTC) - timedelta(hours=1)
PLACED, CREATED = "weft.orders.v1.OrderPlaced", "weft.identity.v1.UserCreated"


def untold(_name: str, _seconds: float, _size: int) -> None:
    return


@contextmanager
def databases(folder: Path) -> Iterator[postgres.Server]:
    """A server with every database, migrated, in a mesh that has nothing else."""
    with Mesh(folder, ports="free", only=MIGRATED, ephemeral=True) as mesh:
        mesh.start()
        yield taking.server_of(mesh.status(), mesh.secrets)


@pytest.fixture(scope="module")
def used() -> Iterator[tuple[Path, postgres.Server, Mapping[str, uuid.UUID]]]:
    """A mesh's databases after some use, with events in every state."""
    with temporary() as folder, databases(folder) as server:
        yield folder, server, use(server)


def use(server: postgres.Server) -> Mapping[str, uuid.UUID]:
    """Events: handled by all, published and not handled by everybody, not published, and handled long ago."""
    events = {name: uuid.uuid4() for name in ("handled", "underway", "reserved", "waiting", "swept")}
    with server.connect("orders") as session:
        session.execute("INSERT INTO stock VALUES ('mug', 7, now())")
        session.execute("INSERT INTO stock_movement VALUES (%s, 'mug', 7, %s, now())", (uuid.uuid4(), uuid.uuid4()))
        for name, event in events.items():
            happened = SOME_TIME - timedelta(days=90 if name == "swept" else 0)
            session.execute(
                "INSERT INTO outbox (id, type, ordering_key, envelope, traceparent, create_time, publish_time) "
                "VALUES (%s, %s, 'k', %s, '', %s, %s)",
                (event, PLACED, b"\0\xff" * 9, happened, None if name == "waiting" else happened),
            )
    most = ("handled", "reserved")
    notes = {"audit": (*most, "underway"), "analytics": most, "archive": most}
    for consumer, handled in notes.items():
        with server.connect("audit" if consumer == "audit" else "analytics") as session:
            for name in handled:
                session.execute("INSERT INTO inbox VALUES (%s, %s, %s)", (consumer, events[name], SOME_TIME))
    with server.connect("email") as session:
        for name, state in {"handled": "sent", "underway": "sent", "reserved": "reserved"}.items():
            session.execute(
                "INSERT INTO email_delivery (message_id, kind, user_name, recipient, state, occur_time, create_time, "
                "sent_time) VALUES (%s, 'order-placed', 'users/u', 'u@weft.example', %s, %s, %s, %s)",
                (events[name], state, SOME_TIME, SOME_TIME, SOME_TIME if state == "sent" else None),
            )
    return events


def backup_of(folder: Path, target: Path, *, keys: bool = True) -> bundle.Manifest:
    status = Mesh(folder).status()
    return taking.take(target, status, Layout(folder), keys=keys, tell=untold)


def rows(server: postgres.Server, database: str, table: str) -> list[tuple[object, ...]]:
    with server.connect(database) as session:
        return sorted(session.execute(f"SELECT * FROM {table}".encode()).fetchall(), key=repr)


def test_what_was_backed_up_is_there_after_a_restore_into_an_empty_mesh(
    used: tuple[Path, postgres.Server, Mapping[str, uuid.UUID]], tmp_path: Path
) -> None:
    folder, server, events = used
    name = "monday.tar"
    manifest = backup_of(folder, tmp_path / name)
    stock, columns = rows(server, "orders", "stock"), rows(server, "orders", "stock_movement")

    with temporary() as empty, bundle.reading(tmp_path / name) as (whole, read):
        assert manifest == read
        settings = Settings(data=empty, autoscale=False)
        again = restoring.restore(whole, read, settings, force=False, tell=untold)
        assert {**dict.fromkeys(OUTBOXES, 0), "orders": 2} == again
        assert (folder / "secrets/seal.key").read_text() == (empty / "secrets/seal.key").read_text()
        with Mesh(empty, ports="free", only=("databases",)) as mesh:
            mesh.start()
            restored = taking.server_of(mesh.status(), mesh.secrets)
            assert stock == rows(restored, "orders", "stock")
            assert columns == rows(restored, "orders", "stock_movement")
            with restored.connect("orders") as session:
                unpublished = {row[0] for row in session.execute("SELECT id FROM outbox WHERE publish_time IS NULL")}
                owner = session.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'outbox'").fetchone()
            # What analytics missed goes again, the mail that was in somebody's hands, and what never went; what was
            # handled so long ago that nobody has a note of it any more does not.
            assert {events["underway"], events["reserved"], events["waiting"]} == unpublished
            assert ("orders",) == owner
            assert "orders" == postgres.in_use(restored)
            with restored.connect("audit") as session, pytest.raises(psycopg.Error, match="append"):
                session.execute("DELETE FROM audit_log")

        with pytest.raises(RefusedError, match=r"orders database .* is in use.*--force"):
            restoring.restore(whole, read, settings, force=False, tell=untold)
        assert 2 == restoring.restore(whole, read, settings, force=True, tell=untold)["orders"]


def test_a_backup_says_what_is_wrong_with_it(
    used: tuple[Path, postgres.Server, Mapping[str, uuid.UUID]], tmp_path: Path
) -> None:
    folder, _, _ = used
    target = tmp_path / "backup"
    manifest = backup_of(folder, target, keys=False)

    assert not (target / "keys").exists()
    assert {0o600} == {path.stat().st_mode & 0o777 for path in target.rglob("*") if path.is_file()}
    assert 0o700 == target.stat().st_mode & 0o777
    with pytest.raises(ConfigError, match="exists already"):
        backup_of(folder, target)
    with pytest.raises(RefusedError, match="revision 9999, which this release does not know"):
        restoring.known(replace(manifest, databases={**manifest.databases, "orders": bundle.Dump("9999", "")}))
    # What a backup does not have is of a service that came after it.
    restoring.known(replace(manifest, databases={"orders": manifest.databases["orders"]}))
    dump = target / "databases/orders.dump"
    whole = dump.read_bytes()
    dump.write_bytes(whole[:-1] + bytes((whole[-1] ^ 1,)))
    with pytest.raises(BackupError, match=r"orders\.dump is damaged"), bundle.reading(target):
        pass
    dump.unlink()
    with pytest.raises(BackupError, match=r"orders\.dump is missing"), bundle.reading(target):
        pass


def test_no_password_is_in_an_argument_or_the_environment_of_the_dump(
    used: tuple[Path, postgres.Server, Mapping[str, uuid.UUID]], tmp_path: Path
) -> None:
    _, server, _ = used
    seen = tmp_path / "seen"
    wrapper = tmp_path / "bin" / "15" / "bin" / "pg_dump"
    wrapper.parent.mkdir(parents=True)
    wrapper.write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} > {seen}\nexec {postgres.binary("pg_dump")} "$@"\n')
    wrapper.chmod(0o755)

    with pytest.MonkeyPatch.context() as patch, postgres.snapshots(server, ("orders",)) as snapshots:
        patch.setattr(postgres, "binary", lambda _: wrapper)
        postgres.dump(server, "orders", snapshots["orders"].name, tmp_path / "orders.dump")

    assert "--snapshot=" in seen.read_text()
    assert server.password not in seen.read_text()


@pytest.mark.timeout(1200)
@pytest.mark.long(short="test_what_was_backed_up_is_there_after_a_restore_into_an_empty_mesh")
def test_a_backup_under_load_restores_to_an_even_balance(mesh: Mesh, tmp_path: Path) -> None:
    environment = {**child_environ(), "WEFT_DATA": str(mesh.secrets.parent)}
    weft = str(Path(sys.executable).parent / "weft")
    demo = [weft, "demo", "--invoices", "60", "--seed", "61", "--json"]
    target = tmp_path / "backup"

    with subprocess.Popen(demo, env=environment, stdout=subprocess.PIPE, text=True) as load:
        made = [weft, "backup", str(target)]
        done = subprocess.run(made, env=environment, capture_output=True, text=True, check=False)
        assert (0, "") == (done.returncode, done.stderr)
        load.communicate()

    with temporary() as folder:
        with bundle.reading(target) as (whole, manifest):
            restoring.restore(whole, manifest, Settings(data=folder), force=False, tell=untold)
        with Mesh(folder, ports="free", ephemeral=True) as restored:
            status = restored.start()
            told = {**child_environ(), "WEFT_SECRETS": str(restored.secrets)}
            rows_of_books = books.settle(told, str(status.urls["mail"]).rstrip("/"), on_wait=lambda _: None)

    assert [] == [(row.name, row.left, row.right) for row in rows_of_books if not row.even]
