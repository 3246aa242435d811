"""Where the sources meet: bundle, endpoints and keys in, complete snapshots out to every stream.

The directories call the setters, the server's streams watch; all in one event loop. There is nothing to serve until
bundle and endpoints are both known, and what cannot be served (damaged keys, an incomplete snapshot) leaves the last
good one in place. New endpoints of one service make one resource, and are told to the streams that asked for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import structlog

from lb.endpoint import Endpoint
from lb.errors import BundleRefusedError, SnapshotRefusedError
from lb.xds import laned, metrics
from lb.xds.bundle import Bundle
from lb.xds.resources import assigned_clusters, assignments, by_cluster, checked_keys, seen_from, snapshots
from lb.xds.snapshot import Changes, Snapshot, TypeSet
from lb.xds.subscribers import Subscribers
from lb.xds.types import EDS, Kind, short
from weft_protos import lanes
from weft_protos.lanes import Lane

log = structlog.get_logger(__name__)


class Feed:
    """The current snapshot of each kind of client, and who wants to hear of the next."""

    def __init__(self) -> None:
        self._bundle: Bundle | None = None
        self._needed: frozenset[str] = frozenset()
        self._members: Mapping[str, Sequence[Endpoint]] | None = None
        self._keys: str | None = None
        self._lanes: tuple[Lane, ...] = ()
        self._laned: Mapping[str, str] = {}
        """The service of each lane's cluster."""
        self._snapshots: Mapping[Kind, Snapshot] = {}
        # Endpoints as seen from a zone that has some, made when somebody there asks, and snapshots with them.
        self._zones: frozenset[str] = frozenset()
        self._seen: dict[str, TypeSet] = {}
        self._views: dict[tuple[Kind, str], Snapshot] = {}
        self._listeners: dict[object, Callable[[], None]] = {}
        self._subscribers = {kind: Subscribers() for kind in Kind}

    @property
    def loaded(self) -> bool:
        """True once there is something to serve."""
        return bool(self._snapshots)

    def snapshot(self, kind: Kind, zone: str = "") -> Snapshot | None:
        """What clients of a kind in a zone are served now; None: nothing is known yet, so nothing may be answered."""
        shared = self._snapshots.get(kind)
        if shared is None or zone not in self._zones:
            return shared
        if zone not in self._seen:
            self._seen[zone] = shared.of(EDS).replaced(seen_from(zone, self._members or {}), ())
        if (kind, zone) not in self._views:
            self._views[kind, zone] = shared.with_type(EDS, self._seen[zone])
        return self._views[kind, zone]

    def clusters_of(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Under which names clients may have been told of it: a stable one stands behind the lanes of its service."""
        if endpoint.lane:
            return (endpoint.cluster,)
        return (endpoint.cluster, *(name for name, service in self._laned.items() if service == endpoint.service))

    def announces(self, endpoint: Endpoint) -> bool:
        """Whether clients of the endpoint's service or lane are sent to its address."""
        members = (self._members or {}).get(endpoint.cluster, ())
        return (endpoint.address, endpoint.port) in {(each.address, each.port) for each in members}

    def subscribers(self, kind: Kind) -> Subscribers:
        """The streams of a kind of client, by what they want to hear of."""
        return self._subscribers[kind]

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
        first, before = self._members is None, self._members or {}
        after = self._members = by_cluster(endpoints)
        self._zones = frozenset(each.zone for members in after.values() for each in members) - {""}
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        for name in changed:
            metrics.ENDPOINTS.labels(service=name).set(len(after.get(name, ())))
        if first or not self.loaded:
            self._publish()
        elif changed:
            self._reassign(changed)

    def set_keys(self, document: bytes) -> None:
        """Have tokens checked with this JWK set. A damaged one is refused; the last good one stays."""
        try:
            self._keys = checked_keys(document)
        except ValueError as error:
            log.error("keys_refused", reason=str(error))
            metrics.REFUSED.labels(source="keys").inc()
        else:
            self._publish()

    def set_lanes(self, document: bytes) -> bool:
        """Have these lanes and no others. False for a damaged document, which is refused; the last good one stays."""
        try:
            wanted = lanes.from_bytes(document)
        except ValueError as error:
            log.error("lanes_refused", reason=str(error))
            metrics.REFUSED.labels(source="lanes").inc()
            return False
        if wanted != self._lanes:
            log.info("lanes_taken", lanes=[lane.name for lane in wanted])
            self._lanes, self._laned = wanted, laned.clusters(wanted)
            self._publish()
        return True

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after every new snapshot; the function returned ends that."""
        token = object()
        self._listeners[token] = listener
        return lambda: self._listeners.pop(token, None) and None

    def _reassign(self, services: Iterable[str]) -> None:
        """Make the endpoints' resources of these services anew, and of no others."""
        members = self._members or {}
        served = next(iter(self._snapshots.values())).of(EDS)
        services = {*services, *(name for name, behind in self._laned.items() if behind in services)}
        there = [name for name in services if self._is_assigned(name)]
        made = assignments(members, there, self._laned)
        changed = {each.name: each for each in made if each != served.resources.get(each.name)}
        removed = [name for name in services if name in served.resources and name not in there]
        if changed or removed:
            after = served.replaced(changed, removed)
            of_changed = {name: members[name] for name in changed if name in members}
            self._seen = {
                zone: seen.replaced(changed | seen_from(zone, of_changed), removed)
                for zone, seen in self._seen.items()
                if zone in self._zones
            }
            new = {kind: snapshot.with_type(EDS, after) for kind, snapshot in self._snapshots.items()}
            names = frozenset({*changed, *removed})
            self._serve(new, {kind: {EDS: names} for kind in new})

    def _publish(self) -> bool:
        """Make everything anew."""
        if self._bundle is None or self._members is None:
            return True
        served = self._served_lanes()
        before, self._needed = self._needed, assigned_clusters(self._bundle) | laned.clusters(served).keys()
        try:
            there = {name for name in (*self._members, *self._needed) if self._is_assigned(name)}
            assigned = assignments(self._members, there, self._laned)
            new = snapshots(self._bundle, assigned, self._keys, served)
        except SnapshotRefusedError as error:
            log.error("snapshot_refused", problems=list(error.problems)[:10])
            metrics.REFUSED.labels(source="snapshot").inc()
            self._needed = before
            return False
        self._seen.clear()
        # One object for all kinds: whoever changes it later changes it once.
        endpoints = new[Kind.GRPC].of(EDS)
        new = {kind: snapshot.with_type(EDS, endpoints) for kind, snapshot in new.items()}
        changes = {kind: snapshot.changes_since(self._snapshots.get(kind)) for kind, snapshot in new.items()}
        if not self.loaded or any(changes.values()):
            self._serve(new, changes)
        return True

    def _is_assigned(self, name: str) -> bool:
        """Whether there are endpoints of that name; those in a lane that nobody has declared are told to nobody."""
        return name in self._needed or (name in (self._members or {}) and "@" not in name)

    def _served_lanes(self) -> tuple[Lane, ...]:
        """The lanes, without services that no contract has."""
        assert self._bundle is not None
        known = self._bundle.clusters.keys()
        kept = [(lane, tuple(service for service in lane.services if service in known)) for lane in self._lanes]
        return tuple(replace(lane, services=services) for lane, services in kept if services)

    def _serve(self, new: Mapping[Kind, Snapshot], changes: Mapping[Kind, Changes]) -> None:
        first = not self.loaded
        self._snapshots = new
        self._views.clear()
        for type_url in {type_url for changed in changes.values() for type_url in changed}:
            sets = {id(found): found for found in (new[kind].of(type_url) for kind in Kind)}
            count = len({name for found in sets.values() for name in found.resources})
            metrics.RESOURCES.labels(type=short(type_url)).set(count)
        for kind, subscribers in self._subscribers.items():
            if first:
                subscribers.tell_all()
            subscribers.tell(changes[kind])
        for listener in tuple(self._listeners.values()):
            listener()
