"""`python -m lb`: the control plane process, and the commands that change what it serves."""

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from lb import bootstrap, config
from lb.config import ControlPlaneSettings, EtcdSettings, log_level_from_environ
from lb.control_plane import control_plane
from lb.credentials import Credentials
from lb.endpoint import service_name, zone_name
from lb.errors import BundleRefusedError, EtcdRefusedError, EtcdUnavailableError, LbError, SettingsError
from lb.registry.backoff import Backoff
from lb.registry.documents import documents, replace
from lb.registry.endpoints import registered
from lb.registry.etcd import Client, Dialer
from lb.registry.keys import CURRENT
from lb.registry.publication import Published, RolledBack, load, publish, roll_back
from lb.registry.statuses import settled, statuses
from lb.status import ControlPlaneStatus, Verdict, document
from lb.xds import bundle
from weft_protos import lanes, redaction
from weft_protos.usage import DOCUMENT_PREFIX

T = TypeVar("T")

_EXIT_USAGE: Final = 2
_MANIFEST_BYTES_MAX: Final = 1_000_000

_EPILOG: Final = """\
examples:
  python -m lb control-plane
  python -m gateway compile --out build/bundle && python -m lb publish build/bundle
  python -m lb rollback --json
  python -m lb endpoints --service orders
  python -m lb proxies --wait 5f2c...
  python -m lb bootstrap --service shipping --instance shipping-1 --out shipping-1.json

The environment says where etcd is: WEFT_ETCD, WEFT_ETCD_USER, WEFT_SECRETS (file etcd.password).
The control plane also reads WEFT_INSTANCE, WEFT_LISTEN, WEFT_METRICS_PORT, WEFT_LOG_LEVEL, WEFT_STATE (directory of
what was good last) and WEFT_NETWORKS (where instances may be).
`bootstrap` reads WEFT_XDS and nothing else.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 used or configured wrongly."""
    options = _parser().parse_args(arguments)
    try:
        _log_to_stderr(log_level_from_environ())
        result: int = options.run(options)
    except SettingsError as error:
        print(f"lb: {error}", file=sys.stderr)
        return _EXIT_USAGE
    except LbError as error:
        problems = error.problems if isinstance(error, BundleRefusedError) else (str(error),)
        for problem in problems:
            print(f"lb: {problem}", file=sys.stderr)
        return 1
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lb",
        description="The mesh's registry and xDS control plane.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serving = commands.add_parser(
        "control-plane", help="serve xDS until SIGTERM", epilog="example: python -m lb control-plane"
    )
    serving.set_defaults(run=lambda options: asyncio.run(control_plane(ControlPlaneSettings.from_environ())))

    publishing = commands.add_parser(
        "publish",
        help="check a compiled bundle and make it current",
        epilog="example: python -m lb publish build/bundle",
    )
    publishing.add_argument("directory", type=Path, metavar="DIR", help="what `python -m gateway compile` wrote")
    _add_common(publishing)
    publishing.set_defaults(run=_publish)

    rolling = commands.add_parser(
        "rollback", help="make the bundle before the current one current", epilog="example: python -m lb rollback"
    )
    _add_common(rolling)
    rolling.set_defaults(run=_roll_back)

    fetching = commands.add_parser(
        "fetch", help="write the current bundle into a directory", epilog="example: python -m lb fetch build/running"
    )
    fetching.add_argument("directory", type=Path, metavar="DIR", help="an empty directory, or one that is made")
    _add_common(fetching)
    fetching.set_defaults(run=_fetch)

    asking = commands.add_parser(
        "proxies",
        help="print what each client has made of its configuration",
        epilog="example: python -m lb proxies --wait $(python -m lb publish build/bundle --json | jq -r .manifest)",
    )
    asking.add_argument(
        "--wait", metavar="MANIFEST", help="until every connected client has accepted that bundle; 1: one refused it"
    )
    _add_common(asking)
    asking.set_defaults(run=_proxies)

    knowing = commands.add_parser(
        "consumers",
        help="print what services have noted of their consumers, one JSON object by document",
        epilog="example: python -m lb consumers",
    )
    _add_common(knowing)
    knowing.set_defaults(run=_consumers)

    listing = commands.add_parser(
        "endpoints", help="print the registered endpoints as a JSON list", epilog="example: python -m lb endpoints"
    )
    listing.add_argument("--service", help="only of this service")
    _add_common(listing)
    listing.set_defaults(run=_endpoints)

    _add_lanes(commands)
    _add_bootstrap(commands)
    return parser


def _add_lanes(commands: Any) -> None:
    laning = commands.add_parser(
        "lanes",
        help="print the lanes, or have those that standard input says and no others",
        epilog='example: echo \'{"format": 1, "lanes": []}\' | python -m lb lanes --replace',
    )
    laning.add_argument("--replace", action="store_true", help="read the document from standard input and publish it")
    _add_common(laning)
    laning.set_defaults(run=_lanes)


def _add_bootstrap(commands: Any) -> None:
    joining = commands.add_parser(
        "bootstrap",
        help="write the bootstrap file by which a gRPC client in any language joins the mesh",
        description="For GRPC_XDS_BOOTSTRAP of a program in any language: it then reaches services as xds:///<service>.",
        epilog="example: python -m lb bootstrap --service shop --instance shop-1 --xds 127.0.0.1:9100",
    )
    joining.add_argument("--service", required=True, help="what the program is part of")
    joining.add_argument("--instance", required=True, help="its name in `python -m lb proxies`, which no other has")
    joining.add_argument(
        "--xds", action="append", default=[], metavar="HOST:PORT", help="a control plane; else those of WEFT_XDS"
    )
    joining.add_argument("--zone", default="", help="where it runs; instances whose WEFT_ZONE is the same come first")
    joining.add_argument(
        "--identity",
        type=Path,
        metavar="DIR",
        help="tls.crt, tls.key and ca.crt of the program, where hops are encrypted",
    )
    joining.add_argument("--out", type=Path, metavar="FILE", help="write it there, not to standard output")
    joining.set_defaults(run=_bootstrap)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="S", help="wait so long for etcd (default 30)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 3600:
        raise argparse.ArgumentTypeError("give seconds between 0 and 3600")
    return seconds


def _publish(options: argparse.Namespace) -> int:
    manifest, pieces = read_bundle(options.directory)
    checked = bundle.parse(manifest, pieces)

    async def work(client: Client) -> Published:
        blobs = {entry.digest: entry.content for entry in checked.entries}
        return await publish(client, manifest, blobs, pieces_of=bundle.pieces_of)

    result = asyncio.run(_with_etcd(EtcdSettings.from_environ(), work, timeout_s=options.timeout))
    if options.json:
        print(
            json.dumps(
                {
                    "manifest": result.digest,
                    "number": result.number,
                    "resources": len(checked.entries),
                    "blobs_written": result.blobs_written,
                    "changed": result.changed,
                }
            )
        )
    elif result.changed:
        print(f"published {result.digest[:12]} as number {result.number}: {len(checked.entries)} resources")
    else:
        print(f"{result.digest[:12]} is current already")
    return 0


def _roll_back(options: argparse.Namespace) -> int:
    result: RolledBack = asyncio.run(_with_etcd(EtcdSettings.from_environ(), roll_back, timeout_s=options.timeout))
    if options.json:
        print(json.dumps({"manifest": result.digest, "number": result.number, "undone": result.undone}))
    else:
        print(f"back to {result.digest[:12]}, number {result.number}; undone: {result.undone[:12]}")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    async def work(client: Client) -> tuple[str, bytes, dict[str, bytes]]:
        current = await client.get(CURRENT)
        if current is None:
            raise EtcdRefusedError("nothing has been published")
        digest = current.value.decode(errors="replace")
        return digest, *await load(client, digest, bundle.pieces_of, known={})

    digest, manifest, pieces = asyncio.run(_with_etcd(EtcdSettings.from_environ(), work, timeout_s=options.timeout))
    folder: Path = options.directory
    try:
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        for name, content in pieces.items():
            (folder / "blobs" / name).write_bytes(content)
        (folder / "manifest.json").write_bytes(manifest)
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}") from error
    print(json.dumps({"manifest": digest}) if options.json else f"{digest[:12]} -> {folder}")
    return 0


def _proxies(options: argparse.Namespace) -> int:
    wanted: str | None = options.wait
    settings = EtcdSettings.from_environ()
    if wanted is None:
        found = asyncio.run(_with_etcd(settings, statuses, timeout_s=options.timeout))
        print(json.dumps(document(found, datetime.now(UTC))) if options.json else _table(found))
        return 0

    async def work(client: Client) -> Verdict:
        return await settled(client, wanted, timeout_s=options.timeout)

    verdict = asyncio.run(_with_etcd(settings, work, timeout_s=options.timeout))
    if options.json:
        print(json.dumps(asdict(verdict)))
    elif verdict.state == "accepted":
        print(f"accepted by {verdict.clients} clients")
    else:
        for reason in verdict.reasons:
            print(f"lb: {reason}", file=sys.stderr)
    return 0 if verdict.state == "accepted" else 1


def _table(found: Sequence[ControlPlaneStatus]) -> str:
    lines = []
    for status in found:
        refused = f", refused {status.refused_bundle[:12]}" if status.refused_bundle else ""
        lines.append(f"{status.instance} serves {status.bundle[:12] or 'nothing'}{refused}")
        for client in status.clients:
            words = "; ".join(f"refused {each.type}: {each.detail}" for each in client.refusals)
            lines.append(f"  {client.node:<22} {client.kind:<6} {client.state:<6} {words}".rstrip())
    return "\n".join(lines)


def _consumers(options: argparse.Namespace) -> int:
    async def work(client: Client) -> Mapping[str, bytes]:
        return await documents(client, DOCUMENT_PREFIX)

    found = asyncio.run(_with_etcd(EtcdSettings.from_environ(), work, timeout_s=options.timeout))
    print(json.dumps({name: content.decode(errors="replace") for name, content in sorted(found.items())}))
    return 0


def _lanes(options: argparse.Namespace) -> int:
    settings = EtcdSettings.from_environ()
    if options.replace:
        try:
            document = lanes.to_bytes(lanes.from_bytes(sys.stdin.buffer.read()))
        except ValueError as error:
            raise SettingsError(f"standard input: {error}") from error

        async def work(client: Client) -> bool:
            return await replace(client, lanes.DOCUMENT, document)

        changed = asyncio.run(_with_etcd(settings, work, timeout_s=options.timeout))
        print(json.dumps({"changed": changed}) if options.json else "published" if changed else "current already")
        return 0

    async def read(client: Client) -> Mapping[str, bytes]:
        return await documents(client, lanes.DOCUMENT)

    found = asyncio.run(_with_etcd(settings, read, timeout_s=options.timeout))
    print(found.get(lanes.DOCUMENT, lanes.to_bytes(())).decode(errors="replace"))
    return 0


def _endpoints(options: argparse.Namespace) -> int:
    found = asyncio.run(_with_etcd(EtcdSettings.from_environ(), registered, timeout_s=options.timeout))
    rows = [
        {
            "service": endpoint.service,
            "instance": endpoint.instance,
            "address": endpoint.address,
            "port": endpoint.port,
            "version": endpoint.version,
            "lane": endpoint.lane,
            "start_time": endpoint.start_time.isoformat() if endpoint.start_time else None,
        }
        for endpoint in found
        if options.service in (None, endpoint.service)
    ]
    print(json.dumps(rows))
    return 0


def _bootstrap(options: argparse.Namespace) -> int:
    control_planes = config.control_planes(options.xds)
    try:
        service, instance = service_name(options.service), service_name(options.instance)
        zone = zone_name(options.zone)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    identity: Path | None = options.identity
    if identity is not None:
        Credentials(identity, named="--identity")  # refuses a directory that holds none
        identity = identity.absolute()
    text = bootstrap.document(control_planes, bootstrap.Client(instance, service, zone, identity))
    path: Path | None = options.out
    if path is None:
        print(text)
        return 0
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    return 0


def read_bundle(directory: Path) -> tuple[bytes, dict[str, bytes]]:
    """Read `manifest.json` and the blobs it names. Raises BundleRefusedError."""
    path = directory / "manifest.json"
    try:
        manifest = path.read_bytes()
    except OSError as error:
        raise BundleRefusedError([f"{path}: {error.strerror}; write it with `python -m gateway compile`"]) from error
    if len(manifest) > _MANIFEST_BYTES_MAX:
        raise BundleRefusedError([f"{path} is larger than {_MANIFEST_BYTES_MAX} bytes"])
    pieces: dict[str, bytes] = {}
    for digest in bundle.pieces_of(manifest):
        piece = directory / "blobs" / digest
        # A digest is one file name: what looks like a path is left to the check to refuse as missing.
        if piece.name == digest and piece.is_file():
            pieces[digest] = piece.read_bytes()
    return manifest, pieces


async def _with_etcd(settings: EtcdSettings, work: Callable[[Client], Awaitable[T]], *, timeout_s: float) -> T:
    """Do one piece of work, waiting for etcd up to `timeout_s`. Raises EtcdError."""
    dialer, backoff = Dialer(settings), Backoff()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        try:
            async with dialer.session() as client:
                return await work(client)
        except EtcdUnavailableError as error:
            if loop.time() >= deadline:
                where = ", ".join(settings.endpoints)
                raise EtcdUnavailableError(f"etcd at {where} did not answer within {timeout_s:g} s: {error}") from error
        await asyncio.sleep(backoff.next())


def _log_to_stderr(level: str) -> None:
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise SettingsError(f"WEFT_LOG_LEVEL: {level!r} is not a level: debug, info, warning, error")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redaction.clean,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())
