"""A gRPC client on `xds:///orders`, in a process of its own: gRPC reads its xDS bootstrap once in a process.

Called by test_proxyless with methods in argv; prints the status code of one call of each.
"""

import sys
from typing import Any

import grpc


def main() -> None:
    with grpc.insecure_channel("xds:///orders") as channel:
        for method in sys.argv[1:]:
            call: Any = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
            try:
                call(b"", timeout=20)
            except grpc.RpcError as error:
                print(method, error.code().name)
            else:
                print(method, "OK")


if __name__ == "__main__":
    main()
