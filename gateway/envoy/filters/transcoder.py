"""Turns JSON over HTTP into gRPC by the contracts' google.api.http, and answers and errors back into JSON.

The descriptors hold google.rpc's error details too, so that a service's details arrive as JSON and not as base64.
Not everything it accepts is strict JSON, unknown and duplicate keys among it: the filter before it sees to that.
"""

from typing import Any, Final

from gateway.policy import PolicySet
from weft_protos import policy
from weft_protos.xds import envoy

#: gRPC clients take 4 MiB; the same answer in JSON is about four times as long.
RESPONSE_BYTES_MAX: Final = 16 << 20


def build(policies: PolicySet) -> Any:
    """The filter's config, with the descriptors of every contract."""
    return envoy(
        "extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor_bin=policies.descriptors,
        services=list(policies.services),
        convert_grpc_status=True,
        query_param_unescape_plus=True,
        # ProtoJSON as every protobuf library writes it; a stream is one object a line, so that curl shows each at once.
        print_options={"stream_newline_delimited": True},
        request_validation_options={
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
        max_request_body_size=policy.REQUEST_BYTES_MAX,
        max_response_body_size=RESPONSE_BYTES_MAX,
    )


def untouched() -> Any:
    """For routes that are no JSON path: a method's own, and those that end here.

    Envoy leaves a disabled filter out of the chain when the request arrives, whatever route it is given later: never
    for a filter that guards something.
    """
    return envoy("config.route.v3.FilterConfig", disabled=True)
