"""Hostile clients against a bare Envoy with the compiled listener: each is refused, and a good client never notices."""

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import grpc
import pytest

from gateway.envoy.edge import Edge, Profile
from tests import edge_attacks
from tests.edge_attacks import Attacker, Ending, good_client

from .bare_envoy import PUBLIC, SEEN, BareEnvoy, running

Attack = Callable[[Attacker], Ending]


@pytest.fixture(scope="module")
def envoy(descriptors: bytes) -> Iterator[BareEnvoy]:
    with running(descriptors, Edge()) as started:
        yield started


@pytest.fixture
def attacker(envoy: BareEnvoy) -> Iterator[Attacker]:
    made = Attacker(envoy.address)
    yield made
    made.close()


@pytest.fixture
def good(envoy: BareEnvoy) -> Iterator[None]:
    """A good client all the while; 0 errors."""
    connection = http.client.HTTPConnection(envoy.address, timeout=edge_attacks.PATIENCE_S)

    def call() -> None:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        assert 200 == answer.status

    with good_client(call):
        yield
    connection.close()


@pytest.mark.parametrize("attack", edge_attacks.FLOODS, ids=lambda attack: str(attack.__name__))
def test_a_flood_ends_its_own_connection(good: None, attacker: Attacker, attack: Attack) -> None:
    ending = attack(attacker)

    assert ending.closed or ending.goaway


@pytest.mark.parametrize("attack", edge_attacks.ABUSES, ids=lambda attack: str(attack.__name__))
def test_an_abuse_is_refused(good: None, attacker: Attacker, attack: Attack) -> None:
    assert attack(attacker).refused


def test_no_connection_has_more_streams_than_agreed(good: None, attacker: Attacker) -> None:
    ending = edge_attacks.open_streams(attacker)

    refused = {stream for stream, code in ending.resets.items() if code == edge_attacks.REFUSED_STREAM}
    assert set(range(201, 261, 2)) == refused


@pytest.mark.parametrize("name", edge_attacks.BROKEN_FRAMES)
def test_a_broken_frame_ends_its_connection(attacker: Attacker, name: str) -> None:
    ending = edge_attacks.broken_frame(attacker, name)

    assert ending.closed or ending.goaway


def test_data_after_the_end_of_a_stream_is_an_error(attacker: Attacker) -> None:
    ending = edge_attacks.data_after_the_end(attacker)

    assert ending.closed or edge_attacks.STREAM_CLOSED in (ending.goaway, *ending.resets.values())


def test_a_preface_that_is_none_gets_no_http2(envoy: BareEnvoy) -> None:
    attacker = Attacker(envoy.address, preface=b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")

    assert edge_attacks.closed_without_http2(attacker)
    attacker.close()


@pytest.mark.parametrize("name", edge_attacks.BROKEN_REQUESTS)
def test_a_broken_request_ends_its_stream_and_not_the_connection(attacker: Attacker, name: str) -> None:
    assert edge_attacks.broken_request(attacker, name).refused

    attacker.send(attacker.headers(3))
    assert "200" == attacker.read(lambda ending: 3 in ending.statuses).statuses[3]


def test_pseudo_headers_in_trailers_are_refused(attacker: Attacker) -> None:
    assert edge_attacks.pseudo_headers_in_trailers(attacker).refused


@pytest.mark.parametrize("name", edge_attacks.BROKEN_TEXTS)
def test_a_broken_text_is_answered_with_its_status(envoy: BareEnvoy, name: str) -> None:
    content, status = edge_attacks.BROKEN_TEXTS[name]

    assert status == edge_attacks.status(edge_attacks.said(envoy.address, content))


def test_an_upgrade_to_http2_in_clear_is_not_taken(envoy: BareEnvoy) -> None:
    answer = edge_attacks.said(envoy.address, edge_attacks.H2C_UPGRADE)

    assert 200 == edge_attacks.status(answer)
    assert b"upgrade" not in answer.lower()


def test_who_is_slow_is_not_waited_for(good: None, envoy: BareEnvoy) -> None:
    assert {} == edge_attacks.slow_ones_still_there(envoy.address)


def test_idle_connections_take_nothing_from_others(good: None, envoy: BareEnvoy) -> None:
    with edge_attacks.idle_connections(envoy.address, 300):
        connection = http.client.HTTPConnection(envoy.address, timeout=edge_attacks.PATIENCE_S)
        connection.request("GET", "/")
        assert 200 == connection.getresponse().status
        connection.close()


def test_what_clients_say_of_hops_reaches_nobody(envoy: BareEnvoy) -> None:
    forged = {
        **dict.fromkeys(("x-envoy-retry-on", "x-envoy-decorator-operation", "x-envoy-original-path", "via"), "forged"),
        **dict.fromkeys(("x-envoy-max-retries", "x-envoy-upstream-rq-timeout-ms", "x-envoy-force-trace"), "1"),
        **dict.fromkeys(("x-envoy-expected-rq-timeout-ms", "x-envoy-upstream-alt-stat-name", "forwarded"), "forged"),
        **dict.fromkeys(("x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-forwarded-for"), "forged"),
        **dict.fromkeys(("x-forwarded-client-cert", "x-envoy-internal", "x-envoy-external-address"), "forged"),
        **dict.fromkeys(("x-request-id", "x-client-trace-id", "x-user", "x-scopes", "baggage"), "forged"),
    }
    with grpc.insecure_channel(envoy.address) as channel:
        # One millisecond, if it were obeyed, would be too little for any backend.
        _, call = channel.unary_unary(PUBLIC).with_call(b"", metadata=tuple(forged.items()), timeout=20)
    answered = dict(call.initial_metadata())
    seen = dict(json.loads(answered[SEEN]))

    assert {} == {name: value for name, value in seen.items() if "forged" in value}
    kept = {name for name in seen if name in forged}
    assert {"x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-envoy-external-address"} == kept
    assert ("http", "127.0.0.1") == (seen["x-forwarded-proto"], seen["x-envoy-external-address"])
    assert [] == [name for name in answered if name.startswith("x-envoy")]
    assert "weft" == answered["server"]


#: A trace that a caller says its request belongs to.
TRACE = "a" * 32


def traced(channel: grpc.Channel, flags: str) -> tuple[str, str, str, str]:
    """Of a call that brings a trace with these flags: trace, flags and state at the backend, and the answer's trace."""
    brought = (("traceparent", f"00-{TRACE}-{'b' * 16}-{flags}"), ("tracestate", "vendor=stranger"))
    _, call = channel.unary_unary(PUBLIC).with_call(b"", metadata=brought, timeout=20)
    answered = dict(call.initial_metadata())
    seen = dict(json.loads(answered[SEEN]))
    _, trace, _, sampled = seen["traceparent"].split("-")
    return trace, sampled, seen.get("tracestate", ""), answered["x-trace-id"]


def test_in_production_nobody_joins_anothers_trace_or_keeps_a_request_out_of_all(descriptors: bytes) -> None:
    with running(descriptors, replace(Edge.of(Profile.PRODUCTION), trace_percent=100.0)) as envoy:
        trusted = grpc.ssl_channel_credentials(envoy.authority.read_bytes())
        with grpc.secure_channel(f"localhost:{envoy.tls_port}", trusted) as channel:
            found = [traced(channel, flags) for flags in ("00", "01")]

    assert [("01", "")] * 2 == [(sampled, state) for _, sampled, state, _ in found]
    assert 3 == len({TRACE, *(trace for trace, *_ in found)})
    assert [trace for trace, *_ in found] == [told for *_, told in found]


def test_on_ones_own_machine_a_request_brings_its_trace(envoy: BareEnvoy) -> None:
    with grpc.insecure_channel(envoy.address) as channel:
        found = [traced(channel, flags) for flags in ("00", "01")]

    assert [(TRACE, flags, "vendor=stranger", TRACE) for flags in ("00", "01")] == found


def test_no_request_is_sampled_by_its_callers_word_alone(descriptors: bytes) -> None:
    with (
        running(descriptors, replace(Edge(), trace_percent=0.0)) as envoy,
        grpc.insecure_channel(envoy.address) as channel,
    ):
        assert "00" == traced(channel, "01")[1]


def test_production_shows_nothing_but_methods(descriptors: bytes) -> None:
    with running(descriptors, Edge.of(Profile.PRODUCTION)) as envoy:
        trusted = grpc.ssl_channel_credentials(envoy.authority.read_bytes())
        with grpc.secure_channel(f"localhost:{envoy.tls_port}", trusted) as channel:
            assert b"" == channel.unary_unary(PUBLIC)(b"", timeout=20)
            for version in ("v1", "v1alpha"):
                method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
                with pytest.raises(grpc.RpcError) as caught:
                    list(channel.stream_stream(method)(iter([b""]), timeout=20))
                assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()
        with pytest.raises(ConnectionRefusedError):
            edge_attacks.said(envoy.address, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
