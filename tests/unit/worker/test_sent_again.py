"""After a restore: which events are sent again, told from real databases; with a whole mesh in test_backup.py."""

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest
from google.protobuf.message import Message

from deploy.supervisor.workspace import temporary
from svc.chassis import migrate
from svc.chassis.config import Secrets
from svc.chassis.database import Database
from tests import postgres_pair
from tests.fakes.worker import delivery, envelope, order_placed, user_created
from tests.postgres_pair import PostgresServer
from weft.events.v1.envelope_pb2 import Envelope
from weft_protos import mesh_parts
from worker import restored, wiring
from worker.amqp import topology
from worker.config import OUTBOXES
from worker.delivery import decode
from worker.handlers.email.deliveries import Deliveries
from worker.handlers.email.handler import EmailHandler

ROOT = Path(__file__).resolve().parents[3]
BACKUP = datetime(2011, 12, 9, tzinfo=UTC)
LATELY = BACKUP - timedelta(minutes=5)


class Restored:
    """The databases of a mesh, migrated and empty."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.secrets = Secrets(secrets=folder)
        self._server = server
        for name in mesh_parts.DATABASES:
            server.execute(f"CREATE DATABASE {name}")
            location = wiring.MIGRATIONS.get(name, ROOT / "svc" / name / "migrations")
            migrate.upgrade(server.url(database=name), str(location))
            secret = folder / f"database-{name}.url"
            secret.write_text(server.url(database=name))
            secret.chmod(0o600)
        self.email = Database(server.url(database="email"), pool_size=2, name="email")

    def execute(self, database: str, statement: str) -> list[tuple[object, ...]]:
        return self._server.execute(statement, database=database)

    def publish(self, payload: Message, *, at: datetime = LATELY, noted: bool = True) -> Envelope:
        """An event that everybody was sent; `noted`: by all but the e-mail worker, five seconds later."""
        event = envelope(payload)
        outbox = "identity" if event.type.startswith("weft.identity.") else "orders"
        key = getattr(payload, "order", "") or getattr(payload, "user", "")
        self.execute(
            outbox,
            "INSERT INTO outbox (id, type, ordering_key, envelope, traceparent, create_time, publish_time) "
            f"VALUES ('{event.id}', '{event.type}', '{key}', '', '', '{at}', '{at}')",
        )
        for consumer, handled in restored.NOTES.items():
            if noted and consumer != "email" and event.type in topology.event_types(consumer):
                self.note(handled.database, consumer, event, at=at + timedelta(seconds=5))
        return event

    def note(self, database: str, consumer: str, event: Envelope, *, at: datetime) -> None:
        self.execute(database, f"INSERT INTO inbox VALUES ('{consumer}', '{event.id}', '{at}')")

    def again(self, moment: datetime = BACKUP) -> set[str]:
        """Ids of the events that are sent again."""
        counts = restored.mark(self.secrets, moment)
        unpublished = {
            outbox: {str(row[0]) for row in self.execute(outbox, "SELECT id FROM outbox WHERE publish_time IS NULL")}
            for outbox in OUTBOXES
        }
        assert {outbox: len(ids) for outbox, ids in unpublished.items()} == counts
        return set().union(*unpublished.values())

    def empty(self) -> None:
        for outbox in OUTBOXES:
            self.execute(outbox, "DELETE FROM outbox")


class Mailer:
    """An SMTP server that can tell what it has taken."""

    def __init__(self, *out: str) -> None:
        self.taken = list(out)

    def send(self, mail: EmailMessage) -> None:
        self.taken.append(mail["Message-ID"])

    def seen(self, message_id: str) -> bool | None:
        return message_id in self.taken


class Cut(BaseException):
    """The backup is of this moment."""


class Dies(Mailer):
    """The server takes no mail any more."""

    def send(self, mail: EmailMessage) -> None:
        raise Cut


@pytest.fixture(scope="module")
def migrated() -> Iterator[Restored]:
    with temporary() as folder, postgres_pair.leader(folder) as server:
        secrets = folder / "secrets"
        secrets.mkdir()
        made = Restored(server, secrets)
        yield made
        made.email.close()


@pytest.fixture
def mesh(migrated: Restored) -> Restored:
    migrated.empty()
    return migrated


def handle(mesh: Restored, mailer: Mailer, *events: Envelope) -> None:
    EmailHandler(Deliveries(mesh.email), mailer).handle([decode(delivery(event)) for event in events])


def state(mesh: Restored, *events: Envelope) -> Mapping[str, str]:
    found = dict(mesh.execute("email", "SELECT message_id, state FROM email_delivery"))
    return {event.id: str(found[uuid.UUID(event.id)]) for event in events}


def test_a_mail_that_was_in_somebody_s_hands_goes_out_after_the_restore_and_one_that_is_out_does_not(
    mesh: Restored,
) -> None:
    sent, reserved, refused, waiting = (
        mesh.publish(order_placed(f"orders/{number}", user=f"users/{'nobody' if number == 3 else 'ada'}"))
        for number in range(4)
    )
    mailer = Mailer()
    handle(mesh, mailer, envelope(user_created()), sent, waiting)
    with pytest.raises(Cut):
        handle(mesh, Dies(), reserved)
    with pytest.raises(Cut):
        handle(mesh, Dies(), refused)
    Deliveries(mesh.email).refuse(refused.id)
    before = {sent.id: "sent", reserved.id: "reserved", refused.id: "refused", waiting.id: "waiting"}
    assert before == state(mesh, sent, reserved, refused, waiting)

    assert {reserved.id, refused.id} == mesh.again()

    handle(mesh, mailer, reserved, refused)
    handle(mesh, mailer, reserved, refused)
    assert {"sent"} == set(state(mesh, sent, reserved, refused).values())
    assert (3, 3) == (len(mailer.taken), len(set(mailer.taken)))


def test_mails_that_had_waited_go_out_with_their_user_s_event(mesh: Restored) -> None:
    created = mesh.publish(user_created("users/bob"))
    other = mesh.publish(user_created("users/cy"))
    kept = mesh.publish(order_placed("orders/kept", user="users/bob"))
    handle(mesh, Mailer(), kept, other)
    with pytest.raises(Cut):
        handle(mesh, Dies(), created)
    assert {kept.id: "reserved"} == state(mesh, kept)

    # The order's own event does not send what has waited: both come, and nothing goes out twice.
    assert {created.id, kept.id} == mesh.again()

    mailer = Mailer()
    handle(mesh, mailer, kept, created)
    assert ({kept.id: "sent"}, 1) == (state(mesh, kept), len(mailer.taken))


def test_of_a_consumer_s_first_batch_what_it_has_not_handled_comes_again(mesh: Restored) -> None:
    """All of a batch is published at one time, which is before its first note."""
    mesh.execute("audit", "DELETE FROM inbox")
    first, second = (mesh.publish(user_created(f"users/{name}"), noted=False) for name in ("dee", "eve"))
    handle(mesh, Mailer(), first, second)
    for event in (first, second):
        mesh.note("analytics", "archive", event, at=LATELY + timedelta(seconds=5))
    mesh.note("audit", "audit", first, at=LATELY + timedelta(seconds=5))

    assert {second.id} == mesh.again()


@pytest.mark.parametrize("later", [timedelta(0), timedelta(days=300)])
def test_what_is_older_than_notes_are_kept_is_left_alone_whenever_the_backup_is_restored(
    mesh: Restored, later: timedelta
) -> None:
    """Whether nobody has a note of it because it was swept, or because nobody ever had, cannot be told."""
    moment = BACKUP + later
    swept = mesh.publish(user_created("users/fay"), at=moment - restored.KEPT - timedelta(seconds=1), noted=False)
    missed = mesh.publish(user_created("users/gus"), at=moment - restored.KEPT + timedelta(seconds=1), noted=False)
    # Sent once more long after it was handled; its notes are gone.
    mesh.execute("identity", f"UPDATE outbox SET publish_time = '{moment}' WHERE id = '{swept.id}'")

    assert {missed.id} == mesh.again(moment)
