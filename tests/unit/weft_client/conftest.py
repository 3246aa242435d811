"""A server that tells what reached it: metadata and deadlines, which a mocked service keeps to itself."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message


@dataclass
class Recorder(grpc.GenericRpcHandler):
    """Answers every call with one message."""

    answer: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    time_left_s: list[float | None] = field(default_factory=list)
    address: str = ""

    def service(self, details: Any) -> Any:
        def answered(request: bytes, context: Any) -> bytes:
            self.metadata.append(dict(details.invocation_metadata))
            self.time_left_s.append(context.time_remaining())
            context.send_initial_metadata(self.headers)
            return self.answer

        return grpc.unary_unary_rpc_method_handler(answered)

    def answers(self, message: Message) -> None:
        self.answer = message.SerializeToString()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[recorder])
    recorder.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield recorder
    server.stop(None).wait()
