"""A service's client of the catalog, in a process of its own: gRPC reads its xDS bootstrap once in a process.

Called by test_lane_peers. Reads a lane (or `-`) from each line of standard input, makes one call for a call of that
lane, and prints `OK` or an error's reason.
"""

import sys

from lb import channel
from svc.chassis.client import Peer
from svc.chassis.context import CallContext, Deadline
from svc.chassis.errors import AppError
from weft.catalog.v1 import catalog_pb2

CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]
REQUEST = catalog_pb2.BatchGetProductsRequest(names=["products/a"])


def main() -> None:
    peer = Peer(channel.open("catalog"), CATALOG)
    for line in sys.stdin:
        call = CallContext("/x", None, Deadline.after(20.0), b"", lambda: True, lane=line.strip().removeprefix("-"))
        try:
            peer.call("BatchGetProducts", REQUEST, call=call)
        except AppError as error:
            print(f"{error.reason}: {error}", flush=True)
        else:
            print("OK", flush=True)


if __name__ == "__main__":
    main()
