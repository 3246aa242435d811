"""What events make outdated is forgotten before the broker has them."""

from collections.abc import Sequence

import pytest

from weft.events.v1.envelope_pb2 import Envelope
from weft_protos import caching
from worker.delivery import Outgoing
from worker.errors import Outage
from worker.forgetting import Forgetting

CHANGED = "weft.catalog.v1.ProductChanged"
GET = "weft.catalog.v1.CatalogService.GetProduct"
Told = tuple[str, tuple[str, ...], tuple[str, ...]]


class Both:
    """Broker and cache in one, so that the order between them is seen."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.told: list[Told | str] = []

    def ready(self, timeout_s: float) -> bool:
        return not self.away

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> list[bool]:
        self.told.append("published")
        if self.away:
            raise Outage("away")
        return [True] * len(messages)

    def forget(self, methods: Sequence[str], keys: Sequence[str], *, everywhere: bool = False) -> bool:
        self.told.append(("everywhere" if everywhere else "at one", tuple(methods), tuple(keys)))
        return False


def message(kind: str, key: str = "", *, body: bytes | None = None) -> Outgoing:
    envelope = Envelope(type=kind, ordering_key=key).SerializeToString()
    return Outgoing(exchange="", routing_key="", body=envelope if body is None else body, message_id="1", type=kind)


def send(both: Both, *messages: Outgoing) -> list[bool]:
    return Forgetting(both, both, outdated_by=caching.outdated_by()).publish(messages, timeout_s=1)


def test_what_a_batch_makes_outdated_is_forgotten_at_every_node_before_it_is_published() -> None:
    both = Both()

    taken = send(both, message(CHANGED, "products/a"), message("weft.x.v1.Other", "x"), message(CHANGED, "products/b"))

    assert [True] * 3 == taken
    assert [("everywhere", (GET,), ("products/a", "products/b")), "published"] == both.told


def test_where_nothing_is_outdated_the_cache_is_not_asked() -> None:
    both = Both()

    send(both, message("weft.x.v1.Other", "x"))

    assert ["published"] == both.told


def test_an_event_that_nobody_can_read_goes_out_all_the_same() -> None:
    both = Both()

    assert [True] == send(both, message(CHANGED, body=b"\xff"))
    assert ["published"] == both.told


def test_a_broker_that_is_away_is_said_to_be_and_what_is_outdated_is_forgotten() -> None:
    both = Both(away=True)

    assert not Forgetting(both, both, outdated_by=caching.outdated_by()).ready(0)
    with pytest.raises(Outage):
        send(both, message(CHANGED, "products/a"))
    assert [("everywhere", (GET,), ("products/a",)), "published"] == both.told
