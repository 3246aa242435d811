"""An instance in Go is found, checked, balanced and drained like every other."""

import base64
import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hpack import Decoder, Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, SettingsFrame

from deploy.supervisor.account import server_account
from deploy.supervisor.workspace import temporary
from lb.config import EtcdSettings
from lb.registry.agent import Agent
from lb.registry.etcd import Client, KeyRange
from lb.registry.keys import endpoint_key, left_key
from tests.go import build
from tests.go.build import SOURCES, Programs
from tests.go.peers import Caller, Shipping, python_caller
from tests.hostile_tokens import Mint
from tests.integration.etcd_server import EtcdServer
from tests.unit.go.conftest import SmallMesh
from tests.unit.lb.registry_suite import names
from tests.waiting import DEADLINE_S, eventually, free_port
from weft_protos.xds import message_class

RATE = "shippingRates/GB"
GET_RATE = "/weft.shipping.v1.ShippingService/GetRate"
#: GetRateRequest with that name: field 1, length-delimited.
REQUEST = b"\x0a" + bytes([len(RATE)]) + RATE.encode()
LOAD = "endpoint-load-metrics-bin"

Registered = Callable[[str], list[dict[str, Any]]]

pytestmark = pytest.mark.timeout(900)  # the programs may have to be built first


@pytest.fixture
def shipping(go_programs: Programs, small_mesh: SmallMesh) -> Iterator[Callable[[str], Shipping]]:
    """Starts instances."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(
            Shipping(go_programs, name, port=free_port(), environ=small_mesh.environ)
        )


@pytest.fixture
def caller(go_programs: Programs, small_mesh: SmallMesh) -> Iterator[Caller]:
    with python_caller(go_programs, small_mesh.bootstrap("shop")) as running:
        yield running


def test_an_instance_is_found_balanced_and_drained_without_a_failed_call(
    small_mesh: SmallMesh, shipping: Callable[[str], Shipping], registered: Registered, caller: Caller
) -> None:
    first, second = shipping("shipping-1"), shipping("shipping-2")
    eventually(lambda: len(registered("shipping")) == 2)
    caller.start(RATE, token=small_mesh.mint.token())
    eventually(lambda: {"shipping-1", "shipping-2"} == set(caller.report().peers))

    assert 0 == first.terminate()

    assert [(second.instance, second.address)] == [
        (row["instance"], f"{row['address']}:{row['port']}") for row in registered("shipping")
    ]
    after = caller.report().peers["shipping-2"]
    eventually(lambda: caller.report().peers["shipping-2"] > after + 50)
    report = caller.stop()
    assert (0, ()) == (report.failed, report.said)


def test_an_instance_that_leaves_waits_until_the_control_plane_says_that_nobody_has_it(
    small_mesh: SmallMesh, shipping: Callable[[str], Shipping], registered: Registered
) -> None:
    first, _second = shipping("shipping-1"), shipping("shipping-2")
    eventually(lambda: len(registered("shipping")) == 2)
    kept, answered = endpoint_key("shipping", "shipping-1"), left_key("shipping", "shipping-1", "control-plane-1")

    async def now(client: Client) -> tuple[int, bytes]:
        found = await client.list(KeyRange(kept))
        return found.revision, found.records[0].value

    async def history(client: Client) -> list[tuple[bytes, bytes | None]]:
        seen: list[tuple[bytes, bytes | None]] = []
        async for changes in client.watch(KeyRange.prefix(b"/weft/"), start_revision=before + 1):
            seen += [(each.key, each.record and each.record.value) for each in changes]
            if (kept, None) in seen:
                break
        return [each for each in seen if each[0] == kept or (each[0] == answered and each[1])]

    before, value = small_mesh.ask(now)

    assert 0 == first.terminate()
    said, repeated, gone = small_mesh.ask(history)
    assert (kept, json.loads(value) | {"leaving": True}) == (said[0], json.loads(said[1] or b""))
    assert [(answered, said[1]), (kept, None)] == [repeated, gone]


def test_a_key_that_is_lost_with_its_lease_comes_back(
    small_mesh: SmallMesh, shipping: Callable[[str], Shipping], registered: Registered
) -> None:
    shipping("shipping-1")
    eventually(lambda: registered("shipping"))
    key = endpoint_key("shipping", "shipping-1")

    async def revoke(client: Client) -> int:
        record = await client.get(key)
        assert record is not None
        await client.revoke(record.lease)
        return record.lease

    async def lease(client: Client) -> int:
        record = await client.get(key)
        return 0 if record is None else record.lease

    lost = small_mesh.ask(revoke)

    eventually(lambda: small_mesh.ask(lease) not in (0, lost))


def test_an_instance_that_is_killed_leaves_with_its_lease(
    shipping: Callable[[str], Shipping], registered: Registered
) -> None:
    instance = shipping("shipping-1")
    eventually(lambda: registered("shipping"))

    instance.kill()

    eventually(lambda: not registered("shipping"))


def test_nobody_gets_in_without_a_genuine_token_and_its_scope(
    small_mesh: SmallMesh, shipping: Callable[[str], Shipping], registered: Registered, caller: Caller
) -> None:
    shipping("shipping-1")
    eventually(lambda: registered("shipping"))
    mint = small_mesh.mint
    foreign = mint.sign(mint.header(kid="key-2"), mint.claims())
    tokens = {
        "": "UNAUTHENTICATED",
        "nonsense": "UNAUTHENTICATED",
        foreign: "UNAUTHENTICATED",
        mint.sign(mint.header(typ="JWT"), mint.claims()): "UNAUTHENTICATED",
        mint.token(exp=mint.now - 60): "UNAUTHENTICATED",
        mint.token(iss="somebody"): "UNAUTHENTICATED",
        mint.token(aud="another"): "UNAUTHENTICATED",
        mint.token(scope="orders.read"): "PERMISSION_DENIED",
        mint.token(): "OK",
    }
    eventually(lambda: caller.call(RATE)["code"] == "UNAUTHENTICATED")

    assert tokens == {token: caller.call(RATE, token=token)["code"] for token in tokens}
    assert "NOT_FOUND" == caller.call("shippingRates/AQ", token=mint.token())["code"]


def test_an_instance_is_found_once_it_can_check_tokens_and_until_it_is_told_to_end(go_programs: Programs) -> None:
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    with ExitStack() as stack:
        etcd = EtcdServer(stack.enter_context(temporary()), server_account())
        stack.callback(etcd.kill)
        environ = {"WEFT_ETCD": etcd.address}
        instance = stack.enter_context(Shipping(go_programs, "shipping-1", port=free_port(), environ=environ))
        channel = stack.enter_context(grpc.insecure_channel(instance.address))
        checks = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=DEADLINE_S, wait_for_ready=True
        )
        stack.callback(checks.cancel)
        assert not_serving == next(checks).status
        assert [] == names(etcd.address)

        keys = Agent(EtcdSettings(endpoints=(etcd.address,)))
        keys.start()
        stack.callback(keys.stop, DEADLINE_S)
        keys.publish("jwks", Mint("key-1", ec.generate_private_key(ec.SECP256R1())).jwks())

        assert serving == next(checks).status
        entry = f"shipping/shipping-1:{instance.address.rpartition(':')[2]}"
        eventually(lambda: names(etcd.address) == [entry])

        instance.signal(signal.SIGTERM)

        assert not_serving == next(checks).status
        eventually(lambda: not names(etcd.address))


def test_every_answer_says_how_busy_the_instance_is(
    small_mesh: SmallMesh, shipping: Callable[[str], Shipping], registered: Registered
) -> None:
    instance = shipping("shipping-1")
    eventually(lambda: registered("shipping"))
    token = small_mesh.mint.token()

    def calls_a_second() -> float:
        # Nothing is said before the first second is over.
        said = _trailers(instance.address, token).get(LOAD, "")
        report: Any = message_class("xds.data.orca.v3.OrcaLoadReport")()
        report.ParseFromString(base64.b64decode(said + "=" * (-len(said) % 4)))
        return float(report.rps_fractional)

    eventually(lambda: calls_a_second() > 0)


def _trailers(address: str, token: str) -> dict[str, str]:
    """Trailers of one call as they are on the wire: gRPC's library keeps the load report to itself."""
    host, _, port = address.rpartition(":")
    request = {":method": "POST", ":scheme": "http", ":path": GET_RATE, ":authority": address, "te": "trailers"}
    headers = request | {"content-type": "application/grpc", "authorization": f"Bearer {token}"}
    frames = (
        SettingsFrame(0),
        HeadersFrame(1, Encoder().encode(headers), flags=["END_HEADERS"]),
        DataFrame(1, b"\0" + len(REQUEST).to_bytes(4, "big") + REQUEST, flags=["END_STREAM"]),
    )
    decoder, found = Decoder(), dict[str, str]()
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(frame.serialize() for frame in frames))
        with connection.makefile("rb") as stream:
            while "grpc-status" not in found:
                frame, length = Frame.parse_frame_header(memoryview(stream.read(9)))
                frame.parse_body(memoryview(stream.read(length)))
                if isinstance(frame, HeadersFrame):
                    found |= dict(decoder.decode(frame.data))
    assert "0" == found["grpc-status"], found
    return found


def test_the_sources_are_formatted() -> None:
    gofmt = build.toolchain().with_name("gofmt")
    listed = subprocess.run([gofmt, "-l", SOURCES], capture_output=True, text=True, check=True)

    assert "" == listed.stdout


def test_modules_that_cannot_be_fetched_are_said_to_be_so(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "cache"))
    (tmp_path / "go.mod").write_text((SOURCES / "go.mod").read_text())

    with pytest.raises(build.BuildError, match=r"module proxy, GOPROXY=http://127.0.0.1:1: .*refused"):
        build.fetch_modules(tmp_path)
