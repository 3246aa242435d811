"""The verb that says why: of a call that was made, by its trace; of one that was not, from the contract alone."""

import json
import re
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.error import HTTPError

import typer

from deploy.cli import call_path
from deploy.cli.jobs import EXIT_ENVIRONMENT, EXIT_USAGE, Json, fail
from deploy.supervisor.config import Settings, child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh

EXIT_REFUSED: Final = 1
FETCH_TIMEOUT_S: Final = 10.0
COMPILER_TIMEOUT_S: Final = 60.0
WIDTH: Final = 8
TEXT_WIDTH: Final = 48
LINE_WIDTH: Final = 100
INDENT: Final = " " * (WIDTH + 1)

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")


def explain(
    what: Annotated[str, typer.Argument(metavar="TRACE_ID|METHOD", help="A trace; with --as a method: PlaceOrder.")],
    scopes: Annotated[
        str | None, typer.Option("--as", metavar="SCOPES", help="A token with just these; empty: without a token.")
    ] = None,
    json_: Json = False,
) -> None:
    """Say what became of a call and by which rule; with --as, whether a method may be called. Exit 1 where not.

    A call is looked up in the trace store and in the gateways' logs. With --as nothing is called and nothing need
    run: the contract alone is asked.

    Example: weft explain 0af7651916cd43dd8448eb211c80319c

    Example: weft explain --as "orders.read catalog.read" PlaceOrder
    """
    if scopes is not None:
        said = _ask_contract(what, scopes)
        print(json.dumps(said) if json_ else "\n".join(contract_lines(said)))
        refused = not said["decision"]["allowed"]
    else:
        path = _look_up(what)
        print(json.dumps(call_path.as_object(path)) if json_ else "\n".join(call_path.lines(path)))
        refused = path.refused
    if refused:
        raise typer.Exit(EXIT_REFUSED)


def contract_lines(said: Mapping[str, Any]) -> Iterator[str]:
    """What the compiler answered, for people: the verdict, its rule, what else holds, and every error to expect."""
    decision, places = said["decision"], said["said_at"]
    who = f"with {' '.join(decision['as'])}" if decision["as"] else "without a token"
    yield f"{'allowed' if decision['allowed'] else 'refused':<{WIDTH}} {said['method']} {who}"
    rows = [
        ("rule", decision["rule"], decision["contract"]),
        ("limit", said["rate_limit"], places["rate_limit"]),
        ("timeout", None if said["timeout_s"] is None else f"{said['timeout_s']:g} s", places["timeout"]),
        ("retry", f"{said['max_attempts']} attempts" if said["max_attempts"] > 1 else None, places["retry"]),
        ("hedging", _after(said["hedging_delay_s"]), places["hedging"]),
        ("cache", None if said["cache_ttl_s"] is None else f"{said['cache_ttl_s']:g} s", places["cache"]),
        ("forgets", ", ".join(said["invalidates"]) or None, places["invalidates"]),
        ("overload", said["criticality"], places["criticality"]),
    ]
    for name, text, place in rows:
        row = f"{name:<{WIDTH}} {'-' if text is None else text:<{TEXT_WIDTH}}"
        yield (row if text is None else f"{row} {place.removeprefix('protos/')}").rstrip()
    for refusal in said["refusals"]:
        yield f"{'error':<{WIDTH}} {refusal['code']} ({refusal['http']}): {refusal['when']}".rstrip()
        yield from textwrap.wrap(
            " ".join(refusal["reasons"]), LINE_WIDTH, initial_indent=INDENT, subsequent_indent=INDENT
        )


def _after(delay_s: float | None) -> str | None:
    return None if delay_s is None else f"after {delay_s:g} s"


def gateway_records(folder: Path, trace_id: str) -> list[tuple[str, Mapping[str, Any]]]:
    """What each gateway logged of a trace, also in the file before the present one."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    for path in sorted([*folder.glob("gateway-*.log.1"), *folder.glob("gateway-*.log")]):
        with path.open(encoding="utf-8", errors="replace") as file:
            found += [(path.name.partition(".")[0], record) for record in call_path.records(file, trace_id)]
    return found


def _look_up(what: str) -> call_path.Path:
    trace_id = what.lower()
    if not _TRACE_ID.fullmatch(trace_id):
        fail(
            EXIT_USAGE, f"{what!r} is not a trace id (32 hexadecimal digits); a method is asked about with --as SCOPES"
        )
    data = Settings.from_environ().data
    url = Mesh(data).status().urls.get("traces")
    trace = None if url is None else _fetch(f"{url.rstrip('/')}/api/traces/{trace_id}")
    logged = gateway_records(Layout(data).log, trace_id)
    if trace is None and not logged:
        fail(EXIT_USAGE, f"no call has the trace {trace_id}, or it is too long ago")
    return call_path.path_of(trace_id, trace, logged)


def _fetch(url: str) -> Mapping[str, Any] | None:
    """The trace; None where the store has none."""
    try:
        with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as response:
            trace: Mapping[str, Any] = json.load(response)
    except HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            return None
        fail(EXIT_ENVIRONMENT, f"the trace store answers {error.code}")
    except OSError as error:
        fail(EXIT_ENVIRONMENT, f"the trace store does not answer: {error}")
    return trace


def _ask_contract(method: str, scopes: str) -> dict[str, Any]:
    """What the contract compiler says; a process of its own, because the compiler is nobody's library."""
    command = [sys.executable, "-m", "gateway", "explain", "--json", f"--as={scopes}", "--", method]
    try:
        done = subprocess.run(
            command, env=child_environ(), capture_output=True, text=True, timeout=COMPILER_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        fail(EXIT_ENVIRONMENT, f"the contract compiler did not answer within {COMPILER_TIMEOUT_S:.0f} s")
    cause = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode == EXIT_USAGE:
        fail(EXIT_USAGE, cause.removeprefix("gateway: "))
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        fail(EXIT_ENVIRONMENT, f"the contract compiler failed: {cause}")
    return said
