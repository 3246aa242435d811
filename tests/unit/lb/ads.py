"""A plain ADS stream, as far as tests need one."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import Message

from tests.unit.lb.conftest import DEADLINE_S
from weft_protos.xds import envoy, message_class

STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"


class Ads:
    """A stream that stays open until it is closed."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._closed = threading.Event()
        self._call: Any = None

    def open(self, *requests: Message) -> Any:
        method = self._channel.stream_stream(STREAM)
        self._call = method(self._sent([each.SerializeToString() for each in requests]), timeout=DEADLINE_S)
        return self._call

    def close(self) -> None:
        self._closed.set()
        if self._call is not None:
            self._call.cancel()
        self._channel.close()

    def _sent(self, requests: list[bytes]) -> Iterator[bytes]:
        yield from requests
        self._closed.wait(DEADLINE_S)


def request(type_url: str, *names: str, kind: str = "envoy", node: str = "gateway-1") -> Message:
    message: Message = envoy(
        "service.discovery.v3.DiscoveryRequest",
        type_url=type_url,
        resource_names=list(names),
        node={"id": node, "cluster": "edge", "metadata": {"kind": kind}},
    )
    return message


def answer_of(content: bytes) -> Any:
    return message_class("envoy.service.discovery.v3.DiscoveryResponse").FromString(content)
