"""gRPC reflection over every contract, in one place.

Envoy sends reflection here and not to an instance, because an instance knows the contracts of its own service only.
Served as v1 and v1alpha: the messages are the same, only the service's name differs.
"""

from typing import Final

import grpc
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from weft_protos.policy import SERVICES

#: Linked, so that a client that decodes an error's details by reflection finds their types.
DETAILS: Final = error_details_pb2.DESCRIPTOR

_NAMES: Final = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)


def handlers() -> tuple[grpc.GenericRpcHandler, ...]:
    """Handlers of both versions, for an asyncio server."""
    servicer = reflection.aio.ReflectionServicer([service.full_name for service in SERVICES])
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return tuple(grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method}) for name in _NAMES)
