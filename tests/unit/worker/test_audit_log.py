"""The seal of a record."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from svc.chassis.context import Deadline
from svc.chassis.database import Transaction
from tests.fakes.worker import event, order_placed, user_created
from weft.events.v1.envelope_pb2 import Envelope
from weft.identity.v1.events_pb2 import UserCreated
from weft_protos.redaction import MARK
from worker.delivery import Event
from worker.handlers.audit.handler import AuditHandler
from worker.handlers.audit.log import GENESIS, fit_to_keep, record_hash

RECORD = replace(event(order_placed(), event_id="7f0c0c52-3f35-4f6b-9d0a-111111111111"), subject="ada", actor="op")
SEAL = record_hash(GENESIS, 1, RECORD)


def test_the_same_record_has_the_same_seal() -> None:
    assert SEAL == record_hash(GENESIS, 1, replace(RECORD))
    assert 32 == len(SEAL)


@pytest.mark.parametrize(
    "changed",
    [
        replace(RECORD, id="7f0c0c52-3f35-4f6b-9d0a-111111111112"),
        replace(RECORD, type="weft.orders.v1.OrderCancelled"),
        replace(RECORD, source="catalog"),
        replace(RECORD, subject="eve"),
        replace(RECORD, actor=""),
        replace(RECORD, subject="adao", actor="p"),
        replace(RECORD, occur_time=RECORD.occur_time + timedelta(microseconds=1)),
        replace(RECORD, envelope=RECORD.envelope + b"\0"),
    ],
    ids=lambda record: record.subject + record.actor + record.type[-6:],
)
def test_no_column_can_change_without_the_seal(changed: Event) -> None:
    assert SEAL != record_hash(GENESIS, 1, changed)


def test_the_seal_holds_the_place_in_the_chain() -> None:
    assert len({SEAL, record_hash(GENESIS, 2, RECORD), record_hash(SEAL, 1, RECORD)}) == 3


class AskedDatabase:
    """Keeps what its transactions are to wait for."""

    def __init__(self) -> None:
        self.hot_keys: list[Sequence[str]] = []

    def serializable(self, work: Callable[[Transaction], None], *, deadline: Deadline, hot_keys: Sequence[str]) -> None:
        self.hot_keys.append(hot_keys)


def test_workers_wait_for_the_head_before_they_look_at_it() -> None:
    database = AskedDatabase()

    AuditHandler(database).handle([RECORD])

    assert [["audit_head"]] == database.hot_keys


def test_a_record_keeps_the_event_without_what_is_sensitive_and_is_sealed_as_it_is_kept() -> None:
    created = event(user_created(name="Ada Lovelace", email="ada@example.org"))

    kept = fit_to_keep(created)

    payload = UserCreated()
    assert Envelope.FromString(kept.envelope).payload.Unpack(payload)
    assert UserCreated(user=created.payload.user, email=MARK, display_name=MARK) == payload
    assert [] == [secret for secret in (b"Lovelace", b"ada@example") if secret in kept.envelope]
    assert (created.id, created.type, created.occur_time) == (kept.id, kept.type, kept.occur_time)
    assert record_hash(GENESIS, 1, kept) != record_hash(GENESIS, 1, created)


def test_an_event_with_nothing_to_hide_is_kept_byte_for_byte() -> None:
    assert RECORD == fit_to_keep(RECORD)
