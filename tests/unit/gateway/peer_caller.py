"""A service's client of the catalog, in a process of its own: gRPC reads its xDS bootstrap once in a process.

Called by test_peers with a number of threads in argv. Prints `OK` or an error's reason for each call, until its
standard input ends.
"""

import sys
import threading

from lb import channel
from svc.chassis.client import Peer
from svc.chassis.context import CallContext, Deadline
from svc.chassis.criticality import Criticality
from svc.chassis.errors import AppError
from weft.catalog.v1 import catalog_pb2

CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]
REQUEST = catalog_pb2.BatchGetProductsRequest(names=["products/a"])
#: PlaceOrder's timeout.
DEADLINE_S = 5.0


def main() -> None:
    peer, end = Peer(channel.open("catalog"), CATALOG), threading.Event()

    def steadily() -> None:
        while not end.wait(0.02):
            call = CallContext("/x", None, Deadline.after(DEADLINE_S), b"", lambda: True, Criticality.DEFAULT)
            try:
                peer.call("BatchGetProducts", REQUEST, call=call)
            except AppError as error:
                print(f"{error.reason}: {error}\n", end="", flush=True)
            else:
                print("OK\n", end="", flush=True)

    threads = [threading.Thread(target=steadily) for _ in range(int(sys.argv[1]))]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    end.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
