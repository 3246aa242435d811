"""`python -m lb` as an operator meets it, over the fake etcd."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lb.__main__ import main
from lb.config import EtcdSettings, host_port
from lb.credentials import Credentials
from lb.errors import SettingsError
from lb.registry.agent import Agent
from lb.registry.etcd import Client
from lb.registry.keys import endpoint_key
from lb.xds.types import EDS
from tests.identities import Identities
from tests.unit.lb import sample
from tests.unit.lb.ads import Ads, answer_of, request
from tests.unit.lb.conftest import DEADLINE_S, eventually
from tests.unit.lb.fake_etcd import FakeEtcd
from tests.unit.lb.registry_suite import ask, settings_of
from weft_protos import identity
from weft_protos.xds import message_class

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def etcd() -> Iterator[FakeEtcd]:
    running = FakeEtcd()
    yield running
    running.close()


@pytest.fixture
def lb(etcd: FakeEtcd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    monkeypatch.setenv("WEFT_ETCD", etcd.address)
    monkeypatch.delenv("WEFT_SECRETS", raising=False)
    monkeypatch.delenv("WEFT_XDS", raising=False)
    monkeypatch.setenv("WEFT_LOG_LEVEL", "error")

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(arguments)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    structlog.reset_defaults()


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    def write(*rows: sample.Row) -> str:
        manifest, pieces = sample.compiled(rows or sample.rows())
        (tmp_path / "blobs").mkdir(exist_ok=True)
        (tmp_path / "manifest.json").write_bytes(manifest)
        for digest, content in pieces.items():
            (tmp_path / "blobs" / digest).write_bytes(content)
        return str(tmp_path)

    return write


def test_a_bundle_is_published_once_and_rolled_back(lb: Run, written: Callable[..., str]) -> None:
    _, first, _ = lb("publish", written(), "--json")
    _, same, _ = lb("publish", written(), "--json")
    _, second, _ = lb("publish", written(*sample.rows("catalog")), "--json")
    code, back, _ = lb("rollback", "--json")

    assert (True, False, True) == tuple(json.loads(each)["changed"] for each in (first, same, second))
    assert (0, json.loads(first)["manifest"]) == (code, json.loads(back)["manifest"])


def test_rolling_back_from_the_first_bundle_fails_with_one_line(lb: Run, written: Callable[..., str]) -> None:
    lb("publish", written())
    code, _, said = lb("rollback")

    assert (1, 1) == (code, said.count("\n"))
    assert "no earlier bundle" in said


def test_a_damaged_bundle_is_not_published(lb: Run, etcd: FakeEtcd, written: Callable[..., str]) -> None:
    directory = Path(written())
    next((directory / "blobs").iterdir()).write_bytes(b"damaged")
    code, out, said = lb("publish", str(directory))

    assert (1, "") == (code, out)
    assert "not what its name says" in said


def test_a_manifest_cannot_point_out_of_its_directory(lb: Run, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("secret")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    row = {"audience": "all", "type_url": "t", "name": "n", "sha256": "../../secret"}
    (bundle / "manifest.json").write_text(json.dumps({"format": 1, "resources": [row]}))

    assert 1 == lb("publish", str(bundle))[0]


def test_what_is_published_is_fetched_as_it_was(lb: Run, written: Callable[..., str], tmp_path: Path) -> None:
    assert 1 == lb("fetch", str(tmp_path / "early"))[0]
    published = json.loads(lb("publish", written(), "--json")[1])

    code, out, _ = lb("fetch", str(tmp_path / "fetched"), "--json")

    assert (0, published["manifest"]) == (code, json.loads(out)["manifest"])
    again = json.loads(lb("publish", str(tmp_path / "fetched"), "--json")[1])
    assert (published["manifest"], False) == (again["manifest"], again["changed"])


def test_a_verdict_nobody_gives_is_waited_for_no_longer_than_asked(lb: Run) -> None:
    code, out, said = lb("proxies", "--wait", "0" * 64, "--timeout", "0.1")

    assert (1, "", "lb: no control plane has reported\n") == (code, out, said)
    assert {"control_planes": [], "clients": []} == json.loads(lb("proxies", "--json")[1])


def test_endpoints_are_a_json_list(lb: Run, etcd: FakeEtcd, capsys: pytest.CaptureFixture[str]) -> None:
    agent = Agent(settings_of(etcd.address))
    agent.start()
    agent.register(sample.endpoint("orders-1", 4711))
    eventually(agent.registered)
    capsys.readouterr()
    _, everything, _ = lb("endpoints")
    _, nothing, _ = lb("endpoints", "--service", "catalog", "--json")
    agent.stop(5.0)

    assert [("orders", "orders-1", "127.0.0.1", 4711)] == [
        (row["service"], row["instance"], row["address"], row["port"]) for row in json.loads(everything)
    ]
    assert [] == json.loads(nothing)


def test_a_bootstrap_names_the_control_planes_that_are_given_or_those_of_the_environment(
    lb: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WEFT_XDS", "127.0.0.1:1, 127.0.0.1:2")
    own = ("--service", "shop", "--instance", "shop-1")
    path = tmp_path / "shop.json"
    code, out, _ = lb("bootstrap", *own)

    def servers(text: str) -> list[str]:
        return [server["server_uri"] for server in json.loads(text)["xds_servers"]]

    assert (0, ["127.0.0.1:1", "127.0.0.1:2"]) == (code, servers(out))
    node = {"id": "shop-1", "cluster": "shop", "locality": {"zone": ""}, "metadata": {"kind": "grpc"}}
    assert node == json.loads(out)["node"]
    assert (0, "", "") == lb("bootstrap", *own, "--xds", "127.0.0.1:3", "--zone", "north", "--out", str(path))
    assert ["127.0.0.1:3"] == servers(path.read_text())
    assert node | {"locality": {"zone": "north"}} == json.loads(path.read_text())["node"]


def test_a_bootstrap_of_encrypted_hops_names_the_files_of_the_program(lb: Run, tmp_path: Path) -> None:
    folder = Identities(tmp_path, identity.service("shop")).of(identity.service("shop"))
    own = ("--service", "shop", "--instance", "shop-1", "--xds", "127.0.0.1:1", "--identity", str(folder))
    code, out, _ = lb("bootstrap", *own)

    files = {
        "certificate_file": f"{folder}/tls.crt",
        "private_key_file": f"{folder}/tls.key",
        "ca_certificate_file": f"{folder}/ca.crt",
        "refresh_interval": "5s",
    }
    said = json.loads(out)
    assert (0, {"workload": {"plugin_name": "file_watcher", "config": files}}) == (code, said["certificate_providers"])
    assert [[{"type": "tls", "config": files}]] == [server["channel_creds"] for server in said["xds_servers"]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--service", "Shop", "--instance", "shop-1", "--xds", "127.0.0.1:1"), "'Shop' is not a service name"),
        (("--service", "shop", "--instance", "", "--xds", "127.0.0.1:1"), "'' is not a service name"),
        (("--service", "shop", "--instance", "shop-1"), "WEFT_XDS is not set"),
        (("--service", "shop", "--instance", "s", "--xds", "h:1", "--zone", "A b"), "'A b' is not a zone"),
        (("--service", "shop", "--instance", "shop-1", "--xds", "nowhere"), "--xds: 'nowhere' is not host:port"),
        (
            ("--service", "shop", "--instance", "s", "--xds", "h:1", "--out", "/nonexistent/x"),
            "/nonexistent/x: No such",
        ),
        (
            ("--service", "shop", "--instance", "s", "--xds", "h:1", "--identity", "/nonexistent"),
            "--identity: /nonexistent: No such file or directory; /nonexistent must hold tls.crt, tls.key, ca.crt",
        ),
    ],
)
def test_a_bootstrap_that_would_lead_nowhere_is_refused(lb: Run, arguments: tuple[str, ...], says: str) -> None:
    code, out, said = lb("bootstrap", *arguments)

    assert (2, "", 1) == (code, out, said.count("\n"))
    assert says in said


def test_an_etcd_that_does_not_answer_is_named(
    lb: Run, monkeypatch: pytest.MonkeyPatch, written: Callable[..., str]
) -> None:
    monkeypatch.setenv("WEFT_ETCD", "127.0.0.1:1")
    code, _, said = lb("publish", written(), "--timeout", "0.2")

    assert 1 == code
    assert "etcd at 127.0.0.1:1 did not answer within 0.2 s" in said


@pytest.mark.parametrize(
    "arguments",
    [(), ("unknown",), ("publish",), ("publish", "x", "--timeout", "0"), ("rollback", "--timeout", "soon")],
)
def test_wrong_arguments_are_a_usage_error(lb: Run, arguments: tuple[str, ...]) -> None:
    assert 2 == lb(*arguments)[0]


@pytest.mark.parametrize(
    "command", ["control-plane", "publish", "rollback", "fetch", "proxies", "endpoints", "bootstrap"]
)
def test_help_shows_an_example(lb: Run, command: str) -> None:
    code, out, _ = lb(command, "--help")

    assert 0 == code
    assert f"example: python -m lb {command}" in out


@pytest.mark.parametrize(
    ("variable", "value"),
    [("WEFT_ETCD", ""), ("WEFT_ETCD", "nowhere"), ("WEFT_ETCD", "h:99999"), ("WEFT_LOG_LEVEL", "loud")],
)
def test_a_wrong_setting_is_named(lb: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    code, _, said = lb("endpoints")

    assert 2 == code
    assert variable in said


def test_the_password_is_read_from_its_file_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etcd.password").write_text("hunter2\n")
    monkeypatch.setenv("WEFT_ETCD", "127.0.0.1:1, 127.0.0.1:2")
    monkeypatch.setenv("WEFT_SECRETS", str(tmp_path))
    settings = EtcdSettings.from_environ()

    assert (("127.0.0.1:1", "127.0.0.1:2"), "weft", "hunter2") == (settings.endpoints, settings.user, settings.password)
    assert "hunter2" not in repr(settings)


def test_an_address_is_split_at_its_last_colon() -> None:
    assert ("[::1]", 2379) == host_port("[::1]:2379", "X")
    with pytest.raises(SettingsError, match="X"):
        host_port(":2379", "X")


def test_the_control_plane_process_serves_what_is_published_and_stops_on_sigterm(
    lb: Run, etcd: FakeEtcd, written: Callable[..., str], tmp_path: Path
) -> None:
    port = _free_port()
    environ = {"WEFT_ETCD": etcd.address, "WEFT_LISTEN": f"127.0.0.1:{port}", "WEFT_INSTANCE": "control-plane-1"}
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", "lb", "control-plane"], env=environ, stderr=log)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check

            def status() -> int:
                return int(check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S, wait_for_ready=True).status)

            assert health_pb2.HealthCheckResponse.NOT_SERVING == status()
            digest = json.loads(lb("publish", written(), "--json")[1])["manifest"]
            eventually(lambda: status() == health_pb2.HealthCheckResponse.SERVING)
            _connect_as_gateway(f"127.0.0.1:{port}", etcd)
            code, verdict, _ = lb("proxies", "--wait", digest, "--json")
            assert (0, "accepted", 0) == (code, json.loads(verdict)["state"], json.loads(verdict)["clients"])
            assert f"control-plane-1 serves {digest[:12]}\n" == lb("proxies")[1]
            code, _, said = lb("proxies", "--wait", "0" * 64, "--timeout", "0.1")
            assert (1, "lb: control-plane-1 does not serve it yet\n") == (code, said)
        process.send_signal(signal.SIGTERM)

        assert 0 == process.wait(DEADLINE_S)
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        log.close()
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {"control_plane_listening", "bundle_taken", "key_registered"} <= {record["event"] for record in records}
    assert {("control-plane", "control-plane-1")} == {(record["service"], record["instance"]) for record in records}


def test_a_control_plane_with_an_identity_is_asked_with_one_and_tells_kubelets_without(
    etcd: FakeEtcd, tmp_path: Path
) -> None:
    parts = Identities(tmp_path, identity.CONTROL_PLANE, identity.SUPERVISOR)
    port, metrics = _free_port(), _free_port()
    environ = {
        "WEFT_ETCD": etcd.address,
        "WEFT_LISTEN": f"127.0.0.1:{port}",
        "WEFT_METRICS_PORT": str(metrics),
        "WEFT_IDENTITY": str(parts.of(identity.CONTROL_PLANE)),
    }
    command = [sys.executable, "-m", "lb", "control-plane"]

    def shown(path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", metrics, timeout=DEADLINE_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
    try:
        own = Credentials(parts.of(identity.SUPERVISOR)).client()
        # Control planes are called by address, and have it in their certificate.
        with grpc.secure_channel(f"127.0.0.1:{port}", own) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            answer = check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S, wait_for_ready=True)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)

        assert health_pb2.HealthCheckResponse.NOT_SERVING == answer.status
        assert grpc.StatusCode.UNAVAILABLE is caught.value.code()
        assert (503, 200, 200) == (shown("/ready"), shown("/alive"), shown("/metrics"))
    finally:
        process.kill()
        process.wait(DEADLINE_S)


def test_a_control_plane_that_starts_without_etcd_serves_what_was_good_last(
    lb: Run, etcd: FakeEtcd, written: Callable[..., str], tmp_path: Path
) -> None:
    lb("publish", written())
    agent = Agent(settings_of(etcd.address))
    agent.start()
    agent.register(sample.endpoint("orders-1", 4711))
    eventually(agent.registered)
    state = tmp_path / "state"
    with _control_plane(etcd.address, state) as address:
        before = _endpoints(address)
        eventually(lambda: {"bundle", "endpoints"} == {path.name for path in state.glob("[a-z]*")})
    etcd.kill()
    agent.stop(1.0)

    with _control_plane(etcd.address, state) as address:
        during = _endpoints(address)
        etcd.wipe()
        eventually(lambda: not json.loads(lb("publish", written(), "--json")[1])["changed"])

    assert ["127.0.0.1:4711"] == before == during


@contextlib.contextmanager
def _control_plane(etcd: str, state: Path) -> Iterator[str]:
    """Address of a control plane of its own process, once it serves."""
    address = f"127.0.0.1:{_free_port()}"
    environ = {"WEFT_ETCD": etcd, "WEFT_LISTEN": address, "WEFT_STATE": str(state)}
    process = subprocess.Popen([sys.executable, "-m", "lb", "control-plane"], env=environ, stderr=subprocess.DEVNULL)
    try:
        with grpc.insecure_channel(address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check

            def serves() -> bool:
                answer = check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S, wait_for_ready=True)
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

            eventually(serves)
            yield address
    finally:
        process.kill()
        process.wait(DEADLINE_S)


def _endpoints(address: str) -> list[str]:
    """Where it sends a gRPC client that asks for orders."""
    ads = Ads(address)
    answer = answer_of(next(ads.open(request(EDS, "orders", kind="grpc"))))
    ads.close()
    assignment = message_class("envoy.config.endpoint.v3.ClusterLoadAssignment").FromString(answer.resources[0].value)
    sockets = [
        each.endpoint.address.socket_address for locality in assignment.endpoints for each in locality.lb_endpoints
    ]
    return [f"{socket.address}:{socket.port_value}" for socket in sockets]


def _connect_as_gateway(address: str, etcd: FakeEtcd) -> None:
    ads = Ads(address)
    ads.open(request("type.googleapis.com/envoy.config.cluster.v3.Cluster"))
    key = endpoint_key("edge", "gateway-1")

    async def there(client: Client) -> bool:
        return await client.get(key) is not None

    eventually(lambda: ask(etcd.address, there))
    ads.close()
    eventually(lambda: not ask(etcd.address, there))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
