"""Where the sources meet: bundle, endpoints and keys in, complete snapshots out to every stream.

The directories call the setters, the server's streams subscribe; all in one event loop. There is nothing to serve until
bundle and endpoints are both known, and what cannot be served (damaged keys, an incomplete snapshot) leaves the last
good one in place.
"""

from collections.abc import Callable, Iterable, Mapping

import structlog

from lb.endpoint import Endpoint
from lb.errors import BundleRefusedError, SnapshotRefusedError
from lb.xds import metrics
from lb.xds.bundle import Bundle
from lb.xds.resources import checked_keys, seen_from, snapshots
from lb.xds.snapshot import Snapshot
from lb.xds.types import ORDER, Kind, short

log = structlog.get_logger(__name__)


class Feed:
    """The current snapshot of each kind of client, and who wants to hear of the next."""

    def __init__(self) -> None:
        self._bundle: Bundle | None = None
        self._endpoints: tuple[Endpoint, ...] | None = None
        self._keys: str | None = None
        self._snapshots: Mapping[Kind, Snapshot] = {}
        # What the snapshots were made of, and the same as seen from a zone, made when somebody there asks.
        self._announced: tuple[Endpoint, ...] = ()
        self._zones: frozenset[str] = frozenset()
        self._views: dict[tuple[Kind, str], Snapshot] = {}
        self._listeners: dict[object, Callable[[], None]] = {}

    @property
    def loaded(self) -> bool:
        """True once there is something to serve."""
        return bool(self._snapshots)

    def snapshot(self, kind: Kind, zone: str = "") -> Snapshot | None:
        """What clients of a kind in a zone are served now; None: nothing is known yet, so nothing may be answered."""
        shared = self._snapshots.get(kind)
        if shared is None or not zone or zone not in self._zones:
            return shared
        if (kind, zone) not in self._views:
            self._views[kind, zone] = seen_from(zone, shared, self._announced)
        return self._views[kind, zone]

    def set_bundle(self, bundle: Bundle) -> None:
        """Serve another bundle. Raises BundleRefusedError where a live client could not take the change."""
        if self._bundle is not None:
            # A cluster that turns from EDS into an aggregate crashes gRPC clients that use it.
            changed = [
                f"cluster {name!r} is {kind} and was {self._bundle.clusters[name]}: give it another name"
                for name, kind in bundle.clusters.items()
                if self._bundle.clusters.get(name, kind) != kind
            ]
            if changed:
                raise BundleRefusedError(changed)
        before, self._bundle = self._bundle, bundle
        if not self._publish():
            self._bundle = before
            raise BundleRefusedError(["it does not make a complete snapshot"])

    def set_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """Announce these endpoints and no others."""
        self._endpoints = tuple(endpoints)
        counts: dict[str, int] = {}
        for endpoint in self._endpoints:
            counts[endpoint.service] = counts.get(endpoint.service, 0) + 1
        metrics.endpoints(counts)
        self._publish()

    def set_keys(self, document: bytes) -> None:
        """Have tokens checked with this JWK set. A damaged one is refused; the last good one stays."""
        try:
            self._keys = checked_keys(document)
        except ValueError as error:
            log.error("keys_refused", reason=str(error))
            metrics.REFUSED.labels(source="keys").inc()
        else:
            self._publish()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after every new snapshot; the function returned ends that."""
        token = object()
        self._listeners[token] = listener
        return lambda: self._listeners.pop(token, None) and None

    def _publish(self) -> bool:
        if self._bundle is None or self._endpoints is None:
            return True
        try:
            new = snapshots(self._bundle, self._endpoints, self._keys)
        except SnapshotRefusedError as error:
            log.error("snapshot_refused", problems=list(error.problems)[:10])
            metrics.REFUSED.labels(source="snapshot").inc()
            return False
        if new != self._snapshots:
            self._snapshots, self._announced = new, self._endpoints
            self._zones = frozenset(endpoint.zone for endpoint in self._endpoints)
            self._views.clear()
            for type_url in ORDER:
                count = len({name for kind in Kind for name in new[kind].of(type_url).resources})
                metrics.RESOURCES.labels(type=short(type_url)).set(count)
            for listener in tuple(self._listeners.values()):
                listener()
        return True
