"""One bare Envoy, started as a gateway is, that asks the real control plane by delta for everything it serves."""

import http.client
import json
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey
from prometheus_client import REGISTRY

from deploy.supervisor import certificate
from deploy.supervisor.config import child_environ
from deploy.supervisor.servers import envoy as envoy_server
from gateway.envoy import bootstrap, names
from gateway.envoy.bootstrap import Address
from lb.status import ClientState
from lb.xds.types import CDS, EDS, LDS, RDS, SDS, short
from tests.unit.lb import sample
from tests.unit.lb.conftest import ControlPlane, eventually
from tests.waiting import free_port
from weft_protos.xds import envoy

ROUTED = "gateway"
_KEY = ECKey.generate_key("P-256", {"kid": "k1", "alg": "ES256", "use": "sig"})
KEYS = json.dumps({"keys": [_KEY.as_dict(private=False)]}).encode()


class Gateway:
    """The process, its two doors, and what it is served."""

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        self.control_plane = control_plane
        self.port, self.tls_port = free_port(), free_port()
        self._log = folder / "log"
        settings = bootstrap.Settings(
            "gateway-1", [Address("127.0.0.1", control_plane.port)], None, free_port(), folder / "admin"
        )
        config = folder / "bootstrap.pb"
        config.write_bytes(bootstrap.build(settings).SerializeToString(deterministic=True))
        options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(envoy_server.binary()), "-c", str(config), *options],
                stdout=log,
                stderr=log,
                env=child_environ() | {names.INSTANCE_VARIABLE: "gateway-1"},
            )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def publish(self, to: str, secret: Any, *, timeout: str = "1s", **listener: Any) -> None:
        """Both listeners, routes to one cluster, that cluster, the token filter and a certificate."""
        rows: list[sample.Row] = [
            ("envoy", self._listener("plain", self.port, **listener)),
            ("envoy", self._listener("tls", self.tls_port, tls=True)),
            ("envoy", sample.routes(ROUTED, to)),
            ("envoy", sample.token_filter()),
            ("envoy", sample.cluster(to, connect_timeout=timeout)),
            ("envoy", secret),
        ]
        self.control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle(*rows)))

    def answer(self) -> str:
        """Who answers a request; nothing where the port is closed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            connection.close()

    def answered_by(self, who: str) -> None:
        eventually(lambda: self.answer() == who, lambda: (self.answer(), self.known(), self._log.read_text()[-2000:]))

    def certificate(self) -> bytes:
        """What it shows to a new connection."""
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", self.tls_port)))

    def known(self) -> ClientState | None:
        """What the control plane knows of it."""
        return next(iter(self.control_plane.clients.status().clients), None)

    def synced(self) -> None:
        eventually(lambda: (known := self.known()) is not None and known.state == "SYNCED", self.known)

    def _listener(self, name: str, port: int, *, tls: bool = False, **fields: Any) -> Any:
        discovered = {
            "name": "envoy.filters.http.jwt_authn",
            "config_discovery": {
                "config_source": sample.ADS,
                "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"],
            },
        }
        chain: dict[str, Any] = {
            "filters": [{"name": "http", "typed_config": sample.manager(ROUTED, [discovered, sample.ROUTER])}]
        }
        if tls:
            context = envoy(
                "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                common_tls_context={
                    "tls_certificate_sds_secret_configs": [{"name": "shown", "sds_config": sample.ADS}]
                },
            )
            chain["transport_socket"] = {"name": "tls", "typed_config": context}
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        return envoy("config.listener.v3.Listener", name=name, address=address, filter_chains=[chain], **fields)


@pytest.fixture
def gateway(control_plane: ControlPlane) -> Iterator[Gateway]:
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as folder:
        running = Gateway(control_plane, Path(folder))
        yield running
        running.close()


@pytest.fixture
def origin() -> Iterator[Callable[[str], int]]:
    """Start a server that answers with its name; returns its port."""
    servers: list[ThreadingHTTPServer] = []

    def start(name: str) -> int:
        class Named(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-length", str(len(name)))
                self.end_headers()
                self.wfile.write(name.encode())

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Named))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return int(servers[-1].server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def shown() -> tuple[Any, bytes]:
    """A certificate as a resource, and as a client sees it."""
    pair = certificate.make_authority().issue(("localhost",), ())
    secret = envoy(
        "extensions.transport_sockets.tls.v3.Secret",
        name="shown",
        tls_certificate={
            "certificate_chain": {"inline_string": pair.certificate},
            "private_key": {"inline_string": pair.key},
        },
    )
    first = pair.certificate.split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    return secret, ssl.PEM_cert_to_DER_cert(first)


def pushes() -> dict[str, float]:
    return {
        of: REGISTRY.get_sample_value("weft_xds_pushes_total", {"type": short(of)}) or 0.0
        for of in (CDS, EDS, LDS, RDS, SDS)
    }


def test_an_envoy_that_asks_by_delta_follows_every_kind_of_resource(
    control_plane: ControlPlane, gateway: Gateway, origin: Callable[[str], int]
) -> None:
    one, two = (sample.endpoint(f"orders-{name}", origin(name)) for name in ("one", "two"))
    catalog = sample.endpoint("catalog-1", origin("catalog"), "catalog")
    (first, first_shown), (second, second_shown) = shown(), shown()

    # Listeners, routes, clusters, endpoints and certificate at once; without keys of tokens nobody is let in.
    control_plane.feeding(lambda feed: feed.set_endpoints([one]))
    gateway.publish("orders", first)
    eventually(lambda: (known := gateway.known()) is not None and known.settled, gateway.known)
    assert "" == gateway.answer()
    control_plane.feeding(lambda feed: feed.set_keys(KEYS))
    gateway.answered_by("one")
    assert first_shown == gateway.certificate()

    # Endpoints alone; then a cluster that changes, for which Envoy waits for the endpoints again.
    control_plane.feeding(lambda feed: feed.set_endpoints([two, catalog]))
    gateway.answered_by("two")
    gateway.publish("orders", first, timeout="2s")
    gateway.synced()
    gateway.answered_by("two")

    # Another cluster and certificate, routes that lead to it, and the one before goes.
    gateway.publish("catalog", second)
    gateway.answered_by("catalog")
    eventually(lambda: second_shown == gateway.certificate())
    gateway.synced()


def test_an_envoy_that_comes_back_is_sent_what_changed_meanwhile_and_nothing_else(
    control_plane: ControlPlane, gateway: Gateway, origin: Callable[[str], int]
) -> None:
    control_plane.feeding(lambda feed: feed.set_endpoints([sample.endpoint("orders-1", origin("one"))]))
    control_plane.feeding(lambda feed: feed.set_keys(KEYS))
    gateway.publish("orders", shown()[0])
    gateway.answered_by("one")
    gateway.synced()

    control_plane.stop()
    eventually(lambda: gateway.known() is None, gateway.known)
    before = pushes()
    moved = sample.endpoint("orders-1", origin("moved"))
    control_plane.feeding(lambda feed: feed.set_endpoints([moved]))
    control_plane.start()
    gateway.answered_by("moved")
    gateway.synced()

    assert {CDS: 0.0, EDS: 1.0, LDS: 0.0, RDS: 0.0, SDS: 0.0} == {
        of: count - before[of] for of, count in pushes().items()
    }


def test_what_an_envoy_refuses_is_told_in_its_own_words_and_the_last_good_goes_on(
    control_plane: ControlPlane, gateway: Gateway, origin: Callable[[str], int]
) -> None:
    control_plane.feeding(lambda feed: feed.set_endpoints([sample.endpoint("orders-1", origin("one"))]))
    control_plane.feeding(lambda feed: feed.set_keys(KEYS))
    secret, _ = shown()
    gateway.publish("orders", secret)
    gateway.answered_by("one")
    gateway.synced()

    gateway.publish("orders", secret, listener_filters=[{"name": "nobody.knows.this"}])
    eventually(lambda: (known := gateway.known()) is not None and known.state == "NACKED", gateway.known)
    known = gateway.known()
    assert known is not None
    (refusal,) = known.refusals
    assert "Listener" == refusal.type
    assert "nobody.knows.this" in refusal.detail
    assert known.agent.startswith("envoy 1.")
    assert "one" == gateway.answer()

    gateway.publish("orders", secret)
    gateway.synced()
