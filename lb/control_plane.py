"""The control plane process.

The only module that joins registry and xDS: what follows etcd is wired to what answers clients here, top to bottom.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import structlog

from lb import exposition
from lb.config import ControlPlaneSettings, host_port
from lb.credentials import Credentials
from lb.endpoint import Endpoint
from lb.errors import BundleRefusedError, SettingsError
from lb.lastgood import LastGood
from lb.registry.directory import Directory
from lb.registry.endpoints import Endpoints, refusals
from lb.registry.entries import PRIVATE, Entries
from lb.registry.etcd import Dialer, KeyRange, Record
from lb.registry.keeper import Keeper, Source
from lb.registry.keys import document_key, encode, endpoint_key, left_key
from lb.registry.publication import Follower
from lb.registry.registrar import Registrar
from lb.registry.statuses import StatusKeeper
from lb.xds import bundle, collector, metrics
from lb.xds.clients import Clients
from lb.xds.departures import Departures
from lb.xds.feed import Feed
from lb.xds.gateways import Gateways
from lb.xds.resources import checked_keys
from lb.xds.server import Server
from lb.xds.types import EDS, Kind
from weft_protos import lanes

log = structlog.get_logger(__name__)

#: Name of the document that holds the public keys of tokens.
_KEYS_DOCUMENT: Final = "jwks"
#: Streams get this long to end by themselves when the process stops.
_GRACE_S: Final = 0.5


async def control_plane(settings: ControlPlaneSettings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    # Every task and call below begins in this context, so each of their lines says whose it is.
    structlog.contextvars.bind_contextvars(service="control-plane", instance=settings.instance)
    feed = Feed()
    registrar = Registrar(Dialer(settings.etcd))
    keeper = StatusKeeper(registrar, settings.instance)
    clients = Clients(settings.instance, on_change=lambda soon: keeper.changed(clients.status, soon=soon))
    gateways = Gateways(
        arrived=lambda endpoint: registrar.announce(_key(endpoint), encode(endpoint)),
        departed=lambda endpoint: registrar.withdraw(_key(endpoint)),
    )
    departures = _departures(feed, registrar, settings.instance)
    server = Server(feed, gateways, clients, departures)
    credentials = None if settings.identity is None else Credentials(settings.identity).server()

    followers = (*_following(settings, feed, clients, departures), registrar.run())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    if settings.metrics_port:
        try:
            host = host_port(settings.listen, "WEFT_LISTEN")[0].strip("[]")
            answers = {exposition.READY: lambda: server.ready, exposition.ALIVE: lambda: True}
            exposition.start(settings.metrics_port, host, answers)
        except OSError as error:
            raise SettingsError(f"WEFT_METRICS_PORT: {settings.metrics_port}: {error.strerror}") from error
    try:
        port = await server.start(settings.listen, credentials)
    except RuntimeError as error:
        raise SettingsError(f"WEFT_LISTEN: {settings.listen} cannot be listened on: {error}") from error
    log.info("control_plane_listening", port=port)
    tasks = [asyncio.ensure_future(each) for each in (*followers, _serve_when_loaded(feed, server))]
    stopping = asyncio.ensure_future(stop.wait())
    # A follower never ends: one that does has a defect, and the process must not go on half blind.
    done, _ = await asyncio.wait([stopping, *tasks[:-1]], return_when=asyncio.FIRST_COMPLETED)
    log.info("control_plane_stopping")
    await server.stop(_GRACE_S)
    if stopping not in done:
        done.pop().result()
    for task in (stopping, *tasks):
        task.cancel()
    await asyncio.gather(stopping, *tasks, return_exceptions=True)
    return 0


def _following(
    settings: ControlPlaneSettings, feed: Feed, clients: Clients, departures: Departures
) -> tuple[Coroutine[Any, Any, Any], ...]:
    """What keeps the feed up to date: from the registry, or, while that is silent, from what was good last."""
    keeper = Keeper(None if settings.state is None else LastGood(settings.state))
    told: dict[str, bytes] = {}
    known: set[str] = set()

    def take_bundle(manifest: bytes, pieces: Mapping[str, bytes]) -> None:
        taken = bundle.parse(manifest, pieces)
        feed.set_bundle(taken)
        clients.serving(taken.digest)
        keeper.bundle(manifest, pieces)
        known.clear()
        known.update(each.name for kind in Kind for each in taken.references[kind] if each.type_url == EDS)
        endpoints.reconsider()

    def refuse_bundle(digest: str, problems: Sequence[str]) -> None:
        metrics.REFUSED.labels(source="bundle").inc()
        clients.refused(digest, problems)

    def take_endpoints(found: tuple[Endpoint, ...]) -> None:
        feed.set_endpoints(found)
        keeper.endpoints(found)

    def take_keys(records: Mapping[bytes, Record]) -> None:
        for record in records.values():  # none: the keys that are known stay good
            told["keys"] = record.value
            feed.set_keys(record.value)
            with contextlib.suppress(ValueError):  # damaged: the feed has said so
                checked_keys(record.value)
                keeper.keys(record.value)

    def take_lanes(records: Mapping[bytes, Record]) -> None:
        for record in records.values():  # none: the lanes that are known stay
            told["lanes"] = record.value
            if feed.set_lanes(record.value):
                keeper.lanes(record.value)

    entries = Entries(
        networks=settings.networks or PRIVATE,
        known=lambda service: not known or service in known,
        on_refused=refusals(lambda reason: metrics.REGISTRY_REFUSED.labels(reason=reason).inc()),
    )
    follower = Follower(
        Dialer(settings.etcd), pieces_of=bundle.pieces_of, on_bundle=take_bundle, on_refused=refuse_bundle
    )
    endpoints = Endpoints(
        Dialer(settings.etcd), on_change=take_endpoints, on_leaving=departures.follow, entries=entries
    )
    keys = Directory(Dialer(settings.etcd), KeyRange(document_key(_KEYS_DOCUMENT)), on_change=take_keys)

    lanes_ = Directory(Dialer(settings.etcd), KeyRange(document_key(lanes.DOCUMENT)), on_change=take_lanes)

    last_bundle, last_keys, last_lanes = keeper.last_bundle(), keeper.last_keys(), keeper.last_lanes()
    endpoints.remember(keeper.last_endpoints())
    sources = [Source(lambda: endpoints.loaded, endpoints.announce_remembered)]
    if last_keys is not None:
        sources.append(Source(lambda: "keys" in told, lambda: feed.set_keys(last_keys)))
    if last_lanes is not None:
        sources.append(Source(lambda: "lanes" in told, lambda: _recall_lanes(feed, last_lanes)))
    if last_bundle is not None:
        follower.remember(*last_bundle)
        sources.append(Source(lambda: follower.loaded, lambda: _recall_bundle(take_bundle, *last_bundle)))
    return follower.run(), endpoints.run(), keys.run(), lanes_.run(), keeper.run(sources)


def _recall_lanes(feed: Feed, document: bytes) -> None:
    feed.set_lanes(document)


def _recall_bundle(
    take: Callable[[bytes, Mapping[str, bytes]], None], manifest: bytes, pieces: Mapping[str, bytes]
) -> None:
    try:
        take(manifest, pieces)
    except BundleRefusedError as error:
        log.error("bundle_refused", digest="last good", problems=list(error.problems)[:10])


async def _serve_when_loaded(feed: Feed, server: Server) -> None:
    loaded = asyncio.Event()
    unsubscribe = feed.subscribe(loaded.set)
    if not feed.loaded:
        await loaded.wait()
    unsubscribe()
    collector.calm()
    await server.set_serving()
    log.info("control_plane_serving")


def _key(endpoint: Endpoint) -> bytes:
    return endpoint_key(endpoint.service, endpoint.instance)


def _departures(feed: Feed, registrar: Registrar, control_plane: str) -> Departures:
    def key(leaver: Endpoint) -> bytes:
        return left_key(leaver.service, leaver.instance, control_plane)

    return Departures(
        feed,
        answer=lambda leaver, value: registrar.announce(key(leaver), value),
        withdraw=lambda leaver: registrar.withdraw(key(leaver)),
    )
