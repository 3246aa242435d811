"""Read tokens on the wire: an answer to a write carries one, a later call brings it, a forged one is refused."""

import math
from collections.abc import Iterator
from datetime import timedelta

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from svc.chassis.client import Peer
from svc.chassis.consistency import SKEW_S, Consistency, Level, Mark, ReadTokens, Session
from svc.chassis.context import CallContext, Deadline, Principal
from svc.chassis.errors import InvalidArgument
from tests.unit.svc.chassis.instance import GET_STOCK, INVENTORY, Failure, Instance, StandingClock
from weft.catalog.v1 import catalog_pb2
from weft.orders.v1 import inventory_pb2
from weft_protos import policy, read_token

KEY = bytes(32)
STOCK = inventory_pb2.Stock(name="stock/a", quantity=7)


@pytest.fixture
def served() -> Iterator[Instance]:
    running = Instance(tokens=ReadTokens(KEY))
    yield running
    running.close()


def write(_request: Message, call: CallContext) -> Message:
    call.session.wrote("orders", 0x16B374D848)
    return STOCK


def token_of(instance: Instance, metadata: tuple[tuple[str, str], ...] = ()) -> str:
    send = read_token.remembering(instance.channel).unary_unary(GET_STOCK)
    _, call = send.with_call(
        inventory_pb2.GetStockRequest(name="stock/a").SerializeToString(),
        timeout=5,
        metadata=(("authorization", f"Bearer {instance.issuer.token()}"), *metadata),
    )
    return dict(call.initial_metadata()).get(read_token.HEADER, "")


def test_what_a_call_has_written_a_later_one_has_to_see(served: Instance) -> None:
    served.behaviour.do = write
    token = token_of(served)
    served.behaviour.do = lambda _request, _call: STOCK

    again = token_of(served, ((read_token.HEADER, token),))

    assert "" == again
    assert ["", token] == [call.session.token for call in served.behaviour.calls]
    assert 0x16B374D848 == served.behaviour.calls[1].session.least("orders")
    assert 0 == served.behaviour.calls[1].session.least("catalog")


def test_a_client_that_remembers_sends_the_newest(served: Instance) -> None:
    served.behaviour.do = write
    send = read_token.remembering(served.channel).unary_unary(GET_STOCK)
    request = inventory_pb2.GetStockRequest(name="stock/a").SerializeToString()
    for _ in range(2):
        send(request, timeout=5, metadata=(("authorization", f"Bearer {served.issuer.token()}"),))

    first, second = (call.session.token for call in served.behaviour.calls)
    assert "" == first
    assert 0x16B374D848 == ReadTokens(KEY).decode(second)["orders"].position


@pytest.mark.parametrize("token", ["x", "a" * 2000, "AAAA", ReadTokens(b"1" * 32).encode({"orders": Mark(1, 1)})])
def test_what_is_no_token_of_ours_is_refused(served: Instance, token: str) -> None:
    with pytest.raises(Failure) as refused:
        served.get_stock(metadata=((read_token.HEADER, token),))

    assert ("INVALID_ARGUMENT", "READ_TOKEN_INVALID") == (refused.value.code, refused.value.reason)
    assert read_token.HEADER in refused.value.fields


@given(st.text())
def test_no_text_is_taken_for_a_token(text: str) -> None:
    if text:
        with pytest.raises(InvalidArgument):
            ReadTokens(KEY).decode(text)


def test_a_peer_is_sent_what_the_caller_has_to_see(served: Instance) -> None:
    token = ReadTokens(KEY).encode({"orders": Mark(5, 1)})
    principal = Principal("alice", frozenset(), "s", None, served.issuer.token())
    call = CallContext("/x", principal, Deadline.after(5), b"", lambda: True, session=Session(token=token))

    Peer(served.channel, INVENTORY).call("GetStock", inventory_pb2.GetStockRequest(name="stock/a"), call=call)

    assert token == served.behaviour.calls[0].session.token


marks = st.dictionaries(
    st.sampled_from(["orders", "catalog", "identity", "analytics"]),
    st.builds(Mark, st.integers(0, 2**96 - 1), st.integers(0, 2**40)),
    max_size=4,
)


@given(marks.filter(bool))
def test_a_token_is_read_as_it_was_made(said: dict[str, Mark]) -> None:
    assert said == ReadTokens(KEY).decode(ReadTokens(KEY).encode(said))


def session(level: Level, max_s: float, written_ago_s: float | None = None) -> Session:
    clock = StandingClock()
    made = int((clock.now() - timedelta(seconds=written_ago_s or 0)).timestamp())
    seen = {} if written_ago_s is None else {"catalog": Mark(1, made)}
    return Session(Consistency(level, max_s), home="catalog", seen=seen, clock=clock)


def test_the_cache_is_for_those_who_may_be_told_what_is_old() -> None:
    assert 0.0 == session(Level.STRONG, 0.0).max_age_s()
    assert 65.0 == session(Level.BOUNDED, 65.0).max_age_s()
    assert math.inf == session(Level.EVENTUAL, math.inf).max_age_s()


def test_who_has_written_is_told_nothing_older_than_that() -> None:
    assert 0.0 == session(Level.EVENTUAL, math.inf, 3.0).max_age_s()
    assert 100.0 - SKEW_S == session(Level.EVENTUAL, math.inf, 100.0).max_age_s()
    assert 65.0 == session(Level.BOUNDED, 65.0, 100.0).max_age_s()


def test_an_entry_lives_no_longer_than_its_method_may_be_old() -> None:
    method = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].methods_by_name["GetProduct"]
    rules = policy.effective(method)

    assert ("bounded", 65.0) == policy.consistency(rules)
    assert 60.0 == policy.cache_ttl_s(rules)
    rules.consistency.max_staleness.FromSeconds(20)
    assert 15.0 == policy.cache_ttl_s(rules)
    rules.ClearField("consistency")
    assert ("bounded", 65.0) == policy.consistency(rules)
