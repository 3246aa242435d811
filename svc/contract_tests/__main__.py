"""The command: `python -m svc.contract_tests replay DIR --address HOST:PORT`, or `mock SERVICE...`."""

import argparse
import importlib
import json
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import grpc

from svc.contract_tests import messages, records, standing
from svc.contract_tests.errors import ContractTestError
from svc.contract_tests.replay import Result, States, replay

EXIT_BROKEN: Final = 1
EXIT_USAGE: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say. Returns the exit code: 0 all holds, 1 something does not, 2 an argument is wrong."""
    parser = argparse.ArgumentParser(prog="python -m svc.contract_tests", description="Contract tests of consumers.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_mock(commands)
    _add_replay(commands)
    options = parser.parse_args(arguments)
    try:
        return _mock(options) if options.command == "mock" else _replay(options)
    except ContractTestError as error:
        print(f"weft: {error}", file=sys.stderr)
        return EXIT_USAGE


def _add_mock(commands: Any) -> None:
    parser = commands.add_parser(
        "mock",
        description="Stand in for services of the contracts until it is stopped.",
        epilog="example: python -m svc.contract_tests mock catalog orders --port 9090 --answers answers.json",
    )
    parser.add_argument("service", nargs="+", help="as clients call it, `catalog`, or its full name")
    parser.add_argument("--port", type=int, default=0, help="for gRPC; 0: any")
    parser.add_argument("--web-port", type=int, default=0, help="for gRPC-web; 0: any")
    parser.add_argument("--answers", type=Path, help="what to answer to which request; else examples")
    parser.add_argument("--scope", action="append", default=[], help="ask for tokens, and print one with these scopes")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _mock(options: argparse.Namespace) -> int:
    services = standing.services_of(options.service)
    answers = standing.read_answers(options.answers, services) if options.answers else []
    mock = standing.Standing(services, answers, scopes=options.scope)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        places = mock.start(options.port, options.web_port)
    except (OSError, OverflowError) as error:
        mock.close()
        raise ContractTestError(str(error)) from None
    if options.json:
        print(json.dumps(asdict(places)), flush=True)
    else:
        shown = [("services", " ".join(service.full_name for service in services)), ("gRPC", places.grpc)]
        shown += [("gRPC-web", places.web), *([("token", places.token)] if places.token else [])]
        print("\n".join(f"{name:<10}{value}" for name, value in shown), flush=True)
    stopped.wait()
    mock.close()
    return 0


def _add_replay(commands: Any) -> None:
    parser = commands.add_parser(
        "replay",
        description="Replay what consumers rely on against a real provider, and name every difference.",
        epilog="example: weft token | python -m svc.contract_tests replay tests/contracts --address 127.0.0.1:8080 "
        "--token-file - --states tests.fakes.catalog_states:states",
    )
    parser.add_argument("directory", type=Path, help="records, as `pytest --weft-record` writes them")
    parser.add_argument("--address", required=True, help="host:port of a gateway or an instance, in clear")
    parser.add_argument("--provider", default="", help="full name of a service: replay its records only")
    parser.add_argument("--token-file", default="", help="file with the caller's access token; `-`: standard input")
    parser.add_argument("--states", default="", help="module:name of the States that bring about what records suppose")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _replay(options: argparse.Namespace) -> int:
    states, token = _states(options.states), _token(options.token_file)
    found = records.load(options.directory, provider=options.provider)
    if not found:
        raise ContractTestError(f"{options.directory} has no record{' of ' * bool(options.provider)}{options.provider}")
    with grpc.insecure_channel(options.address) as channel:
        results = [each for record in found for each in replay(record, channel, states=states, token=token)]
    _report(results, as_json=options.json)
    return EXIT_BROKEN if any(result.mismatches for result in results) else 0


def _states(named: str) -> States:
    if not named:
        return States()
    module, _, name = named.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ContractTestError(f"--states {named}: {error}") from None
    if not isinstance(found, States):
        raise ContractTestError(f"--states {named}: is no States of svc.contract_tests.replay")
    return found


def _token(path: str) -> str:
    try:
        return "" if not path else (sys.stdin.read() if path == "-" else Path(path).read_text()).strip()
    except OSError as error:
        raise ContractTestError(f"--token-file {path}: {error.strerror}") from None


def _report(results: Sequence[Result], *, as_json: bool) -> None:
    broken = sum(bool(result.mismatches) for result in results)
    summary = f"{len(results) - broken} of {len(results)} interactions hold"
    if as_json:
        listed = [
            {
                "consumer": result.record.consumer,
                "provider": result.record.provider,
                "interaction": str(result.interaction),
                "mismatches": list(result.mismatches),
            }
            for result in results
        ]
        print(json.dumps({"summary": summary, "results": listed}, indent=2))
        return
    for result in results:
        print(f"{'broken' if result.mismatches else 'holds '}  {result}")
    for record in {result.record.provider: result.record for result in results}.values():
        if record.contract != records.contract_hash(messages.service_of(record.provider)):
            print(f"note: {record.provider} has another contract than when {record.consumer} recorded")
    print(summary)


if __name__ == "__main__":
    sys.exit(main())
