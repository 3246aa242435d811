"""What containers run that is no part of the mesh itself.

python -m deploy.ship gateway ...                                 a gateway; arguments of `python -m gateway bootstrap`
python -m deploy.ship registry --secrets DIR --member HOST:PORT   have the registry ask for passwords
python -m deploy.ship databases --secrets DIR --tls DIR --node HOST:PORT
                                                                  make roles and databases
python -m deploy.ship healthy HOST:PORT                           whether grpc.health.v1 says that it serves
python -m deploy.ship ready HOST:PORT/PATH                        whether a page is answered with 200
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import grpc

from deploy.ship import gateway, preparing
from deploy.ship.errors import ShipError
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.probe import Answer, NoAnswerError
from deploy.supervisor.readiness import GrpcHealth

TIMEOUT_S: Final = 3.0


def main(argv: Sequence[str]) -> int:
    """Do what the arguments say; the exit code."""
    if argv[:1] == ["gateway"]:
        try:
            return asyncio.run(gateway.run(argv[1:]))
        except ConfigError as error:
            print(f"weft: {error}", file=sys.stderr)
            return 2
    parser = argparse.ArgumentParser(prog="python -m deploy.ship")
    verbs = parser.add_subparsers(dest="verb", required=True)
    registry = verbs.add_parser("registry", help="have the registry ask for passwords")
    registry.add_argument("--member", action="append", required=True, metavar="HOST:PORT")
    databases = verbs.add_parser("databases", help="make roles and databases")
    databases.add_argument("--node", action="append", required=True, metavar="HOST:PORT")
    databases.add_argument("--tls", type=Path, required=True, metavar="DIR")
    for preparation in (registry, databases):
        preparation.add_argument("--secrets", type=Path, required=True, metavar="DIR")
    verbs.add_parser("healthy", help="ask grpc.health.v1").add_argument("address", metavar="HOST:PORT")
    verbs.add_parser("ready", help="ask a page").add_argument("address", metavar="HOST:PORT/PATH")
    said = parser.parse_args(argv)
    match said.verb:
        case "healthy":
            return 0 if asyncio.run(_healthy(said.address)) else 1
        case "ready":
            return 0 if _ready(said.address) else 1
    try:
        if said.verb == "registry":
            preparing.registry(said.member, said.secrets)
        else:
            preparing.databases(said.node, said.secrets, said.tls)
    except ShipError as error:
        print(f"weft: {error}", file=sys.stderr)
        return 1
    return 0


async def _healthy(address: str) -> bool:
    probe = GrpcHealth(address)
    try:
        return await probe.check() is Answer.READY
    except (NoAnswerError, grpc.RpcError):
        return False
    finally:
        await probe.close()


def _ready(address: str) -> bool:
    place, _, path = address.partition("/")
    connection = HTTPConnection(place, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"/{path}", headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
