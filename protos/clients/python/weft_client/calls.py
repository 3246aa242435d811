"""Calls over a channel: attempts, tokens, traces and errors put together, for threads and for tasks.

The two classes differ in how they wait; what they decide is `calling`'s and `session`'s.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol, overload

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from weft_client import status, tracing
from weft_client.calling import Calling, Method, Throttle, methods
from weft_client.session import AsyncSignedIn, Given, SignedIn
from weft_protos import policy, read_token

_SERVICES: Final[Mapping[str, ServiceDescriptor]] = {service.full_name: service for service in policy.SERVICES}

Metadata = list[tuple[str, str]]


class _Channel(Protocol):
    def unary_unary(self, method: str, request_serializer: Any, response_deserializer: Any) -> Any: ...
    def unary_stream(self, method: str, request_serializer: Any, response_deserializer: Any) -> Any: ...


class _Wire:
    """What both kinds of calls know: the stubs of a channel, and what goes with every call."""

    def __init__(self, consumer: tuple[str, str]) -> None:
        self._consumer = consumer
        self._newest = ""
        self._stubs: dict[str, Any] = {}
        self.throttle = Throttle()

    def stub(self, channel: _Channel, method: Method) -> Any:
        """The channel's own callable of a method."""
        made = self._stubs.get(method.path)
        if made is None:
            descriptor = method.descriptor
            make = channel.unary_stream if descriptor.server_streaming else channel.unary_unary
            made = self._stubs[method.path] = make(
                method.path,
                request_serializer=GetMessageClass(descriptor.input_type).SerializeToString,
                response_deserializer=GetMessageClass(descriptor.output_type).FromString,
            )
        return made

    def metadata(self, token: str, trace: Metadata) -> Metadata:
        """What goes with an attempt."""
        said = [self._consumer, *trace]
        if token:
            said.append(("authorization", f"Bearer {token}"))
        if self._newest:
            said.append((read_token.HEADER, self._newest))
        return said

    def keep(self, metadata: Any) -> None:
        """Remember how far the caller has written, so that it reads it whoever answers."""
        self._newest = status.header(metadata, read_token.HEADER) or self._newest


class Calls:
    """Calls of one client. Thread-safe."""

    def __init__(self, channel: grpc.Channel, consumer: tuple[str, str]) -> None:
        """`consumer`: the metadata entry that says who calls."""
        self.tokens: Given | SignedIn | None = None
        self._channel = channel
        self._wire = _Wire(consumer)
        self._closed = threading.Event()

    def close(self) -> None:
        """End what is under way and close the channel."""
        self._closed.set()
        self._channel.close()

    def send(self, descriptor: MethodDescriptor, request: Message, timeout: float | None = None) -> Any:
        """Call a unary method of any contract. Raises WeftError."""
        return self.unary(_method(descriptor), request, timeout)

    def unary(self, method: Method, request: Message, timeout: float | None) -> Any:
        """Call until it is answered, or until contract, server or deadline want no more. Raises WeftError."""
        calling, filled = Calling(method, timeout, self._wire.throttle), method.fill(request)
        stub = self._wire.stub(self._channel, method)
        with tracing.call(method) as trace:
            while True:
                token = self._token(calling)
                metadata = self._wire.metadata(token, trace)
                try:
                    answer, ended = stub.with_call(filled, timeout=calling.attempt_s, metadata=metadata)
                except grpc.RpcError as error:
                    self._pause(calling, error, token)
                else:
                    calling.answered()
                    self._wire.keep(ended.initial_metadata())
                    return answer

    def streamed(self, method: Method, request: Message, timeout: float | None) -> Iterator[Any]:
        """Call a method that answers with a stream; begun again only while nothing has come. Raises WeftError."""
        calling, filled = Calling(method, timeout, self._wire.throttle), method.fill(request)
        stub = self._wire.stub(self._channel, method)
        with tracing.call(method) as trace:
            while True:
                token, begun = self._token(calling), False
                stream = stub(filled, timeout=calling.attempt_s, metadata=self._wire.metadata(token, trace))
                try:
                    for message in stream:
                        begun = True
                        yield message
                except grpc.RpcError as error:
                    if begun:
                        raise status.error_of(error, method.path) from error
                    self._pause(calling, error, token)
                else:
                    calling.answered()
                    return
                finally:
                    stream.cancel()

    def _token(self, calling: Calling) -> str:
        if self.tokens is None or calling.method.public:
            return ""
        return self.tokens.token(calling.left_s)

    def _pause(self, calling: Calling, error: grpc.RpcError, token: str) -> None:
        if self.tokens is not None and calling.is_stale(error) and self.tokens.drop(token):
            return
        if self._closed.wait(calling.pause_s(error)):
            raise status.error_of(error, calling.method.path) from error


class AsyncCalls:
    """Calls of one client, of one event loop."""

    def __init__(self, opened: Callable[[], grpc.aio.Channel], consumer: tuple[str, str]) -> None:
        """`opened`: makes the channel, with the first call, in the event loop that makes it."""
        self.tokens: Given | AsyncSignedIn | None = None
        self._opened = opened
        self._channel: grpc.aio.Channel | None = None
        self._wire = _Wire(consumer)

    async def close(self) -> None:
        """End what is under way and close the channel."""
        if self._channel is not None:
            await self._channel.close()

    async def send(self, descriptor: MethodDescriptor, request: Message, timeout: float | None = None) -> Any:
        """Call a unary method of any contract. Raises WeftError."""
        return await self.unary(_method(descriptor), request, timeout)

    async def unary(self, method: Method, request: Message, timeout: float | None) -> Any:
        """Call until it is answered, or until contract, server or deadline want no more. Raises WeftError."""
        calling, filled = Calling(method, timeout, self._wire.throttle), method.fill(request)
        with tracing.call(method) as trace:
            while True:
                token = await self._token(calling)
                metadata = self._wire.metadata(token, trace)
                call = self._stub(method)(filled, timeout=calling.attempt_s, metadata=tuple(metadata))
                try:
                    answer = await call
                except grpc.RpcError as error:
                    await self._pause(calling, error, token)
                else:
                    calling.answered()
                    self._wire.keep(await call.initial_metadata())
                    return answer

    async def streamed(self, method: Method, request: Message, timeout: float | None) -> AsyncIterator[Any]:
        """Call a method that answers with a stream; begun again only while nothing has come. Raises WeftError."""
        calling, filled = Calling(method, timeout, self._wire.throttle), method.fill(request)
        with tracing.call(method) as trace:
            while True:
                token, begun = await self._token(calling), False
                metadata = tuple(self._wire.metadata(token, trace))
                stream = self._stub(method)(filled, timeout=calling.attempt_s, metadata=metadata)
                try:
                    async for message in stream:
                        begun = True
                        yield message
                except grpc.RpcError as error:
                    if begun:
                        raise status.error_of(error, method.path) from error
                    await self._pause(calling, error, token)
                else:
                    calling.answered()
                    return
                finally:
                    stream.cancel()

    def _stub(self, method: Method) -> Any:
        if self._channel is None:
            self._channel = self._opened()
        return self._wire.stub(self._channel, method)

    async def _token(self, calling: Calling) -> str:
        if self.tokens is None or calling.method.public:
            return ""
        token = self.tokens.token(calling.left_s)
        return token if isinstance(token, str) else await token

    async def _pause(self, calling: Calling, error: grpc.RpcError, token: str) -> None:
        if self.tokens is not None and calling.is_stale(error) and self.tokens.drop(token):
            return
        await asyncio.sleep(calling.pause_s(error))


@dataclass(frozen=True, slots=True)
class Bound:
    """The methods of one service."""

    calls: Calls
    methods: Mapping[str, Method]

    def call(self, name: str, fields: Mapping[str, Any], *, timeout: float | None) -> Any:
        """The answer to a request with these fields."""
        method = self.methods[name]
        return self.calls.unary(method, method.request(fields), timeout)

    def stream(self, name: str, fields: Mapping[str, Any], *, timeout: float | None) -> Iterator[Any]:
        """The answers, one after the other; closing the iterator ends the call."""
        method = self.methods[name]
        return self.calls.streamed(method, method.request(fields), timeout)


@dataclass(frozen=True, slots=True)
class AsyncBound:
    """The methods of one service."""

    calls: AsyncCalls
    methods: Mapping[str, Method]

    async def call(self, name: str, fields: Mapping[str, Any], *, timeout: float | None) -> Any:
        """The answer to a request with these fields."""
        method = self.methods[name]
        return await self.calls.unary(method, method.request(fields), timeout)

    def stream(self, name: str, fields: Mapping[str, Any], *, timeout: float | None) -> AsyncIterator[Any]:
        """The answers, one after the other; closing the iterator ends the call."""
        method = self.methods[name]
        return self.calls.streamed(method, method.request(fields), timeout)


@overload
def bound(calls: Calls, service: ServiceDescriptor) -> Bound: ...
@overload
def bound(calls: AsyncCalls, service: ServiceDescriptor) -> AsyncBound: ...
def bound(calls: Calls | AsyncCalls, service: ServiceDescriptor) -> Bound | AsyncBound:
    """The calls of one service."""
    found = methods(service)
    return Bound(calls, found) if isinstance(calls, Calls) else AsyncBound(calls, found)


def method_named(name: str) -> MethodDescriptor:
    """A method by its full name, `weft.catalog.v1.CatalogService.GetProduct`. Raises ValueError for another."""
    service, _, method = name.replace("/", ".").strip(".").rpartition(".")
    if service not in _SERVICES or method not in _SERVICES[service].methods_by_name:
        raise ValueError(f"no contract has the method {name!r}")
    return _SERVICES[service].methods_by_name[method]


@cache
def _method(descriptor: MethodDescriptor) -> Method:
    if descriptor.server_streaming:
        raise TypeError(f"{descriptor.full_name} answers with a stream")
    return Method.of(descriptor)
