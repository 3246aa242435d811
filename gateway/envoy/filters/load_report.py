"""Takes the instances' load reports out of their answers: they are for the gateway's balancing, and nobody else's.

Envoy has read a report when the answer comes out of the router, before any filter sees it. An answer that is nothing
but a status has it among its headers, every other one among its trailers.
"""

from typing import Any, Final

from gateway.policy import PolicySet
from weft_protos.xds import envoy

#: gRFC A51; what svc/chassis/load.py writes.
TRAILER: Final = "endpoint-load-metrics-bin"


def build(_: PolicySet) -> Any:
    """The filter's config."""
    gone = [{"remove": TRAILER}]
    return envoy(
        "extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={"response_mutations": gone, "response_trailers_mutations": gone},
    )
