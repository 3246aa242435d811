"""Policies of the linked contracts: what the options on a method, a service or an event come to.

Gateway, chassis and workers all read policies here, so that they cannot disagree. Nothing in this module decides:
whether a policy may be compiled at all is the gateway compiler's word.
"""

import math
import pkgutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Final

from google.protobuf.descriptor import Descriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MessageOptions, MethodOptions, ServiceOptions

import weft
from weft.options.v1 import policy_pb2
from weft.options.v1.policy_pb2 import Consistency, EventPolicy, MethodPolicy

#: The most bytes of a request whose contract says no less, and the most that a contract may say. 500 items of an order
#: are 40 kB in protobuf and 80 kB in JSON.
REQUEST_BYTES_MAX: Final = 224 << 10

#: The longest from the moment at which a value was read to the moment at which it lies in the cache.
FILL_S: Final = 5.0

#: Pauses between the deliveries of an event whose contract names none.
RETRY_PAUSES_S: Final = (2.0,) * 4

#: The scope of those who run the mesh. Guards what no single service owns; an operator has it beside all others.
OPERATE: Final = "mesh.operate"


#: Each is taken from the method whole, or from its service.
_PARTS: Final = ("rate_limit", "timeout", "retry", "cache", "max_request_bytes", "hedging", "slo", "consistency", "mcp")


def merge(service: ServiceOptions, method: MethodOptions) -> MethodPolicy:
    """Overlay a method's policy on its service's defaults.

    Each part (`rate_limit`, `timeout`, `retry`, `cache`, `max_request_bytes`, `criticality`, `hedging`, `slo`,
    `consistency`, `mcp`) that the method states replaces the service's whole part; access is one part: a method that
    states `public` or `scopes` inherits neither. Errors add up, and so do invalidations.
    """
    policy = MethodPolicy()
    policy.CopyFrom(service.Extensions[policy_pb2.defaults])
    own = method.Extensions[policy_pb2.policy]
    if own.public or own.scopes:
        policy.ClearField("public")
        policy.ClearField("scopes")
    for part in _PARTS:
        if own.HasField(part):
            policy.ClearField(part)
    policy.MergeFrom(own)
    return policy


def effective(method: MethodDescriptor) -> MethodPolicy:
    """The policy that holds for a method of the linked contracts."""
    return merge(method.containing_service.GetOptions(), method.GetOptions())


def request_bytes(policy: MethodPolicy) -> int:
    """The most bytes of a request of a method with this policy."""
    return policy.max_request_bytes if policy.HasField("max_request_bytes") else REQUEST_BYTES_MAX


def consistency(policy: MethodPolicy) -> tuple[str, float]:
    """The promise of a method (`strong`, `bounded` or `eventual`), and how many seconds old its answers may be."""
    said = policy.consistency
    if said.level == Consistency.LEVEL_EVENTUAL:
        return "eventual", math.inf
    if said.level == Consistency.LEVEL_BOUNDED_STALENESS:
        return "bounded", said.max_staleness.ToTimedelta().total_seconds()
    if said.level == Consistency.LEVEL_UNSPECIFIED and policy.HasField("cache"):
        return "bounded", policy.cache.ttl.ToTimedelta().total_seconds() + FILL_S
    return "strong", 0.0


def cache_ttl_s(policy: MethodPolicy) -> float:
    """How long an entry may live so that the method keeps its promise, a second at least.

    Where even that is too long, the cache is asked for younger ones: `svc.chassis.cached_reads`.
    """
    return max(1.0, min(policy.cache.ttl.ToTimedelta().total_seconds(), consistency(policy)[1] - FILL_S))


def event_policy(message: Descriptor) -> EventPolicy | None:
    """Routing of an event type, or None where the message is not an event."""
    options: MessageOptions = message.GetOptions()
    if not options.HasExtension(policy_pb2.event):
        return None
    return options.Extensions[policy_pb2.event]


def retry_pauses(policy: EventPolicy | None) -> tuple[float, ...]:
    """Seconds that deliveries of an event wait after each failure; it is delivered once more than there are pauses.

    With None, those of an event whose contract says nothing.
    """
    if policy is None:
        return RETRY_PAUSES_S
    said = tuple(pause.ToNanoseconds() / 1e9 for pause in policy.retry_after) or RETRY_PAUSES_S
    if not policy.max_deliveries:
        return said
    pauses = policy.max_deliveries - 1
    return (said + said[-1:] * pauses)[:pauses]


def retention_s(policy: EventPolicy) -> float | None:
    """Seconds that the outbox keeps an event after its publication; None: for good."""
    return policy.retention.ToNanoseconds() / 1e9 if policy.HasField("retention") else None


def criticality(policy: MethodPolicy) -> int:
    """How much a method matters under overload, as a number of the enum; never unspecified."""
    return policy.criticality or policy_pb2.CRITICALITY_DEFAULT


def service_owner(service: str) -> str:
    """Name of the mesh service that serves a contract: `weft.orders.v1.InventoryService` -> `orders`."""
    return service.split(".")[1]


def _files() -> Iterator[FileDescriptor]:
    modules = (module.name for module in pkgutil.walk_packages(weft.__path__, f"{weft.__name__}."))
    for name in sorted(name for name in modules if name.endswith("_pb2")):
        file: FileDescriptor = import_module(name).DESCRIPTOR
        if file.services_by_name or any(map(event_policy, file.message_types_by_name.values())):
            yield file


#: Every contract with services or events that is generated, by name.
FILES: Final[tuple[FileDescriptor, ...]] = tuple(_files())

#: Every contract service, in the order of the files.
SERVICES: Final[tuple[ServiceDescriptor, ...]] = tuple(
    service for file in FILES for service in file.services_by_name.values()
)

#: Every event type, in the order of the files.
EVENTS: Final[tuple[Descriptor, ...]] = tuple(
    message
    for file in FILES
    for message in file.message_types_by_name.values()
    if message.GetOptions().HasExtension(policy_pb2.event)
)


def queues(events: Iterable[Descriptor] = EVENTS) -> frozenset[str]:
    """Every work queue that contracts name."""
    policies = filter(None, map(event_policy, events))
    return frozenset(queue for one in policies for queue in one.queues)


def scopes() -> frozenset[str]:
    """Every scope that a contract names, and `mesh.operate`."""
    named = {scope for service in SERVICES for method in service.methods for scope in effective(method).scopes}
    return frozenset(named | {OPERATE})
