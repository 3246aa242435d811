"""`python -m gateway compile | check | plan | slo | docs | descriptors | explain | bootstrap`: reads argv and prints.

No other module of the package does either.

Exit codes: 0 done, 1 the contracts break rules or the answer is no, 2 a wrong argument or a file that cannot be read
or written.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from google.protobuf.message import Message

from gateway import compiler, contract, policy
from gateway.docs import refusals, site
from gateway.envoy import bootstrap, hop, tls
from gateway.envoy.bootstrap import Address
from gateway.envoy.edge import Edge, Profile
from gateway.errors import CompileError, ContractUnreadableError, UnknownMethodError, UnknownScopeError, Violation
from weft_protos import identity, locations
from weft_protos.xds import XdsDescriptorsMissingError, to_dict

PORT_MAX: Final = 65_535
SOCKET_PATH_MAX: Final = 107
_EXAMPLES: Final = """examples:
  python -m gateway check
  python -m gateway plan --against protos/baseline.binpb
  python -m gateway compile --out build/bundle --port 8080 --tls-port 8443
  python -m gateway docs --out build/docs/contracts
  python -m gateway slo --out build/slo.yml
  python -m gateway explain PlaceOrder --as "orders.read catalog.read"
  python -m gateway bootstrap --node gateway-1 --xds 127.0.0.1:9100 --metrics-port 9901 \\
      --tls-cert tls/tls.crt --tls-key tls/tls.key --tls-secret /run/weft/edge-tls.json \\
      --admin-socket /run/weft/gateway-1.sock --out gateway-1.pb
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        done: int = arguments.run(arguments)
    except CompileError as error:
        if getattr(arguments, "json", False):
            print(json.dumps({"violations": [_violation(each) for each in error.violations]}, indent=2))
            return 1
        print(error, file=sys.stderr)
        count = len(error.violations)
        written = "; nothing was written" if hasattr(arguments, "out") else ""
        print(f"{count} violation{'s' if count > 1 else ''}{written}", file=sys.stderr)
        return 1
    except (ContractUnreadableError, UnknownMethodError, UnknownScopeError, XdsDescriptorsMissingError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"gateway: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return 2
    return done


def _compile(arguments: argparse.Namespace) -> int:
    bundle = compiler.compile_contracts(_descriptors(arguments), _edge(arguments))
    compiler.write(bundle, arguments.out)
    print(f"{bundle.methods} methods, {len(bundle.resources)} resources -> {arguments.out}")
    return 0


def _edge(arguments: argparse.Namespace) -> Edge:
    profile = Profile(arguments.profile)
    default = Edge.of(profile)
    given = {
        "address": arguments.address,
        "port": arguments.port,
        "tls_port": arguments.tls_port,
        "trace_percent": arguments.trace_percent,
        "tls_secret": arguments.tls_secret and arguments.tls_secret.absolute(),
        "tls_names": arguments.tls_name and tuple(arguments.tls_name),
        "hop_secrets": arguments.hop_secrets and arguments.hop_secrets.absolute(),
    }
    return replace(default, **{name: value for name, value in given.items() if value is not None})


def _check(arguments: argparse.Namespace) -> int:
    against: Path | None = arguments.against
    before = None if against is None else compiler.read_descriptors(against)
    policies = compiler.check(_descriptors(arguments), against=before)
    if arguments.json:
        print(json.dumps({"violations": []}))
        return 0
    kept = "every rule" if against is None else f"every rule, and what {against} promised"
    print(f"{len(policies.rpcs)} methods and {len(policies.events)} events keep {kept}")
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    made = compiler.compare(compiler.read_descriptors(arguments.against), _descriptors(arguments))
    print(json.dumps(made.as_object(), indent=2) if arguments.json else made)
    return 0


def _write_descriptors(arguments: argparse.Namespace) -> int:
    content = compiler.read_descriptors(arguments.bundle)
    arguments.out.write_bytes(content)
    print(f"{len(content)} bytes -> {arguments.out}")
    return 0


def _docs(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    if out.exists() and not (out / site.INDEX).is_file() and (not out.is_dir() or any(out.iterdir())):
        print(f"gateway: --out: {out} is there and is no site of contracts; name another directory", file=sys.stderr)
        return 2
    sources = arguments.sources
    if sources is None:
        sources = f"{quote(os.path.relpath(Path.cwd(), out.resolve()))}/"
    pages = compiler.document(_descriptors(arguments), sources=sources)
    compiler.write_pages(pages, out)
    print(f"{len(pages)} pages -> {out / site.INDEX}")
    return 0


def _slo(arguments: argparse.Namespace) -> int:
    rules = compiler.watch(_descriptors(arguments))
    staged: Path = arguments.out.with_name(f".{arguments.out.name}.{os.getpid()}")
    staged.write_text(rules, encoding="utf-8")
    staged.replace(arguments.out)
    print(f"rules -> {arguments.out}")
    return 0


def _violation(violation: Violation) -> dict[str, object]:
    location = violation.location
    return {"file": location.file, "line": location.line, "message": violation.message, "fix": violation.fix}


def _explain(arguments: argparse.Namespace) -> int:
    policies = policy.resolve(contract.load(_descriptors(arguments)))
    rpc = policy.find(policies, arguments.method)
    said = policy.describe(rpc)
    expected = refusals.expected(rpc)
    decision: dict[str, object] = {}
    if arguments.scopes is not None:
        decision = policy.decide(policies, rpc, arguments.scopes)
    code = 0 if decision.get("allowed", True) else 1
    if arguments.json:
        said["refusals"] = [asdict(refusal) for refusal in expected]
        print(json.dumps(said | ({"decision": decision} if decision else {}), indent=2))
        return code
    places = said.pop("said_at")
    assert isinstance(places, dict)
    said.pop("errors")
    parts = {"timeout_s": "timeout", "max_attempts": "retry", "cache_ttl_s": "cache"}
    for key, value in said.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
        location = places.get(parts.get(key, key), "") if value is not None else ""
        print(f"{key:<17} {text:<60} {location}".rstrip())
    for refusal in expected:
        print(f"{'error':<17} {' '.join((refusal.code, *refusal.reasons)):<40} {refusal.when}".rstrip())
    if decision:
        verdict = "allowed" if decision["allowed"] else "refused"
        print(f"{verdict:<17} {decision['rule']!s:<60} {places['access']}")
    return code


def _bootstrap(arguments: argparse.Namespace) -> int:
    if (arguments.identity is None) != (arguments.hop_secrets is None):
        print("gateway: --identity and --hop-secrets go together; give both or neither", file=sys.stderr)
        return 2
    settings = bootstrap.Settings(
        node=arguments.node,
        control_planes=arguments.xds,
        collector=arguments.otlp,
        metrics_port=arguments.metrics_port,
        admin_socket=arguments.admin_socket,
        pages=arguments.pages or (),
        zone=arguments.zone,
        metrics_address=arguments.metrics_address,
        hop_secrets=_put_hop_secrets(arguments.identity, arguments.hop_secrets),
    )
    secret = tls.secret(_existing(arguments.tls_cert), _existing(arguments.tls_key))
    _put(arguments.tls_secret, secret)
    size = _put(arguments.out, bootstrap.build(settings))
    print(f"{arguments.node}: {size} bytes -> {arguments.out}")
    return 0


def _put_hop_secrets(own: Path | None, folder: Path | None) -> Path | None:
    """Write what `compile` is told of the gateways' own certificate. Raises OSError where it is not whole."""
    if own is None or folder is None:
        return None
    for name in identity.FILES:
        _existing(own / name)
    for name, message in hop.secret_files(own.absolute()):
        _put(folder / name, message)
    return folder.absolute()


def _put(path: Path, message: Message) -> int:
    """Write a message, as JSON where the path says so, whole or not at all; its size in bytes."""
    if path.suffix == ".json":
        content = (json.dumps(to_dict(message), indent=1) + "\n").encode()
    else:
        content = message.SerializeToString(deterministic=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_bytes(content)
    staged.replace(path)
    return len(content)


def _descriptors(arguments: argparse.Namespace) -> bytes:
    path: Path = arguments.descriptors or locations.contracts()
    return path.read_bytes()


def _existing(path: Path) -> Path:
    """The absolute path of a readable file: Envoy starts in another directory. Raises OSError.

    Links stay links: a certificate is often changed by turning one.
    """
    with path.open("rb"):
        return path.absolute()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway",
        description="Compiles the contracts into what Envoy and gRPC clients are configured with.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_compile(commands)
    checking = _add(commands, "check", "name every rule that the contracts break", "python -m gateway check")
    checking.add_argument("--against", type=Path, help="also name what breaks callers of this descriptor set or bundle")
    checking.add_argument("--json", action="store_true", help="print one JSON object")
    checking.set_defaults(run=_check)
    planning = _add(
        commands, "plan", "print what changes against other contracts", "python -m gateway plan --against old.binpb"
    )
    planning.add_argument("--against", type=Path, required=True, help="descriptor set or bundle to compare with")
    planning.add_argument("--json", action="store_true", help="print one JSON object")
    planning.set_defaults(run=_plan)
    _add_docs(commands)
    watching = _add(
        commands, "slo", "write the Prometheus rules that watch the objectives", "python -m gateway slo --out slo.yml"
    )
    watching.add_argument("--out", type=Path, required=True, metavar="FILE", help="rule file to write or replace")
    watching.set_defaults(run=_slo)
    example = "python -m gateway descriptors build/bundle --out old.binpb"
    extracting = commands.add_parser(
        "descriptors", help="write the contracts that a bundle was compiled from", epilog=f"example: {example}"
    )
    extracting.add_argument("bundle", type=Path, metavar="DIR", help="what `compile` wrote")
    extracting.add_argument("--out", type=Path, required=True, metavar="FILE", help="descriptor set to write")
    extracting.set_defaults(run=_write_descriptors)
    explaining = _add(commands, "explain", "print what holds for one method", "python -m gateway explain PlaceOrder")
    explaining.add_argument("method", metavar="METHOD", help="its full name or an unambiguous end: PlaceOrder")
    explaining.add_argument("--json", action="store_true", help="print one JSON object")
    explaining.add_argument(
        "--as",
        dest="scopes",
        type=_scopes,
        metavar="SCOPES",
        help="say whether a token with just these scopes may call it; empty: without a token; exit 1 where not",
    )
    explaining.set_defaults(run=_explain)
    _add_bootstrap(commands)
    return parser


def _add_compile(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _add(commands, "compile", "write the bundle that `lb publish` takes", "python -m gateway compile --out b")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write or replace")
    local, production = Edge.of(Profile.LOCAL), Edge.of(Profile.PRODUCTION)
    profiles = [profile.value for profile in Profile]
    command.add_argument(
        "--profile",
        choices=profiles,
        default=profiles[0],
        help="production: no reflection, no welcome, nothing in clear (%(default)s)",
    )
    command.add_argument("--address", help=f"address to listen on ({local.address})")
    command.add_argument("--port", type=_port, help=f"port in clear ({local.port}; production: none)")
    command.add_argument("--tls-port", type=_port, help=f"port with TLS ({local.tls_port})")
    command.add_argument(
        "--tls-secret", type=Path, metavar="FILE", help=f"what `bootstrap` wrote as such ({local.tls_secret})"
    )
    command.add_argument("--tls-name", action="append", help="a name of the certificate; repeat for more (localhost)")
    command.add_argument(
        "--hop-secrets", type=Path, metavar="DIR", help="where `bootstrap` wrote what encrypts hops inside (in clear)"
    )
    command.add_argument(
        "--trace-percent",
        type=_percent,
        help=f"share of requests that are traced ({local.trace_percent:g}; production: {production.trace_percent:g})",
    )
    command.set_defaults(run=_compile)


def _add_docs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _add(commands, "docs", "write the reference site", "python -m gateway docs --out build/docs/contracts")
    command.add_argument(
        "--out", type=Path, default=Path("build/docs/contracts"), metavar="DIR", help="directory (%(default)s)"
    )
    command.add_argument("--sources", metavar="URL", help="what links to file and line begin with (this directory)")
    command.set_defaults(run=_docs)


def _add_bootstrap(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    example = "python -m gateway bootstrap --node gateway-1 --xds 127.0.0.1:9100 ... --out gateway-1.pb"
    command = _add(commands, "bootstrap", "write the file that one Envoy starts with", example)
    command.add_argument("--node", required=True, help="the gateway's name: gateway-1")
    command.add_argument("--zone", default="", help="where it runs; instances whose WEFT_ZONE is the same come first")
    command.add_argument(
        "--xds", type=_address, action="append", required=True, help="a control plane; repeat for more"
    )
    command.add_argument(
        "--pages", type=_address, action="append", help="who serves the console's pages over HTTP; repeat for more"
    )
    command.add_argument("--metrics-port", type=_port, required=True, help="port of metrics and /ready")
    command.add_argument(
        "--metrics-address", default="127.0.0.1", metavar="IP", help="where that port is (%(default)s)"
    )
    command.add_argument("--otlp", type=_address, help="collector of spans; without it they are dropped")
    command.add_argument(
        "--tls-cert", type=Path, required=True, help="certificate chain, PEM; read again when its directory changes"
    )
    command.add_argument("--tls-key", type=Path, required=True, help="private key, PEM")
    command.add_argument(
        "--tls-secret", type=Path, required=True, metavar="FILE", help="where to write what `compile` is told of both"
    )
    command.add_argument(
        "--identity", type=Path, metavar="DIR", help="tls.crt, tls.key and ca.crt of hops inside; with --hop-secrets"
    )
    command.add_argument(
        "--hop-secrets", type=Path, metavar="DIR", help="where to write what `compile` is told of them as such"
    )
    command.add_argument("--admin-socket", type=_socket, required=True, help="path of Envoy's admin socket")
    command.add_argument("--out", type=Path, required=True, help="FILE.pb (binary) or FILE.json")
    command.set_defaults(run=_bootstrap)


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary, epilog=f"example: {example}")
    if name != "bootstrap":
        command.add_argument("--descriptors", type=Path, help="descriptor set to read (protos/gen/contracts.binpb)")
    return command


def _scopes(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= PORT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to {PORT_MAX})")
    return int(text)


def _address(text: str) -> Address:
    host, separator, port = text.removeprefix("http://").rpartition(":")
    if not separator or not host:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port")
    return Address(host.strip("[]"), _port(port))


def _socket(text: str) -> Path:
    path = Path(text).absolute()
    if len(str(path)) > SOCKET_PATH_MAX:
        raise argparse.ArgumentTypeError(
            f"{path} is longer than the {SOCKET_PATH_MAX} bytes that a socket's path may have"
        )
    return path


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage (0 to 100)")
    return value


if __name__ == "__main__":
    sys.exit(main())
