"""The verb `weft call`: one call through the gateway, and everything that is known of its answer. Registered by app.py.

The answer is all that goes to standard output, so that it can be piped; whatever explains it goes to standard error.
It is one attempt: what is shown is what the mesh has said, and nothing was repeated until it looked better.
"""

import base64
import binascii
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from deploy.cli import exits, failure, methods, names, request_json, sources, troubleshooting
from deploy.cli.durations import seconds
from deploy.cli.exits import fail
from deploy.cli.failure import Failure
from deploy.cli.gateway_client import GatewayClient, SignInError, describe
from deploy.cli.jobs import IMPATIENT_S, connect
from deploy.cli.terminal import printable
from weft.options.v1 import policy_pb2
from weft_protos import policy, redaction

#: Longer than any contract lets a method take: the mesh answers first. A stream goes on until it ends.
TIMEOUT_S: Final = 60.0
_ENTRY: Final = re.compile(r"([0-9a-zA-Z_.-]+)\s*:\s*(.*)")
_RESERVED: Final = ("grpc-", "te", "content-type", "host", "connection")

Data = Annotated[
    str, typer.Option("--data", "-d", metavar="JSON|@FILE|-", help="The request; of a file, or standard input.")
]
As = Annotated[
    str | None, typer.Option("--as", metavar="USER", help="Act for this user, by id; audited. Empty: without a token.")
]
Scope = Annotated[
    list[str] | None,
    typer.Option(help="With a token of just this scope; repeatable.", autocompletion=names.scopes),
]
Entries = Annotated[list[str] | None, typer.Option("--header", "-H", metavar="K:V", help="More metadata; repeatable.")]
Timeout = Annotated[float | None, typer.Option(parser=seconds, metavar="TIME", help="The call's deadline: 500ms, 5s.")]
Lines = Annotated[bool, typer.Option("--json", help="One line for each answer; an error as one JSON object.")]
NoCheck = Annotated[bool, typer.Option("--no-check", help="Send it although it breaks its contract.")]
Method = Annotated[str, typer.Argument(help="Such as GetProduct; with its service too.", autocompletion=names.methods)]


def call(
    method: Method,
    data: Data = "{}",
    as_: As = None,
    scope: Scope = None,
    header: Entries = None,
    timeout: Timeout = None,
    json_: Lines = False,
    no_check: NoCheck = False,
) -> None:
    """Call a method through the gateway as the operator, and print its answer as JSON; exit 1 where it is an error.

    The request is held against its contract before it is sent. A stream is printed as it comes, until Ctrl-C. An error
    is shown with its reason in the contract's words, what to do about it, and its trace. What may not be in the list of
    processes, such as a password, is given by @FILE or -.

    Example: weft call GetProduct -d '{"name": "products/mug"}'

    Example: weft call ListOrders --as ada | jq .orders[].name
    """
    try:
        found = methods.find(method)
        request = request_json.parse(_text(data), found.input_type, check=not no_check)
        metadata = [_entry(text) for text in header or ()]
    except methods.UnknownMethodError as error:
        fail(exits.USAGE, str(error))
    except request_json.RequestRefusedError as error:
        fail(exits.USAGE, f"the request is no {found.input_type.full_name}: {error}")
    if found.client_streaming:
        fail(exits.USAGE, f"{found.name} takes a stream of requests, and this sends one")
    if data[:1] not in ("@", "-") and (told := list(_secrets(request))):
        print(
            f"weft: {', '.join(told)} could be read in the list of processes; next time use -d @FILE", file=sys.stderr
        )
    _known_scopes(scope or ())
    client, status = connect(patience_s=IMPATIENT_S)
    with closing(client):
        metadata += _authorization(client, found, metadata, as_=as_, scopes=scope or ())
        sent = Sent(found, request, tuple(metadata), timeout)
        failed = _show(sent, client.channel(), as_json=json_, traces=status.urls.get("traces") or "")
    if failed is not None:
        raise typer.Exit(failed)


@dataclass(frozen=True, slots=True)
class Sent:
    """One call, ready to be made."""

    method: MethodDescriptor
    request: Message
    metadata: tuple[tuple[str, str | bytes], ...] = field(repr=False)
    timeout_s: float | None

    def answers(self, channel: grpc.Channel) -> "Answers":
        """Begin it. Whatever it answers is iterated, a unary answer as a stream of one."""
        serve = channel.unary_stream(
            f"/{methods.full_name(self.method)}",
            request_serializer=type(self.request).SerializeToString,
            response_deserializer=GetMessageClass(self.method.output_type).FromString,
        )
        limit = None if self.method.server_streaming else TIMEOUT_S
        return Answers(serve(self.request, timeout=self.timeout_s or limit, metadata=self.metadata))


class Answers:
    """The answers of a call, and by which trace it is known."""

    def __init__(self, running: Any) -> None:
        """`running`: gRPC's own iterator."""
        self._running = running

    def __iter__(self) -> Iterator[Message]:
        """Each message. Raises grpc.RpcError; whoever stops listening ends the call."""
        try:
            yield from self._running
        finally:
            self._running.cancel()

    @property
    def trace_id(self) -> str:
        """Empty where the gateway has not said."""
        entries = (*(self._running.initial_metadata() or ()), *(self._running.trailing_metadata() or ()))
        return printable(next((value for key, value in entries if key == failure.TRACE_ID), ""))


def _show(sent: Sent, channel: grpc.Channel, *, as_json: bool, traces: str) -> int | None:
    """Print the answers, and what there is to say of them; the exit code where it is an error."""
    began = time.monotonic()
    answers = sent.answers(channel)
    try:
        for message in answers:
            print(json.dumps(json_format.MessageToDict(message), indent=None if as_json else 2), flush=True)
    except grpc.RpcError as error:
        found = failure.of(error)
        _explain(found, sent.method, as_json=as_json, traces=traces)
        return exits.UNREACHABLE if _unreached(found) else exits.FAILED
    if sys.stderr.isatty():
        took = f"OK after {1000 * (time.monotonic() - began):.0f} ms"
        for line in (took, *_trace_lines(answers.trace_id, traces)):
            print(line, file=sys.stderr)
    return None


def _explain(found: Failure, method: MethodDescriptor, *, as_json: bool, traces: str) -> None:
    """Say what a failure is, on standard error."""
    if _unreached(found):
        explanation, fix, docs = "", "`weft check` says what is wrong with it", ""
    else:
        explanation = methods.explanation(method, found.reason) or _by_policy(method, found)
        fix, docs = failure.fix_of(found, methods.scopes(method)), troubleshooting.place(found.code, found.reason)
    if as_json:
        print(json.dumps(failure.as_object(found, explanation=explanation, fix=fix, docs=docs)), file=sys.stderr)
        return
    first, *more = failure.lines(found, explanation=explanation, fix=fix, docs=docs)
    for line in (f"weft: {first}", *more, *_trace_lines(found.trace_id, traces)):
        print(line, file=sys.stderr)


def _by_policy(method: MethodDescriptor, found: Failure) -> str:
    """What the contract compiler says of a reason that follows from the method's policy."""
    if not found.reason:
        return ""
    try:
        said = sources.python(
            "gateway", "explain", "--json", "--as=", "--", methods.full_name(method), answers=(0, exits.FAILED)
        )
    except sources.CommandFailedError:
        return ""  # the error itself is more than nothing
    refusals = json.loads(said)["refusals"]
    return next((str(each["when"]) for each in refusals if found.reason in each["reasons"]), "")


def _unreached(found: Failure) -> bool:
    """Whether nobody answered: gRPC's own client said so, not a gateway, which would have named the trace."""
    return found.code == "UNAVAILABLE" and not found.trace_id and not found.reason


def _trace_lines(trace_id: str, traces: str) -> Iterator[str]:
    if trace_id:
        yield f"  trace     {traces.rstrip('/')}/traces/{trace_id}" if traces else f"  trace     {trace_id}"
        yield f"  explain   weft explain {trace_id}"


def _text(data: str) -> str:
    """The request as it was given: itself, a file's, or standard input's."""
    try:
        if data == "-":
            return sys.stdin.buffer.read().decode()
        return Path(data[1:]).read_bytes().decode() if data.startswith("@") else data
    except OSError as error:
        fail(exits.USAGE, f"--data: {data[1:]}: {error.strerror}")
    except UnicodeDecodeError as error:
        fail(exits.USAGE, f"--data: is not UTF-8: {error}")


def _entry(text: str) -> tuple[str, str | bytes]:
    """One entry of metadata; the value of a name that ends in `-bin` is base64."""
    found = _ENTRY.fullmatch(text)
    if found is None:
        fail(exits.USAGE, f"--header: {text!r} is not NAME:VALUE")
    name, value = found[1].lower(), found[2]
    if name.startswith(_RESERVED[0]) or name in _RESERVED[1:]:
        fail(exits.USAGE, f"--header: {name} is not for callers to set")
    if name.endswith("-bin"):
        try:
            return name, base64.b64decode(value, validate=True)
        except binascii.Error:
            fail(exits.USAGE, f"--header: the value of {name} is not base64")
    if not (value.isascii() and value.isprintable()):
        fail(exits.USAGE, f"--header: the value of {name} has characters other than ASCII's printable ones")
    return name, value


def _known_scopes(wanted: Sequence[str]) -> None:
    known = policy.scopes()
    for scope in wanted:
        if scope not in known:
            fail(exits.USAGE, f"no contract names the scope {scope!r}; known are {', '.join(sorted(known))}")


def _authorization(
    client: GatewayClient,
    method: MethodDescriptor,
    metadata: Sequence[tuple[str, str | bytes]],
    *,
    as_: str | None,
    scopes: Sequence[str],
) -> list[tuple[str, str | bytes]]:
    """The token's entry: of whom the arguments name, else the operator's; nothing where no token is asked for."""
    if as_ == "" and scopes:
        fail(exits.USAGE, "--as '' is without a token, and --scope says what one may; give one of them")
    own = any(name == "authorization" for name, _ in metadata)
    # A public method asks for none, and signing in for it would be work and a line of the audit log for nothing.
    if own or as_ == "" or (as_ is None and not scopes and not methods.scopes(method)):
        return []
    try:
        session = client.delegate(as_, *scopes) if as_ else client.sign_in(*scopes)
    except SignInError as error:
        fail(exits.UNREACHABLE, str(error))
    except grpc.RpcError as error:
        fail(exits.FAILED, f"there is no token for {as_}: {describe(error)}")
    return [("authorization", f"Bearer {session.access_token}")]


def _secrets(message: Message) -> Iterator[str]:
    """Paths of the fields that hold what the contract marks as a secret."""
    for known, value in message.ListFields():
        if redaction.sensitivity(known) == policy_pb2.SENSITIVITY_SECRET:
            yield known.name
        elif known.message_type is not None and not known.is_repeated:
            yield from (f"{known.name}.{path}" for path in _secrets(value))
