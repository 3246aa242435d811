"""Work in a transaction that acts where a rollback does not reach is found by the first test that walks its path."""

from collections.abc import Callable
from email.message import EmailMessage

import grpc
import pytest

from svc.chassis import purity
from svc.chassis.cache.store import Cache
from svc.chassis.client import Peer
from svc.chassis.config import Address
from svc.chassis.context import CallContext, Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import AppError
from tests.fakes.postgres_wire import FakePostgres
from tests.unit.svc.chassis_data.kept import CODEC, METHOD, call, said
from weft.orders.v1 import inventory_pb2
from worker.amqp.publisher import Publisher
from worker.handlers.email.smtp import Smtp

STOCK = inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"]


def a_call() -> None:
    call = CallContext("/x", None, Deadline.after(1), b"", lambda: True)
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        Peer(channel, STOCK).call("GetStock", inventory_pb2.GetStockRequest(), call=call)


def a_look_into_the_cache() -> None:
    cache = Cache([("127.0.0.1", 1)], key=bytes(32))
    cache.open(said(), CODEC).get_or_load(call(), lambda: "mug")


def forgetting_in_the_cache() -> None:
    Cache([("127.0.0.1", 1)], key=bytes(32)).forget([METHOD], ["mug"])


def publishing() -> None:
    Publisher("amqp://127.0.0.1:1/", name="relay-1").publish([], timeout_s=0.1)


def a_mail() -> None:
    Smtp(Address("127.0.0.1", 1), timeout_s=0.1).send(EmailMessage())


@pytest.mark.parametrize("act", [a_call, a_look_into_the_cache, forgetting_in_the_cache, publishing, a_mail])
def test_work_does_nothing_besides_its_transaction(act: Callable[[], None]) -> None:
    with FakePostgres() as server:
        database = Database(server.url, pool_size=1, name="test")
        for run in (database.serializable, database.read):
            with pytest.raises(purity.ImpureError, match="inside a transaction"):
                run(lambda tx: act(), deadline=Deadline.after(5))

        assert not any("COMMIT" in message for message in server.messages)
        database.close()


def test_work_begins_no_other_transaction() -> None:
    with FakePostgres() as server:
        database = Database(server.url, pool_size=2, name="test")

        def nested(tx: Transaction) -> None:
            database.read(lambda _: None, deadline=Deadline.after(5))

        with pytest.raises(purity.ImpureError, match="a transaction inside a transaction"):
            database.serializable(nested, deadline=Deadline.after(5))
        database.close()


def test_a_relay_publishes_under_its_row_locks_and_everybody_else_outside_of_work() -> None:
    with FakePostgres() as server:
        database = Database(server.url, pool_size=1, name="test")
        database.read_committed(lambda tx: publishing(), deadline=Deadline.after(5))
        database.serializable(lambda tx: None, deadline=Deadline.after(5))
        database.close()

    publishing()
    with pytest.raises(AppError):
        a_call()
