"""Names and figures on which two resources or filters must agree, each said once.

Envoy checks few of them: a per-route config under another key than the filter's name in the chain turns the filter
off without a word. So no other module writes such a name as a literal.
"""

from typing import Final

from weft_protos import lanes

# HTTP filters, by the name they have in the chain; per-route configs use the same key.
HEADERS: Final = "envoy.filters.http.header_mutation"
REFUSAL: Final = "weft.refusal"
CORS: Final = "envoy.filters.http.cors"
GRPC_WEB: Final = "envoy.filters.http.grpc_web"
ADDRESS_LIMIT: Final = "rl_addr"
SIZE: Final = "envoy.filters.http.buffer"
STRICT_JSON: Final = "weft.strict_json"
TRANSCODER: Final = "envoy.filters.http.grpc_json_transcoder"
JWT: Final = "envoy.filters.http.jwt_authn"
GUARD: Final = "weft.guard"
RBAC: Final = "envoy.filters.http.rbac"
SUBJECT_LIMIT: Final = "rl_sub"
LANE: Final = lanes.FILTER
ROUTER: Final = "envoy.filters.http.router"

# Metadata.
LUA_METADATA: Final = "envoy.filters.http.lua"
"""Namespace of route metadata that a Lua filter reads where the route has none under the filter's own name."""
LIMIT_METADATA: Final = "weft.limit"
"""Namespace of route metadata that the rate limiters read."""
SUBJECT_CLASS: Final = "subject_class"
ADDRESS_CLASS: Final = "address_class"
JWT_PAYLOAD: Final = "jwt"
"""Key below JWT's dynamic metadata that holds the token's claims."""
JWT_HEADER: Final = "hdr"
"""Key below JWT's dynamic metadata that holds the token's header."""
FRAME_MOST: Final = "frame_bytes"
"""Key of GUARD's route metadata: the most bytes of a gRPC frame, FRAME_BYTES among them."""
JSON_MOST: Final = "json_bytes"
"""Key of STRICT_JSON's: the most bytes of a JSON request, path and query among them."""

# Headers by which filters tell the refusal filter what happened. Clients and services cannot set them.
WHY: Final = "x-gw-why"
STATUS: Final = "x-gw-status"
REASON: Final = "x-gw-reason"
WIRE: Final = "x-gw-wire"
MARKS: Final = (WHY, STATUS, REASON, WIRE)
#: How many attempts the answer of a hedged call took. For the guard; the filter of HEADERS takes it off.
ATTEMPTS: Final = "x-gw-attempts"
#: What a filter notes of a call that others read: filter state, which unlike dynamic metadata costs no copy to read.
SUBJECT: Final = "weft.subject"
"""Who calls, by a verified token."""
COUNTED: Final = "weft.counted"
"""Present where the guard is to see the answer even if all went well."""
STRING_STATE: Final = "envoy.string"
"""How Envoy calls filter state that is a text."""
#: How many bytes of headers a request came with. Goes to the route that refuses too many, and no further.
HEADERS_BYTES: Final = "x-gw-headers-bytes"
#: Names the trace of the call on every answer.
TRACE_ID: Final = "x-trace-id"

#: Environment variable by which an Envoy process is told its name. Scripts come from the control plane, the same for
#: every gateway, and can read neither the node nor the bootstrap.
INSTANCE_VARIABLE: Final = "WEFT_INSTANCE"

# Resources and clusters.
EDGE: Final = "edge"
EDGE_TLS: Final = "edge-tls"
WORKLOAD: Final = "workload"
"""The gateways' own certificate, by which the rest of the mesh knows them."""
WORKLOAD_AUTHORITY: Final = "workload-authority"
XDS: Final = "xds"
OTLP: Final = "otlp"
ADMIN: Final = "admin"
PAGES: Final = "pages"

#: What a request may have of headers: bytes of names and values, and fields.
HEADERS_BYTES_MAX: Final = 16 << 10
HEADERS_MAX: Final = 64
#: A byte of flags and four of length go before each gRPC message on the wire.
FRAME_BYTES: Final = 5

#: The provider of tokens in jwt_authn; the control plane gives it its keys.
TOKEN_PROVIDER: Final = "weft"
TOKEN_REQUIREMENT: Final = "user"

#: A cluster that nobody defines. A route to it ends in 404 like a direct response, but unlike one it counts as a route
#: for the cors filter, which otherwise neither answers preflights nor lets pages read the answer.
NOWHERE: Final = "nowhere"

#: An ES256 check costs as much as all other filters together, so that many tokens are remembered until they expire.
TOKENS_MAX: Final = 2000
