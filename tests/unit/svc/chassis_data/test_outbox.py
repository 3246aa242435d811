import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy
from sqlalchemy.dialects.postgresql.psycopg import dialect as postgresql
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy_cockroachdb.psycopg import dialect as cockroachdb

from svc.chassis import tables
from svc.chassis.context import CallContext, Deadline, Principal
from svc.chassis.migrate import upgrade
from svc.chassis.outbox import event
from weft.events.v1.envelope_pb2 import Envelope
from weft.orders.v1.events_pb2 import EventItem, OrderPlaced, StockDepleted

NOW = datetime(2026, 11, 22, 12, 30, 0, 5000, tzinfo=UTC)


class Noon:
    def now(self) -> datetime:
        return NOW


def call_of(actor: str | None = None) -> CallContext:
    principal = Principal(subject="ann", scopes=frozenset(), session="s", actor=actor, token="t")
    return CallContext("/m", principal, Deadline.after(1), b"", lambda: True)


def test_an_event_is_wrapped_with_who_when_and_its_ordering_key() -> None:
    placed = OrderPlaced(order="orders/1", user="users/ann")

    row = event(placed, source="orders", call=call_of("operator"), clock=Noon())

    envelope = Envelope.FromString(row.envelope)
    read = OrderPlaced()
    assert envelope.payload.Unpack(read)
    assert placed == read
    assert ("weft.orders.v1.OrderPlaced", "orders", "orders/1") == (row.type, envelope.source, row.key)
    assert (row.id, row.type, row.key) == (envelope.id, envelope.type, envelope.ordering_key)
    assert ("ann", "operator", NOW) == (envelope.subject, envelope.actor, envelope.occur_time.ToDatetime(UTC))
    assert 4 == uuid.UUID(row.id).version


def test_an_event_without_a_caller_names_nobody() -> None:
    envelope = Envelope.FromString(event(StockDepleted(product_id="22423"), source="orders", call=None).envelope)

    assert ("", "") == (envelope.subject, envelope.actor)


def test_an_event_goes_by_the_lane_of_the_call_that_caused_it() -> None:
    call = replace(call_of(), lane="canary")
    rows = [event(StockDepleted(product_id="22423"), source="orders", call=each) for each in (call, call_of(), None)]

    assert ["canary", "", ""] == [Envelope.FromString(row.envelope).lane for row in rows]


def test_two_events_are_never_the_same() -> None:
    payload = StockDepleted(product_id="22423")

    assert event(payload, source="orders", call=None).id != event(payload, source="orders", call=None).id


def test_a_message_that_is_no_event_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weft\.orders\.v1\.EventItem is not declared an event"):
        event(EventItem(product_id="1"), source="orders", call=None)


def test_an_event_that_nothing_could_order_is_refused() -> None:
    with pytest.raises(ValueError, match=r"OrderPlaced\.order orders events and is empty"):
        event(OrderPlaced(), source="orders", call=None)


def statements(dialect: sqlalchemy.Dialect) -> Iterator[str]:
    for table in tables.METADATA.sorted_tables:
        yield str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            yield str(CreateIndex(index).compile(dialect=dialect))


def test_both_databases_get_the_same_tables() -> None:
    assert list(statements(postgresql())) == list(statements(cockroachdb()))  # type: ignore[no-untyped-call]


def test_no_table_has_a_foreign_key() -> None:
    assert not any(table.foreign_keys for table in tables.METADATA.sorted_tables)


def test_a_directory_without_migrations_is_refused_before_anything_is_opened(tmp_path: pytest.TempPathFactory) -> None:
    with pytest.raises(ValueError, match="holds no migrations"):
        upgrade("postgresql+psycopg://nobody@127.0.0.1:1/none", str(tmp_path))


def test_a_database_of_another_kind_is_refused() -> None:
    from svc.chassis.bounded import parse_url

    with pytest.raises(ValueError, match="no database of 'mysql'"):
        parse_url("mysql://root@localhost/x")
