"""Words of the xDS protocol that the rest of this package shares: resource types, their order, kinds of client."""

import enum
from collections.abc import Mapping
from typing import Final

_PREFIX: Final = "type.googleapis.com/envoy."

CDS: Final = _PREFIX + "config.cluster.v3.Cluster"
EDS: Final = _PREFIX + "config.endpoint.v3.ClusterLoadAssignment"
LDS: Final = _PREFIX + "config.listener.v3.Listener"
RDS: Final = _PREFIX + "config.route.v3.RouteConfiguration"
ECDS: Final = _PREFIX + "config.core.v3.TypedExtensionConfig"
SDS: Final = _PREFIX + "extensions.transport_sockets.tls.v3.Secret"

#: The order in which changes are sent, so that what is referred to is there before what refers to it.
ORDER: Final = (CDS, EDS, LDS, RDS, ECDS, SDS)

#: Types whose response is the whole truth: what it leaves out does not exist. Of other types a response carries only
#: what changed.
WHOLE: Final = frozenset({CDS, LDS})

#: The field that holds a resource's name.
NAME_FIELD: Final[Mapping[str, str]] = {
    CDS: "name",
    EDS: "cluster_name",
    LDS: "name",
    RDS: "name",
    ECDS: "name",
    SDS: "name",
}


class Kind(enum.Enum):
    """What kind of client asks: listeners differ between the two."""

    ENVOY = "envoy"
    GRPC = "grpc"


def short(type_url: str) -> str:
    """Last word of a type URL, as metrics and logs use it."""
    return type_url.rsplit(".", 1)[-1]
