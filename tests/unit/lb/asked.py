"""Servers that answer one question, `/weft.test.Who/Ask`."""

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc

WHO = "/weft.test.Who/Ask"
END_S = 20.0

Answer = Callable[[grpc.ServicerContext], bytes]


@contextmanager
def servers(*, threads: int) -> Iterator[Callable[..., int]]:
    """Starts servers, each with its answer; `start` returns the port. They end with the block."""
    running: list[grpc.Server] = []

    def start(answer: Answer, credentials: grpc.ServerCredentials | None = None, **options: int) -> int:
        server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=threads), options=[("grpc.so_reuseport", 0), *options.items()]
        )
        handler = grpc.unary_unary_rpc_method_handler(lambda _, context: answer(context))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("weft.test.Who", {"Ask": handler}),))
        address = "127.0.0.1:0"
        if credentials is None:
            port: int = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        server.start()
        running.append(server)
        return port

    yield start
    for server in running:
        server.stop(0).wait(END_S)
