"""A backend in a process of its own, so that it can be stopped: answers every call, a little later.

Called by tests with a number of milliseconds in argv; the first line is its port.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from svc.chassis.server import OPTIONS

THREADS = 64


class Answering(grpc.GenericRpcHandler):
    """Answers everything."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s

    def service(self, handler_call_details: Any) -> Any:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            threading.Event().wait(self._pause_s)
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


def main() -> None:
    handler = Answering(int(sys.argv[1]) / 1000)
    server = grpc.server(ThreadPoolExecutor(THREADS), handlers=[handler], options=OPTIONS)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
