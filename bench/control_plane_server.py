"""Weft's control plane as `bench.control_plane` puts it under load: the real server over the real feed, without etcd.

`python -m bench.control_plane_server SERVICES ENDPOINTS` prints the ports of ADS and of its control socket. A line
there (`SERVICE PORT`) moves the first endpoint of a service to another port: the feed is told of all endpoints anew.
"""

import asyncio
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from bench.stand import HOST
from lb.endpoint import Endpoint, ServiceName
from lb.xds import bundle, collector
from lb.xds.clients import Clients
from lb.xds.feed import Feed
from lb.xds.gateways import Gateways
from lb.xds.server import Server
from weft_protos.xds import envoy, type_url

_PORT: Final = 8080
_FIRST_PORT: Final = 10_000


def main(arguments: Sequence[str]) -> None:
    """Serve until killed."""
    services, members = map(int, arguments)
    asyncio.run(_serve(services, members))


async def _serve(services: int, members: int) -> None:
    endpoints = [[endpoint(index, number) for number in range(members)] for index in range(services)]
    for index in range(services):
        endpoints[index][0] = moved(index, 0)
    feed = Feed()
    feed.set_endpoints(each for of_service in endpoints for each in of_service)
    feed.set_bundle(bundle.parse(*manifest_of(clusters(services))))
    gateways = Gateways(arrived=lambda _: None, departed=lambda _: None)
    server = Server(feed, gateways, Clients("control-plane-1"))
    ads = await server.start(f"{HOST}:0")

    async def controlled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            index, port = map(int, line.split())
            endpoints[index][0] = moved(index, port)
            feed.set_endpoints([each for of_service in endpoints for each in of_service])
        writer.close()

    control = await asyncio.start_server(controlled, HOST, 0)
    collector.calm()
    print(ads, control.sockets[0].getsockname()[1], flush=True)
    await control.serve_forever()


def clusters(services: int) -> list[tuple[str, Any]]:
    """A cluster for each service, and who receives it."""
    config = {"ads": {}, "resource_api_version": "V3"}
    return [
        (
            "all",
            envoy(
                "config.cluster.v3.Cluster",
                name=service(index),
                type="EDS",
                connect_timeout="1s",
                eds_cluster_config={"eds_config": config},
            ),
        )
        for index in range(services)
    ]


def manifest_of(resources: Iterable[tuple[str, Any]]) -> tuple[bytes, dict[str, bytes]]:
    """Resources as a compiled bundle: its manifest and its pieces."""
    rows, pieces = [], {}
    for audience, message in resources:
        content = message.SerializeToString(deterministic=True)
        digest = hashlib.sha256(content).hexdigest()
        pieces[digest] = content
        rows.append({"audience": audience, "type_url": type_url(message), "name": message.name, "sha256": digest})
    return json.dumps({"format": 1, "resources": rows}).encode(), pieces


def endpoint(index: int, number: int) -> Endpoint:
    """An instance of a service that never moves."""
    return Endpoint(service(index), f"i{number}", f"10.{index >> 8}.{index & 255}.{number + 1}", _PORT)


def moved(index: int, port: int) -> Endpoint:
    """The first instance of a service, where it is after a change."""
    return Endpoint(service(index), "i0", "10.255.255.254", _FIRST_PORT + port)


def service(index: int) -> ServiceName:
    """Name of a service."""
    return ServiceName(f"service-{index}")


if __name__ == "__main__":
    main(sys.argv[1:])
