"""The route table of the edge: one exact route for each method, and nothing else leads to a service.

JSON paths have routes too, but these never lead anywhere: filters before the transcoder need their metadata, and the
transcoder then replaces the path by the method's. A JSON request that it did not take ends in 404.

No two routes may differ in what cors does, or a page could not read why it was refused.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from gateway.contract import Binding
from gateway.envoy import names
from gateway.envoy.edge import Edge
from gateway.envoy.filters import cors, guard, header_strip, jwt, rbac, refusal, size, strict_json, transcoder
from gateway.envoy.sources import ads
from gateway.policy import PolicySet, Rpc
from weft_protos import lanes
from weft_protos.xds import envoy

#: Which failures Envoy repeats, where the contract allows it: those of an attempt that left no trace, and those that
#: may have left one but carry a request_id or change nothing.
RETRY_ON: Final = "connect-failure,refused-stream,unavailable,reset,cancelled"
RETRY_BACK_OFF: Final = {"base_interval": "0.02s", "max_interval": "0.2s"}
#: How often a retry draws another instance when it drew one that has failed the call already. A dead one has no calls
#: in flight, so of two instances it is drawn three times in four: with 3 draws every third retry went to it again.
HOST_ATTEMPTS: Final = 16
#: A stream that says nothing for this long is taken for dead.
STREAM_IDLE: Final = "3600s"
#: What browsers come for beside methods: `/`, and files below these names. All else is unknown, as ever.
PAGES: Final = r"/(assets/[^/]+|docs(/.*)?|favicon[.](ico|svg))"
PAGES_TIMEOUT: Final = "10s"
#: Reflection streams live for one look-up.
REFLECTION_IDLE: Final = "60s"
REFLECTION: Final = tuple(
    f"grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")
)
_ATTEMPTS: Final = {
    "header": {"key": names.ATTEMPTS, "value": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}
WELCOME: Final = (
    "Weft gateway: gRPC, gRPC-web and JSON on this port. "
    "`buf curl --protocol grpc --list-methods` lists what it serves; JSON paths begin with /v1/.\n"
)

_VARIABLE: Final = re.compile(r"\{[^}=]+(?:=([^}]*))?\}")


def build(policies: PolicySet, edge: Edge) -> Any:
    """The RouteConfiguration of both listeners."""
    return envoy(
        "config.route.v3.RouteConfiguration",
        name=names.EDGE,
        # One of them does not exist, on purpose.
        validate_clusters=False,
        virtual_hosts=[
            {
                "name": names.EDGE,
                "domains": ["*"],
                "routes": [*routes(policies, edge)],
                # Every route asks for a token unless it is exempted by name: forgetting one keeps it shut.
                "typed_per_filter_config": {names.JWT: jwt.required(), names.CORS: cors.for_virtual_host(policies)},
                # Marks of the gateway's own refusals among them; a service that sends one must not be believed.
                **header_strip.for_virtual_host(),
            }
        ],
    )


def discovery() -> Mapping[str, Any]:
    """How a connection manager gets the route table."""
    return {"route_config_name": names.EDGE, "config_source": ads()}


def routes(policies: PolicySet, edge: Edge) -> Iterator[Any]:
    """All routes, in the order in which Envoy tries them."""
    around = refusal.for_guard(policies)
    yield _two_hosts()
    yield _too_many_headers()
    yield from (_grpc(rpc, around) for rpc in policies.rpcs)
    yield from (_json(rpc, binding, around) for rpc, binding in _by_specificity(policies.rpcs))
    if edge.shows_itself:
        yield from (_reflection(method) for method in REFLECTION)
        yield from _pages()
        yield _welcome()
    yield _nothing()


def path_regex(template: str) -> str:
    """The regular expression that a google.api.http path template stands for."""
    flat = _VARIABLE.sub(lambda match: match.group(1) or "*", template)
    parts = re.split(r"(\*\*|\*)", flat)
    wild = {"**": ".+", "*": "[^/]+"}
    return "".join(wild.get(part) or re.escape(part).replace(r"\-", "-") for part in parts)


def _by_specificity(rpcs: Iterable[Rpc]) -> list[tuple[Rpc, Binding]]:
    """Bindings with a `:verb` before those without, few wildcards before many: `*` also matches `x:verb`."""
    pairs = [(rpc, binding) for rpc in rpcs for binding in rpc.method.bindings]
    return sorted(pairs, key=lambda pair: (":" not in pair[1].template, pair[1].template.count("*"), pair[1].template))


def _grpc(rpc: Rpc, around: Mapping[str, str]) -> Any:
    streams = rpc.method.streaming
    timeout = rpc.policy.timeout
    words = _words(rpc, size.for_grpc(rpc), around, {names.GUARD: guard.for_route(rpc)})
    words["typed_per_filter_config"] |= {
        names.STRICT_JSON: strict_json.unneeded(),
        names.TRANSCODER: transcoder.untouched(),
    }
    if rpc.policy.hedging_delay is not None:
        words["response_headers_to_add"] = [_ATTEMPTS]
    if rpc.method.client_streaming:
        words["typed_per_filter_config"][names.HEADERS] = header_strip.without_grpc()
    return envoy(
        "config.route.v3.Route",
        name=rpc.name,
        match={"path": f"/{rpc.name}", "headers": [_verb("POST")]},
        route={
            "cluster": lanes.streams(rpc.owner) if streams else rpc.owner,
            "timeout": "0s" if timeout is None else timeout,
            "idle_timeout": STREAM_IDLE if streams else None,
            "retry_policy": _retry(rpc),
            "hedge_policy": None if rpc.policy.hedging_delay is None else {"hedge_on_per_try_timeout": True},
            # Critical calls have connections and circuit breakers of their own.
            "priority": "HIGH" if rpc.policy.criticality == "critical" else None,
        },
        **words,
    )


def _json(rpc: Rpc, binding: Binding, around: Mapping[str, str]) -> Any:
    words = _words(rpc, size.for_json(rpc), around, {names.STRICT_JSON: strict_json.for_route(rpc, binding)})
    words["typed_per_filter_config"][names.HEADERS] = header_strip.without_grpc()
    return envoy(
        "config.route.v3.Route",
        name=f"{rpc.name} {binding.verb} {binding.template}",
        match={"safe_regex": {"regex": path_regex(binding.template)}, "headers": [_verb(binding.verb)]},
        route=_dead_end(),
        **words,
    )


def _words(
    rpc: Rpc, largest: Any, around: Mapping[str, str], own: Mapping[str, Mapping[str, str | float]]
) -> dict[str, Any]:
    """What filters read on a method's routes: access, limits, and where the contract says so.

    A script gets a copy of all that stands under its filter's name or, where that is not there, under LUA_METADATA; so
    what is read for every call, `own`, stands apart from what is read for those that are refused.
    """
    limit = rpc.policy.rate_limit
    metadata: dict[str, Any] = {
        names.LUA_METADATA: {
            **refusal.for_route(rpc),
            **around,
        },
        **own,
    }
    if limit is not None:
        key = names.SUBJECT_CLASS if limit.key == "subject" else names.ADDRESS_CLASS
        metadata[names.LIMIT_METADATA] = {key: rpc.name}
    filters = _open() if rpc.policy.public else {names.RBAC: rbac.for_scopes(rpc.policy.scopes)}
    filters[names.SIZE] = largest
    return {
        "decorator": {"operation": rpc.name, "propagate": False},
        "metadata": {"filter_metadata": metadata},
        "typed_per_filter_config": filters,
    }


def _open() -> dict[str, Any]:
    """Per-filter configs of a route that anybody may call."""
    return {names.JWT: jwt.exempted(), names.RBAC: rbac.for_everyone()}


def _retry(rpc: Rpc) -> dict[str, Any] | None:
    if rpc.policy.max_attempts is None:
        return None
    return {
        "retry_on": RETRY_ON,
        "num_retries": rpc.policy.max_attempts - 1,
        # With the hedge policy of the route it ends no attempt: it is when the next one is sent beside it.
        "per_try_timeout": rpc.policy.hedging_delay,
        **_elsewhere(),
    }


def _elsewhere() -> dict[str, Any]:
    """How another attempt goes to another instance, and when."""
    elsewhere = {
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": envoy("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
    }
    return {
        "retry_back_off": RETRY_BACK_OFF,
        "retry_host_predicate": [elsewhere],
        "host_selection_retry_max_attempts": HOST_ATTEMPTS,
    }


def _reflection(method: str) -> Any:
    return envoy(
        "config.route.v3.Route",
        name=method,
        match={"path": f"/{method}"},
        route={"cluster": names.XDS, "timeout": "0s", "idle_timeout": REFLECTION_IDLE},
        decorator={"operation": method, "propagate": False},
        typed_per_filter_config=_open() | {names.SIZE: size.unbuffered(), names.HEADERS: header_strip.without_grpc()},
    )


def _pages() -> Iterator[Any]:
    """Files for browsers. Who asks for `/` and does not want HTML, as curl, is welcomed in a line."""
    html = {"name": "accept", "string_match": {"contains": "text/html"}}
    verb = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
    for name, match in (
        ("console", {"path": "/", "headers": [verb, html]}),
        ("pages", {"safe_regex": {"regex": PAGES}, "headers": [verb]}),
    ):
        yield envoy(
            "config.route.v3.Route",
            name=name,
            match=match,
            route={
                "cluster": names.PAGES,
                "cluster_not_found_response_code": "NOT_FOUND",
                "timeout": PAGES_TIMEOUT,
                "retry_policy": {"retry_on": "connect-failure,reset", "num_retries": 2} | _elsewhere(),
            },
            decorator={"operation": "pages", "propagate": False},
            typed_per_filter_config=_open() | {names.TRANSCODER: transcoder.untouched()},
        )


def _welcome() -> Any:
    return envoy(
        "config.route.v3.Route",
        name="welcome",
        match={"path": "/", "headers": [_verb("GET")]},
        direct_response={"status": 200, "body": {"inline_string": WELCOME}},
        typed_per_filter_config=_open() | {names.TRANSCODER: transcoder.untouched()},
    )


def _two_hosts() -> Any:
    # Envoy makes one of several Host lines; two of them are a bad request (RFC 9112, section 3.2).
    several = {"name": ":authority", "string_match": {"contains": ","}}
    return envoy(
        "config.route.v3.Route",
        name="two-hosts",
        match={"prefix": "/", "headers": [several]},
        direct_response={"status": 400, "body": {"inline_string": "a request is for one host"}},
        typed_per_filter_config=_open() | {names.TRANSCODER: transcoder.untouched()},
    )


def _too_many_headers() -> Any:
    # Envoy's own limit would answer HTTP/1.1 and reset a stream of HTTP/2 without a word.
    above = {"start": names.HEADERS_BYTES_MAX + 1, "end": 1 << 62}
    return envoy(
        "config.route.v3.Route",
        name="too-many-headers",
        match={"prefix": "/", "headers": [{"name": names.HEADERS_BYTES, "range_match": above}]},
        direct_response={"status": 431, "body": {"inline_string": "The request has too many headers"}},
        typed_per_filter_config=_open() | {names.TRANSCODER: transcoder.untouched()},
    )


def _nothing() -> Any:
    # Open, because it leads nowhere: an unknown method is unknown to everybody, signed in or not. Without transcoder,
    # which knows more spellings of a path than the routes do (`/v1/sessions/`): it would give such a request its method
    # after the limits by address, which go by the route, had let it pass.
    return envoy(
        "config.route.v3.Route",
        name="nothing",
        match={"prefix": "/"},
        route=_dead_end(),
        typed_per_filter_config=_open() | {names.TRANSCODER: transcoder.untouched()},
    )


def _dead_end() -> dict[str, Any]:
    """Ends in 404, after all filters."""
    return {"cluster": names.NOWHERE, "cluster_not_found_response_code": "NOT_FOUND"}


def _verb(verb: str) -> dict[str, Any]:
    return {"name": ":method", "string_match": {"exact": verb}}
