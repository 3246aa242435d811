"""Who has accepted a bundle: the verdict on what control planes say, and what they say of real streams."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from lb import status
from lb.config import EtcdSettings
from lb.registry.etcd import Dialer, Put
from lb.registry.keys import status_key
from lb.registry.statuses import COALESCE_S, IDLE_S, StatusKeeper, settled, statuses
from lb.status import ClientState, ControlPlaneStatus, Refusal
from lb.xds.clients import CLIENTS_MAX, Clients
from lb.xds.conversation import Nack, Progress
from lb.xds.stream import Request, Stream
from lb.xds.types import CDS, EDS, LDS, Kind
from lb.xds.wire import Node
from tests.unit.lb import sample
from tests.unit.lb.conftest import ControlPlane, eventually
from tests.unit.lb.fake_etcd import FakeEtcd
from tests.unit.lb.registry_suite import ask, settings_of
from tests.unit.lb.test_stream import snapshot

NEW, OLD = "n" * 64, "o" * 64
GATEWAY = ClientState("gateway-1", "envoy", 1, unsent=False, waiting=(), refusals=())
NOTHING = Progress()
REFUSING = replace(GATEWAY, node="gateway-2", refusals=(Refusal("Listener", "v2", "unknown field"),))
SERVING = ControlPlaneStatus("control-plane-1", NEW, "", (), (GATEWAY,))


@dataclass(eq=False)
class Reported:
    """A stream, as far as it is reported."""

    node: Node
    made: Progress = NOTHING
    unsent: bool = False
    since: datetime | None = None

    @property
    def refusing(self) -> bool:
        return bool(self.made.refused)

    def progress(self) -> Progress:
        return self.made


@pytest.mark.parametrize(
    ("known", "state", "reason"),
    [
        ((SERVING,), "accepted", ""),
        ((SERVING, replace(SERVING, instance="control-plane-2", clients=())), "accepted", ""),
        ((), "waiting", "no control plane has reported"),
        (
            (SERVING, replace(SERVING, instance="control-plane-2", bundle=OLD)),
            "waiting",
            "control-plane-2 does not serve",
        ),
        ((replace(SERVING, clients=(replace(GATEWAY, unsent=True),)),), "waiting", "gateway-1 has not answered"),
        (
            (replace(SERVING, clients=(replace(GATEWAY, waiting=("Cluster",)),)),),
            "waiting",
            "gateway-1 has not answered",
        ),
        ((replace(SERVING, clients=(GATEWAY, REFUSING)),), "refused", "gateway-2 refused Listener: unknown field"),
        # What is refused may be the bundle before: its successor is still on its way.
        ((replace(SERVING, clients=(replace(REFUSING, unsent=True),)),), "waiting", "gateway-2 has not answered"),
        ((replace(SERVING, bundle=OLD, clients=(REFUSING,)),), "waiting", "control-plane-1 does not serve"),
        ((replace(SERVING, bundle=OLD, refused_bundle=NEW, problems=("no",)),), "refused", "refused the bundle: no"),
    ],
)
def test_a_bundle_is_accepted_when_everybody_has_and_refused_when_anybody_has(
    known: tuple[ControlPlaneStatus, ...], state: str, reason: str
) -> None:
    verdict = status.judge(NEW, known)

    assert state == verdict.state
    assert reason in "; ".join(verdict.reasons)


def test_a_status_survives_etcd() -> None:
    told = replace(SERVING, clients=(GATEWAY, REFUSING), refused_bundle=OLD, problems=("one", "two"))

    assert told == status.decode(status.encode(told))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"instance": 1, "clients": 2}', b"\xff"])
def test_garbage_is_no_status(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a control plane's status"):
        status.decode(content)


def test_a_stream_knows_what_was_accepted_refused_and_not_answered() -> None:
    stream = Stream()
    stream.receive(Request(CDS))
    assert Progress() == stream.progress()

    (first,) = stream.due(snapshot(cds={"orders": "1"}))
    assert (CDS,) == stream.progress().waiting
    stream.receive(Request(CDS, version=first.version, nonce=first.nonce))
    assert Progress() == stream.progress()

    stream.changed(CDS, ["orders"])
    (second,) = stream.due(snapshot(cds={"orders": "2"}))
    stream.receive(Request(CDS, version=first.version, nonce=second.nonce, error="no"))
    assert Progress(refused=(Nack(CDS, second.version, "no"),)) == stream.progress()

    stream.changed(CDS, ["orders"])
    (third,) = stream.due(snapshot(cds={"orders": "1"}))
    assert Progress(waiting=(CDS,)) == stream.progress()
    stream.receive(Request(CDS, version=third.version, nonce=third.nonce))
    assert Progress() == stream.progress()


def test_asking_for_other_names_accepts_nothing() -> None:
    stream = Stream()
    stream.receive(Request(EDS, names=("a",)))
    (sent,) = stream.due(snapshot(eds={"a": "1", "b": "1"}))

    stream.receive(Request(EDS, names=("a", "b"), nonce=sent.nonce))

    assert (EDS,) == stream.progress().waiting


def test_a_stale_acceptance_is_none() -> None:
    stream = Stream()
    stream.receive(Request(LDS))
    (first,) = stream.due(snapshot(lds={"edge": "1"}))
    stream.changed(LDS, ["edge"])
    stream.due(snapshot(lds={"edge": "2"}))

    stream.receive(Request(LDS, version=first.version, nonce=first.nonce))

    assert (LDS,) == stream.progress().waiting


def test_streams_of_one_node_are_one_client() -> None:
    changes: list[bool] = []
    clients = Clients("control-plane-1", on_change=changes.append)
    node = Node("orders-1", "orders", Kind.GRPC, agent="gRPC C-core 1.85.1")
    refused = Progress(refused=(Nack(CDS, "v", "no"),))
    one, two = Reported(node), Reported(node, refused)
    clients.serving(NEW)
    clients.report(one, soon=False)
    clients.report(two, soon=False)

    (client,) = clients.status().clients
    assert ("orders-1", 2, (Refusal("Cluster", "v", "no"),)) == (client.node, client.streams, client.refusals)
    assert ("NACKED", "", "gRPC C-core 1.85.1") == (client.state, client.bundle, client.agent)
    assert 1.0 == refusing("grpc")
    # A refusal is told at once, endpoints on their way are not.
    assert [True, False, True] == changes

    clients.gone(two)
    assert 0.0 == refusing("grpc")
    assert (1, "SYNCED", NEW) == tuple(
        getattr(clients.status().clients[0], each) for each in ("streams", "state", "bundle")
    )

    clients.gone(one)
    clients.gone(one)
    assert () == clients.status().clients


def test_a_client_that_is_behind_says_since_when_and_which_bundle_it_had() -> None:
    began = datetime(2026, 11, 23, tzinfo=UTC)
    clients = Clients("control-plane-1")
    stream = Reported(Node("gateway-1", "edge", Kind.ENVOY))
    clients.serving(OLD)
    clients.report(stream, soon=True)
    clients.status()

    stream.made, stream.since = Progress(waiting=(LDS,)), began
    clients.serving(NEW)
    (client,) = clients.status().clients

    assert ("STALE", OLD, 90.0) == (client.state, client.bundle, client.age_s(began + timedelta(seconds=90)))
    (row,) = status.rows([clients.status()], began + timedelta(seconds=90))
    assert ("gateway-1", "control-plane-1", OLD, "STALE", 90.0, ["Listener"]) == tuple(
        row[key] for key in ("node", "control_plane", "version", "state", "age_s", "waiting")
    )


def test_those_in_trouble_are_told_of_first() -> None:
    behind = replace(GATEWAY, node="a-gateway", waiting=("Listener",), since="2026-11-23T00:00:00+00:00")
    told = status.rows([replace(SERVING, clients=(behind, GATEWAY, REFUSING))], datetime(2026, 11, 23, tzinfo=UTC))

    assert [("NACKED", "gateway-2"), ("STALE", "a-gateway"), ("SYNCED", "gateway-1")] == [
        (row["state"], row["node"]) for row in told
    ]


def test_a_status_of_an_older_control_plane_is_read() -> None:
    document = json.loads(status.encode(SERVING))
    for key in ("agent", "bundle", "since"):
        del document["clients"][0][key]

    assert SERVING == status.decode(json.dumps(document).encode())


def test_a_status_stays_small_and_tells_of_those_in_trouble() -> None:
    clients = Clients("control-plane-1")
    clients.serving(NEW)
    nacks = tuple(Nack(f"x.T{number}", "v", "w" * 500) for number in range(6))
    for number in range(CLIENTS_MAX):
        clients.report(Reported(Node(f"{number:0200}", "", Kind.GRPC)), soon=True)
    refusing_ones = [
        Reported(Node(f"z{number:0200}", "", Kind.GRPC, agent="a" * 60), Progress((), nacks), since=datetime.now(UTC))
        for number in range(CLIENTS_MAX)
    ]
    for each in refusing_ones:
        clients.report(each, soon=True)

    told = clients.status()

    assert CLIENTS_MAX == sum(bool(client.refusals) for client in told.clients) == len(told.clients)
    assert len(status.encode(told)) < 700_000
    for each in refusing_ones:
        clients.gone(each)


def test_a_refused_bundle_shows_until_one_is_taken() -> None:
    clients = Clients("control-plane-1")
    clients.serving(OLD)
    clients.refused(NEW, ["one", "two"])
    assert (OLD, NEW, ("one", "two")) == (
        clients.status().bundle,
        clients.status().refused_bundle,
        clients.status().problems,
    )
    assert 1.0 == REGISTRY.get_sample_value("weft_xds_bundle_refused")

    clients.serving(OLD)
    assert ("", 0.0) == (clients.status().refused_bundle, REGISTRY.get_sample_value("weft_xds_bundle_refused"))


def test_a_client_that_refuses_is_seen_until_it_accepts(
    control_plane: ControlPlane, client_of: Callable[..., object]
) -> None:
    refused = ("grpc", sample.cluster("orders", lb_policy="CLUSTER_PROVIDED"))
    control_plane.feeding(lambda feed: feed.set_endpoints([]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))
    client = client_of()
    client.ask("call", 0.5)  # type: ignore[attr-defined]

    def known() -> tuple[ClientState, ...]:
        return control_plane.clients.status().clients

    eventually(lambda: bool(known()) and all(each.settled and not each.refusals for each in known()), known)
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle(refused, *sample.rows()[1:])))
    eventually(lambda: bool(known()[0].refusals), known)
    assert ("Cluster", 1.0) == (known()[0].refusals[0].type, refusing("grpc"))

    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))
    eventually(lambda: known()[0].settled and not known()[0].refusals, known)
    assert 0.0 == refusing("grpc")


def test_what_nobody_waits_for_is_stored_later_and_what_did_not_change_never() -> None:
    stored: list[bytes] = []
    reads: list[float] = []

    class Announcing:
        def announce(self, key: bytes, value: bytes) -> None:
            stored.append(value)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        keeper = StatusKeeper(Announcing(), "control-plane-1")  # type: ignore[arg-type]

        def reading(bundle: str) -> Callable[[], ControlPlaneStatus]:
            def read() -> ControlPlaneStatus:
                reads.append(loop.time())
                return replace(SERVING, bundle=bundle)

            return read

        async def after(count: int, began: float) -> float:
            while len(reads) < count:
                await asyncio.sleep(0.005)
            return reads[count - 1] - began

        began = loop.time()
        keeper.changed(reading(NEW), soon=False)
        assert await after(1, began) >= IDLE_S
        began = loop.time()
        keeper.changed(reading(OLD), soon=False)
        keeper.changed(reading(OLD), soon=True)
        keeper.changed(reading(OLD), soon=False)
        assert await after(2, began) >= COALESCE_S
        keeper.changed(reading(OLD))
        await after(3, began)
        keeper.changed(reading(NEW))
        await after(4, began)

    asyncio.run(asyncio.wait_for(work(), 30))
    assert [NEW, OLD, NEW] == [status.decode(each).bundle for each in stored]


def test_whoever_publishes_waits_for_the_verdict() -> None:
    etcd = FakeEtcd()
    settings: EtcdSettings = settings_of(etcd.address)

    async def work() -> list[str]:
        async with Dialer(settings).session() as client:
            states = [(await settled(client, NEW, timeout_s=0.2)).state]
            for told in (SERVING, replace(SERVING, clients=(REFUSING,))):
                await client.put(Put(status_key("control-plane-1"), status.encode(told)))
                states.append((await settled(client, NEW, timeout_s=5)).state)
            return states

    try:
        assert ["waiting", "accepted", "refused"] == ask(etcd.address, lambda _: work())
        ask(etcd.address, lambda client: client.put(Put(status_key("broken"), b"{}")))
        assert ["control-plane-1"] == [each.instance for each in ask(etcd.address, statuses)]
    finally:
        etcd.close()


def refusing(kind: str) -> float | None:
    return REGISTRY.get_sample_value("weft_xds_clients_refusing", {"kind": kind})
