"""A plain ADS stream, as far as tests need one."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import Message

from tests.unit.lb.conftest import DEADLINE_S
from weft_protos.xds import envoy, message_class

STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
DELTA = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


class Ads:
    """A stream that stays open until it is closed."""

    def __init__(self, address: str, method: str = STREAM) -> None:
        self._method = method
        self._sending: queue.Queue[bytes] = queue.Queue()
        self._channel = grpc.insecure_channel(address)
        self._closed = threading.Event()
        self._call: Any = None

    def open(self, *requests: Message) -> Any:
        method = self._channel.stream_stream(self._method)
        self._call = method(self._sent([each.SerializeToString() for each in requests]), timeout=DEADLINE_S)
        return self._call

    def send(self, request: Message) -> None:
        """Say something more."""
        self._sending.put(request.SerializeToString())

    def close(self) -> None:
        self._closed.set()
        self._sending.put(b"")
        if self._call is not None:
            self._call.cancel()
        self._channel.close()

    def _sent(self, requests: list[bytes]) -> Iterator[bytes]:
        yield from requests
        while not self._closed.is_set():
            content = self._sending.get()
            if content:
                yield content


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


def delta_request(type_url: str, *names: str, kind: str = "envoy", node: str = "gateway-1", **fields: Any) -> Message:
    message: Message = envoy(
        "service.discovery.v3.DeltaDiscoveryRequest",
        type_url=type_url,
        resource_names_subscribe=list(names),
        node={"id": node, "cluster": "elsewhere", "metadata": {"kind": kind}},
        **fields,
    )
    return message


def delta_answer_of(content: bytes) -> Any:
    return message_class("envoy.service.discovery.v3.DeltaDiscoveryResponse").FromString(content)
