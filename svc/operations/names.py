"""How parts of the mesh are called, where two modules have to agree. Pure."""

import re
from typing import Final

from weft_protos import mesh_parts

#: Whoever calls from outside: the one node of the graph that has no process.
CLIENTS: Final = "clients"
GATEWAY: Final = "gateway"
CONTROL_PLANE: Final = "control-plane"
DATABASE: Final = "postgres"
CACHE: Final = "memcached"
BROKER: Final = "rabbitmq"
REGISTRY: Final = "etcd"
MAIL: Final = "mail"
EMAIL: Final = "email"
#: What gateways are called in the registry.
EDGE: Final = "edge"
QUEUE_PREFIX: Final = "weft."

#: By queue: a worker has its name to itself unless there is a service of that name.
_WORKERS: Final = {one.name: one.process for one in mesh_parts.WORKERS}
_QUEUE: Final = re.compile(r"weft\.([a-z-]+)(?:\.(dead|retry)(?:\..+)?)?")


def last(name: str) -> str:
    """The last part of a resource name: `processes/orders-1` -> `orders-1`."""
    return name.rpartition("/")[2]


def natural(name: str) -> tuple[str, int]:
    """What names are sorted by, so that `orders-10` comes behind `orders-9`."""
    head, _, number = name.rpartition("-")
    return (head, int(number)) if number.isascii() and number.isdigit() else (name, 0)


def lane_of(service: str) -> str:
    """The lane of a service's instances: `orders@next` -> `next`; empty of stable ones."""
    return service.partition("@")[2]


def queue_of(name: str) -> tuple[str, str]:
    """Worker and kind of a queue of the broker: `weft.email.dead` -> email, dead; the work queue's kind is empty.

    Two empty words where it is none of ours.
    """
    match = _QUEUE.fullmatch(name)
    return (match[1], match[2] or "") if match else ("", "")


def worker_of(queue: str) -> str:
    """The service whose workers take from a queue."""
    return _WORKERS.get(queue, queue)
