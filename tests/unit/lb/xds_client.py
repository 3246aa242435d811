"""A gRPC client of the mesh in a process of its own: gRPC reads its xDS bootstrap once per process.

Reads commands from standard input and answers each with one line of JSON.
`call SECONDS` makes one call to the service; `wait SECONDS` waits until the channel is ready. A third argument is the
directory of what was good last; empty: there is none. A fourth is the directory of its certificate.
"""

import json
import os
import sys
from pathlib import Path

import grpc
import structlog

from lb import bootstrap, channel
from lb.credentials import Credentials


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    control_planes, service = sys.argv[1].split(","), sys.argv[2]
    state, identity = (Path(each) if each else None for each in (*sys.argv[3:], "", "")[:2])
    client = bootstrap.Client("client-1", "client", identity=identity)
    bootstrap.install(os.environ, control_planes, client)  # noqa: TID251
    connection = channel.open(service, state=state, credentials=Credentials(identity) if identity else None)
    ask = connection.unary_unary("/weft.test.Who/Ask")
    for line in sys.stdin:
        verb, seconds = line.split()
        answer: dict[str, str] = {}
        try:
            if verb == "wait":
                grpc.channel_ready_future(connection).result(timeout=float(seconds))
                answer = {"answer": "ready"}
            else:
                answer = {"answer": ask(b"", timeout=float(seconds)).decode()}
        except grpc.RpcError as error:
            answer = {"code": error.code().name, "details": error.details() or ""}
        except grpc.FutureTimeoutError:
            answer = {"code": "NOT_READY"}
        print(json.dumps(answer), flush=True)
    connection.close()


main()
