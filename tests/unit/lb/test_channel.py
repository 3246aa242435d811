"""Channels that begin without a control plane, and what is kept on disk for them."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import cast

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb import channel
from lb.endpoint import Endpoint, ServiceName
from lb.fallback import FallbackChannel, Spare
from lb.lastgood import ENDPOINTS, LastGood, endpoints_from_bytes, endpoints_to_bytes
from tests.unit.lb import sample
from tests.unit.lb.conftest import DEADLINE_S, Client, ControlPlane, eventually
from tests.waiting import free_port

WHO = "/weft.test.Who/Ask"
FEED = "/weft.test.Who/Feed"


class Backend:
    """Answers with its name; feeds a stream until it is told to end it."""

    def __init__(self, name: str, port: int = 0) -> None:
        self.enough = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
        handlers = {
            "Ask": grpc.unary_unary_rpc_method_handler(lambda request, context: name.encode()),
            "Feed": grpc.unary_stream_rpc_method_handler(lambda request, context: self._feed(name)),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("weft.test.Who", handlers),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def _feed(self, name: str) -> Iterator[bytes]:
        yield name.encode()
        assert self.enough.wait(DEADLINE_S)
        yield b"end"

    def close(self) -> None:
        self._server.stop(0).wait(DEADLINE_S)


@pytest.fixture
def backends() -> Iterator[Callable[..., Backend]]:
    started: list[Backend] = []

    def start(name: str, port: int = 0) -> Backend:
        started.append(Backend(name, port))
        return started[-1]

    yield start
    for each in started:
        each.close()


def remembered(folder: Path, *endpoints: Endpoint) -> Path:
    LastGood(folder).write(ENDPOINTS, endpoints_to_bytes(endpoints))
    return folder


def test_a_client_that_starts_without_any_control_plane_finds_what_was_good_last_and_goes_over_when_one_is_back(
    control_plane: ControlPlane, client_of: Callable[..., Client], backend: Callable[[str], int], tmp_path: Path
) -> None:
    state = remembered(tmp_path, sample.endpoint("orders-1", backend("one")))
    two = backend("two")
    control_plane.stop()
    client = client_of(state=state)

    assert {"answer": "one"} == client.ask("call", DEADLINE_S)
    control_plane.start()
    control_plane.feeding(lambda feed: feed.set_endpoints([sample.endpoint("orders-2", two)]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))
    answers: list[dict[str, str]] = []

    def back() -> bool:
        answers.append(client.ask("call", DEADLINE_S))
        return answers[-1] == {"answer": "two"}

    eventually(back, lambda: answers[-1])
    assert {"one"} >= {answer.get("answer") for answer in answers[:-1]}
    control_plane.stop()
    assert {"answer": "two"} == client.ask("call", DEADLINE_S)


def test_where_a_control_plane_answers_the_disk_is_not_asked(
    control_plane: ControlPlane, client_of: Callable[..., Client], backend: Callable[[str], int], tmp_path: Path
) -> None:
    state = remembered(tmp_path, sample.endpoint("orders-1", backend("stale")))
    control_plane.feeding(lambda feed: feed.set_endpoints([sample.endpoint("orders-2", backend("fresh"))]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))
    client = client_of(state=state)

    assert [{"answer": "fresh"}] * 3 == [client.ask("call", DEADLINE_S) for _ in range(3)]


def test_a_control_plane_that_has_nothing_to_say_is_not_waited_for_in_vain(
    control_plane: ControlPlane, client_of: Callable[..., Client], backend: Callable[[str], int], tmp_path: Path
) -> None:
    client = client_of(state=remembered(tmp_path, sample.endpoint("orders-1", backend("one"))))

    assert {"answer": "one"} == client.ask("call", DEADLINE_S)


def test_without_anything_on_disk_a_call_fails_as_it_would_anyway(
    control_plane: ControlPlane, client_of: Callable[..., Client], tmp_path: Path
) -> None:
    control_plane.stop()

    assert "UNAVAILABLE" == client_of(state=tmp_path).ask("call", DEADLINE_S)["code"]


def test_a_stream_on_the_spare_goes_on_while_new_calls_take_the_first_choice(
    backends: Callable[..., Backend],
) -> None:
    port, spare = free_port(), backends("spare")
    opened = grpc.insecure_channel(f"127.0.0.1:{spare.port}")
    first = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_reconnect_backoff_ms", 100)])
    with FallbackChannel(first, lambda: opened) as either:
        stream = either.unary_stream(FEED)(b"", timeout=DEADLINE_S)
        assert b"spare" == next(stream)
        assert b"spare" == either.unary_unary(WHO).future(b"", timeout=DEADLINE_S).result()
        backends("first", port)
        eventually(lambda: either.settled)

        assert (b"first", b"first") == (
            either.unary_unary(WHO)(b"", timeout=DEADLINE_S),
            either.stream_unary(WHO).with_call(iter([b""]), timeout=DEADLINE_S)[0],
        )
        spare.enough.set()
        assert [b"end"] == list(stream)

        eventually(lambda: closed(opened))


def test_a_spare_whose_certificate_was_renewed_makes_place_for_another_and_keeps_the_calls_it_has(
    backends: Callable[..., Backend],
) -> None:
    spare, opened, mark = backends("spare"), list[grpc.Channel](), ["one"]

    def open_spare() -> grpc.Channel:
        opened.append(grpc.insecure_channel(f"127.0.0.1:{spare.port}"))
        return opened[-1]

    first = grpc.insecure_channel(f"127.0.0.1:{free_port()}")
    with FallbackChannel(first, open_spare, mark=lambda: mark[0]) as either:
        stream = either.unary_stream(FEED)(b"", timeout=DEADLINE_S)
        assert b"spare" == next(stream)
        assert b"spare" == either.unary_unary(WHO)(b"", timeout=DEADLINE_S)
        assert 1 == len(opened)
        mark[0] = "two"
        assert [b"spare"] * 2 == [either.unary_unary(WHO)(b"", timeout=DEADLINE_S) for _ in range(2)]
        assert 2 == len(opened)
        spare.enough.set()
        assert [b"end"] == list(stream)

        eventually(lambda: closed(opened[0]))


def closed(one: grpc.Channel) -> bool:
    try:
        one.unary_unary(WHO)(b"", timeout=DEADLINE_S)
    except ValueError:  # what gRPC says of a call on a closed channel
        return True
    except grpc.RpcError:  # it is closing
        return False
    return False


def test_who_ends_the_last_call_on_the_spare_does_not_wait_for_it_to_close() -> None:
    """Calls end in the thread that a channel waits for when it closes."""
    closing, told = threading.Event(), threading.Event()

    class Waiting:
        def close(self) -> None:
            closing.set()
            assert told.wait(DEADLINE_S)

    spare = Spare(cast(grpc.Channel, Waiting()))
    assert spare.begin()
    spare.retire()
    assert not closing.is_set()

    spare.end()

    assert closing.wait(DEADLINE_S)
    told.set()
    assert not spare.begin()


def test_a_call_never_waits_longer_for_the_choice_than_it_may_take() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        first = grpc.insecure_channel(f"127.0.0.1:{mute.getsockname()[1]}")
        with FallbackChannel(first, lambda: None, patience_s=10 * DEADLINE_S) as either:
            call = either.unary_unary(WHO).future(b"", timeout=0.2)

            assert grpc.StatusCode.DEADLINE_EXCEEDED is call.code()


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
ENDPOINT = st.builds(
    Endpoint,
    NAMES.map(ServiceName),
    NAMES,
    st.sampled_from(["127.0.0.1", "10.1.2.3", "::1"]),
    st.integers(1, 65535),
    zone=st.sampled_from(["", "a"]),
)


@given(st.lists(ENDPOINT))
def test_endpoints_are_read_back_as_they_were_kept(endpoints: list[Endpoint]) -> None:
    assert tuple(endpoints) == endpoints_from_bytes(endpoints_to_bytes(endpoints))


@given(st.binary(max_size=100) | st.sampled_from([b"[1]", b"{}", b'[["orders"]]', b'[["orders","o","0.0.0.0",0,""]]']))
def test_what_is_no_list_of_endpoints_is_none(content: bytes) -> None:
    assert () == endpoints_from_bytes(content)


def test_a_value_is_replaced_as_a_whole_and_by_its_owner_alone_readable(tmp_path: Path) -> None:
    place = LastGood(tmp_path / "state")
    assert place.read("keys") is None
    place.write("keys", b"one")
    place.write("keys", b"two")

    assert b"two" == LastGood(tmp_path / "state").read("keys")
    assert ["keys"] == [path.name for path in (tmp_path / "state").iterdir()]
    assert 0o600 == (tmp_path / "state" / "keys").stat().st_mode & 0o777


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: b"x" + raw, lambda raw: raw + b"x", lambda _: b""]
)
def test_a_damaged_value_is_none(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    place = LastGood(tmp_path)
    place.write("keys", b"content")
    (tmp_path / "keys").write_bytes(damage((tmp_path / "keys").read_bytes()))

    assert place.read("keys") is None


def test_one_address_names_every_endpoint_of_one_kind_once() -> None:
    def at(address: str, port: int) -> Endpoint:
        return Endpoint(ServiceName("orders"), "orders-1", address, port)

    assert channel.target([]) is None
    assert "ipv4:10.0.0.1:2,10.0.0.1:3" == channel.target([at("10.0.0.1", 3), at("::1", 1), at("10.0.0.1", 2)])
    assert "ipv6:[::1]:1" == channel.target([at("::1", 1), at("::1", 1)])
