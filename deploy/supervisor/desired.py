"""The desired state: which parts, how many of each, on which ports. Written by `Mesh`, read by the daemon.

It is a file (`run/desired.json`), so that the daemon needs no argument and no environment, and so that the state
that was asked for can be looked at beside the state there is.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from deploy.supervisor import durable, lane
from deploy.supervisor.autoscale import Bounds
from deploy.supervisor.config import ARCHIVE_DAYS, CONSUMER_SAMPLE, REPORT_MEMORY_MB, TRACES, ZIPKIN, Settings
from deploy.supervisor.edge_certificate import Given
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.lane import LaneSpec
from weft_protos import lanes, manifests, mesh_parts

_T = TypeVar("_T")

_SERVICES: tuple[str, ...] = tuple(one.name for one in mesh_parts.SERVICES)
_WORKERS: tuple[str, ...] = ("relay", *(one.process for one in mesh_parts.WORKERS))

DEFAULT_SIZES: Mapping[str, int] = {
    "memcached": 2,
    "control-plane": 2,
    **{one.name: one.instances for one in mesh_parts.SERVICES},
    "relay": 1,
    **{one.process: one.instances for one in mesh_parts.WORKERS},
    "gateway": 2,
}
"""Instances of everything that can have more than one."""

HA_SIZES: Mapping[str, int] = {name: max(2, size) for name, size in DEFAULT_SIZES.items()} | {"memcached": 3}
"""The same in the profile `ha`: nothing is there only once."""

SCALABLE: tuple[str, ...] = (*_SERVICES, *_WORKERS, "gateway")
"""What may be resized while the mesh runs: nobody knows these by a list that is read at the start."""

LANED: tuple[str, ...] = mesh_parts.STORING
"""What may have lanes: whom others call. Who keeps nothing only shows what the others do."""

AUTOSCALED: Mapping[str, Bounds] = {
    **{one.name: Bounds(*one.autoscale) for one in mesh_parts.SERVICES if one.autoscale is not None},
    "relay": Bounds(1, 2),
    **{one.process: Bounds(*one.autoscale) for one in mesh_parts.WORKERS if one.autoscale is not None},
}
"""What is sized by its load unless somebody says otherwise, and between which bounds: small ones, for one machine."""

INSTANCES_MAX = manifests.INSTANCES_MAX
"""More instances of one part than any single machine makes sense of."""


def instances_max(name: str) -> int:
    """The most instances of a part; of gateways, as many as every limit of a contract can be divided by."""
    return manifests.GATEWAYS_MAX if name == "gateway" else INSTANCES_MAX


@dataclass(frozen=True, slots=True)
class Desired:
    """Everything the daemon has to know to build the stack."""

    profile: str = "local"
    ha: bool = False
    gateway_port: int | None = 8080
    gateway_tls_port: int = 8443
    tls_certificate: str = ""
    tls_key: str = ""
    mtls: bool = False
    port_base: int = 21000
    free_ports: bool = False
    """Every port, the gateways' too, is any free one: for a mesh beside another one."""
    sizes: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_SIZES))
    auto: Mapping[str, Bounds] = field(default_factory=dict)
    """What is sized by its load, so that `sizes` is only what it has now."""
    only: tuple[str, ...] = ()
    """Start these parts and what they need, nothing else; empty = everything."""
    log_level: str = "info"
    trace_ratio: float = 1.0
    otlp_endpoint: str = ""
    traces: str = TRACES[0]
    zipkin_jar: str = ""
    """The user's own; empty: the one that Weft fetched."""
    consumer_sample: int = CONSUMER_SAMPLE
    archive_days: int = ARCHIVE_DAYS
    report_memory_mb: int = REPORT_MEMORY_MB
    ephemeral: bool = False
    """A test's mesh: no fsync, and every process dies with the daemon, the daemon with its parent."""
    crash_points: str = ""
    """Of a test's mesh: the directory whose files say where a process ends itself; empty: nowhere."""
    lanes: Mapping[str, LaneSpec] = field(default_factory=dict)
    """Instances of other versions, by the lane's name."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        ports: Literal["default", "free"] = "default",
        sizes: Mapping[str, int] | None = None,
        only: tuple[str, ...] = (),
        ephemeral: bool = False,
    ) -> "Desired":
        """The state that `settings` and the caller ask for. Raises ConfigError for a size nothing has."""
        if settings.crash_points is not None and not (ephemeral and settings.profile == "local"):
            raise ConfigError("crash points are for the mesh of a test, and for no other")
        return cls(
            profile=settings.profile,
            ha=settings.ha,
            gateway_port=settings.gateway_port,
            gateway_tls_port=settings.gateway_tls_port,
            tls_certificate=str(settings.tls_certificate or ""),
            tls_key=str(settings.tls_key or ""),
            mtls=settings.mtls,
            port_base=settings.port_base,
            free_ports=ports == "free",
            sizes=complete_sizes(sizes or {}, usual=HA_SIZES if settings.ha else DEFAULT_SIZES),
            # A test, and whoever asks for a certain size, gets what was asked for and nothing else.
            auto={
                name: bounds
                for name, bounds in usual_bounds(ha=settings.ha).items()
                if settings.autoscale and not ephemeral and not only and name not in (sizes or {})
            },
            only=only,
            log_level=settings.log_level,
            trace_ratio=settings.trace_ratio,
            otlp_endpoint=settings.otlp_endpoint,
            traces=settings.traces,
            zipkin_jar=str(settings.zipkin_jar or "") if settings.traces == ZIPKIN else "",
            consumer_sample=settings.consumer_sample,
            archive_days=settings.archive_days,
            report_memory_mb=settings.report_memory_mb,
            ephemeral=ephemeral,
            crash_points=str(settings.crash_points or ""),
        )

    def resized(self, service: str, size: int, *, for_now: bool = False) -> "Desired":
        """The same with another size, whatever the load; `for_now`: until the load asks for another one.

        Raises ConfigError for what cannot be resized.
        """
        sizes = complete_sizes({**self.sizes, service: _scalable(service, size)})
        if for_now:
            return replace(self, sizes=sizes)
        return replace(self, sizes=sizes, auto={name: bounds for name, bounds in self.auto.items() if name != service})

    def sized_by_load(self, service: str, bounds: Bounds | None) -> "Desired":
        """The same with a number of instances that follows the load; None: within the usual bounds.

        Raises ConfigError for what has no load that is measured, or bounds that make no sense.
        """
        if service not in AUTOSCALED:
            known = ", ".join(AUTOSCALED)
            raise ConfigError(f"{service} has no load that says how many are needed; measured are {known}")
        bounds = bounds or usual_bounds(ha=self.ha)[service]
        sizes = complete_sizes({**self.sizes, service: bounds.clamp(self.sizes[service])})
        complete_sizes({service: bounds.most})
        return replace(self, sizes=sizes, auto={**self.auto, service: bounds})

    def following(self, sizes: Mapping[str, int]) -> "Desired":
        """The same with the sizes that the load asks for."""
        return replace(self, sizes=complete_sizes({**self.sizes, **sizes}))

    def taken_back(self, before: "Desired", after: "Desired") -> "Desired":
        """The same, but for what differs between `before` and `after`: that is as it was before."""
        return replace(
            self,
            sizes=_taken_back(self.sizes, before.sizes, after.sizes),
            auto=_taken_back(self.auto, before.auto, after.auto),
            lanes=_taken_back(self.lanes, before.lanes, after.lanes),
        )

    def lane(self, name: str) -> LaneSpec:
        """The lane of that name. Raises ConfigError where there is none."""
        if name not in self.lanes:
            known = f"there are {', '.join(self.lanes)}" if self.lanes else "there is none"
            raise ConfigError(f"no lane is called {name}; {known}")
        return self.lanes[name]

    def with_lane(self, name: str, spec: LaneSpec) -> "Desired":
        """The same with one lane more. Raises ConfigError for one that cannot be, or is there already."""
        if name in self.lanes:
            raise ConfigError(f"there is a lane {name} already; `weft lane end {name}` ends it")
        if len(self.lanes) >= lanes.LANES_MAX:
            raise ConfigError(f"there are {len(self.lanes)} lanes already")
        lane.check(name, spec, services=LANED, parts=frozenset(DEFAULT_SIZES))
        return replace(self, lanes={**self.lanes, name: spec})

    def with_share(self, name: str, percent: float) -> "Desired":
        """The same with another share of the subjects in a lane. Raises ConfigError."""
        spec = self.lane(name)
        if spec.rolled_back:
            raise ConfigError(f"{name} was rolled back: {spec.rolled_back}; end it, and start a better one")
        shifted = replace(spec, percent=percent)
        shifted.routing(name)
        return replace(self, lanes={**self.lanes, name: shifted})

    def with_lane_rolled_back(self, name: str, reason: str) -> "Desired":
        """The same with a lane that has no instances any more, and is entered by nobody. Raises ConfigError."""
        return replace(self, lanes={**self.lanes, name: replace(self.lane(name), rolled_back=reason)})

    def without_lane(self, name: str) -> "Desired":
        """The same without a lane. Raises ConfigError."""
        self.lane(name)
        return replace(self, lanes={other: spec for other, spec in self.lanes.items() if other != name})

    def given(self) -> Given | None:
        """The certificate of the user's own, where there is one."""
        return Given(Path(self.tls_certificate), Path(self.tls_key)) if self.tls_certificate else None

    def own_jar(self) -> Path | None:
        """The user's own zipkin-server, where there is one."""
        return Path(self.zipkin_jar) if self.zipkin_jar else None

    def write(self, path: Path) -> None:
        """Store at `path`. Raises OSError; then there is what was there before."""
        durable.write(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> "Desired":
        """What `write` stored; a service that came or went since has no instances until the mesh is asked for anew."""
        fields = json.loads(path.read_text())
        sizes = fields.pop("sizes")
        auto = {name: Bounds(**bounds) for name, bounds in fields.pop("auto", {}).items() if name in DEFAULT_SIZES}
        laned = {name: lane.of(spec) for name, spec in fields.pop("lanes", {}).items()}
        known = {name: sizes.get(name, 0) for name in DEFAULT_SIZES}
        return cls(**{**fields, "sizes": known, "only": tuple(fields["only"]), "auto": auto, "lanes": laned})


def _taken_back(now: Mapping[str, _T], before: Mapping[str, _T], after: Mapping[str, _T]) -> dict[str, _T]:
    changed = {name for name in (*before, *after) if before.get(name) != after.get(name)}
    kept = {name: value for name, value in now.items() if name not in changed or name in before}
    return {**kept, **{name: value for name, value in before.items() if name in changed}}


def _scalable(service: str, size: int) -> int:
    if service in DEFAULT_SIZES and service not in SCALABLE:
        raise ConfigError(f"{service} keeps its size while the mesh runs; resizable are {', '.join(SCALABLE)}")
    return size


def usual_bounds(*, ha: bool) -> Mapping[str, Bounds]:
    """Between which sizes the load decides where nobody says otherwise."""
    least = 2 if ha else 1
    return {name: Bounds(max(least, bounds.least), max(least, bounds.most)) for name, bounds in AUTOSCALED.items()}


def complete_sizes(wanted: Mapping[str, int], *, usual: Mapping[str, int] = DEFAULT_SIZES) -> dict[str, int]:
    """`wanted` over what is usual. Raises ConfigError for an unknown name or an impossible number."""
    for name, size in wanted.items():
        if name not in DEFAULT_SIZES:
            raise ConfigError(f"nothing called {name} has a size; known are {', '.join(DEFAULT_SIZES)}")
        if not 0 <= size <= instances_max(name):
            raise ConfigError(f"size of {name} is {size}; give 0 to {instances_max(name)}")
    return {**usual, **wanted}
