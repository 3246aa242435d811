"""A backend in a process of its own, so that it can be killed: holds every call, and writes a line for each.

Called by test_hop; the first line is its port.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

THREADS = 200


class Holding(grpc.GenericRpcHandler):
    """Answers nothing, ever."""

    def service(self, handler_call_details: Any) -> Any:
        def hold(_: bytes, context: grpc.ServicerContext) -> bytes:
            print("held", flush=True)
            threading.Event().wait()
            return b""

        return grpc.unary_unary_rpc_method_handler(hold)


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(THREADS), handlers=[Holding()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
