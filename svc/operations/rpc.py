"""The services of `weft.operations.v1`: protobuf in, a question to whoever knows, protobuf out.

The chassis calls these with requests that are valid by the contract's rules. Who does not answer is told by name:
UNAVAILABLE where an answer is nothing without it, a line of `sources` where it is only a part.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from svc.chassis.context import CallContext
from svc.chassis.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from svc.chassis.pages import PageTokens
from svc.operations import mesh, names, views
from svc.operations.contracts import Contracts
from svc.operations.sources import WAIT_S, Http, NotThereError, SourceAwayError, SourceRefusedError, Supervisor
from svc.operations.watching import Watching
from weft.operations.v1 import alerts_pb2, contracts_pb2, mails_pb2, mesh_pb2, queues_pb2, traces_pb2

PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 1000
LINES_DEFAULT: Final = 200
METHODS_DEFAULT: Final = 200
MAILS_MAX: Final = 500
LIST_DEFAULT: Final = 100
#: A replay of many letters takes its time: each is confirmed.
REPLAY_S: Final = 55.0
#: What is left of a caller's time to be told that the supervisor has not answered.
TELLING_S: Final = 0.5
_LEAST_S: Final = 0.1
#: The signal that nobody can refuse (signal(7)).
SIGKILL: Final = 9
#: A watcher whose client has gone is noticed after so long at the latest.
NOTICE_S: Final = 2.0
_RETRY_AFTER_S: Final = 1.0
#: All queues, in the place of one (AIP-159).
ALL: Final = "-"

Item = TypeVar("Item", bound=Message)


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Ask somebody; whoever calls is told where there is no answer."""
    try:
        yield
    except (SourceAwayError, ValueError) as error:
        raise Unavailable(
            f"{str(error)[:1].upper()}{str(error)[1:]}.",
            reason="SOURCE_UNAVAILABLE",
            metadata={"source": what},
            retry_after=_RETRY_AFTER_S,
        ) from error


class Page:
    """Cuts lists that are held in memory into pages; a token is the position of the next item."""

    def __init__(self, tokens: PageTokens) -> None:
        self._tokens = tokens

    def cut(
        self, items: Sequence[Item], request: Any, call: CallContext, *, default: int
    ) -> tuple[Sequence[Item], str]:
        """The page that a request asks for, and the token of the next one."""
        values = self._tokens.decode(request.page_token, scope=call.method)
        start, size = int(values[0]) if values else 0, min(request.page_size or default, PAGE_MAX)
        more = len(items) > start + size
        token = self._tokens.encode((str(start + size),), scope=call.method) if more else ""
        return items[start : start + size], token


class MeshHandler:
    """Serves `weft.operations.v1.MeshService`."""

    def __init__(self, watching: Watching[mesh_pb2.Mesh], supervisor: Supervisor) -> None:
        self._watching = watching
        self._supervisor = supervisor

    def GetMesh(self, _request: mesh_pb2.GetMeshRequest, call: CallContext) -> mesh_pb2.Mesh:
        """Read the mesh as it is now."""
        return glance(self._watching, call)

    def WatchMesh(self, _request: mesh_pb2.WatchMeshRequest, call: CallContext) -> Iterator[mesh_pb2.WatchMeshResponse]:
        """Send it again and again."""
        number = 0
        with self._watching.open():
            while call.is_active():
                found = self._watching.next(number, NOTICE_S)
                if found is not None:
                    number = found[0]
                    yield mesh_pb2.WatchMeshResponse(mesh=found[1])

    def RestartProcess(self, request: mesh_pb2.RestartProcessRequest, call: CallContext) -> mesh_pb2.Process:
        """Have a process restarted."""
        self._process(request.name, call)
        self._do("restart", call, name=names.last(request.name), wait=False)
        return self._process(request.name, call)

    def KillProcess(self, request: mesh_pb2.KillProcessRequest, call: CallContext) -> mesh_pb2.Process:
        """End a process."""
        self._process(request.name, call)
        self._do("kill", call, name=names.last(request.name), signal=SIGKILL)
        return self._process(request.name, call)

    def ScaleService(self, request: mesh_pb2.ScaleServiceRequest, call: CallContext) -> mesh_pb2.Service:
        """Want another number of instances."""
        self._service(request.name, call)
        wanted: dict[str, object] = {"size": request.size}
        if request.WhichOneof("sizing") == "bounds":
            wanted = {"auto": [request.bounds.min, request.bounds.max] if request.bounds.max else None}
        self._do("scale", call, service=names.last(request.name), wait=False, **wanted)
        return self._service(request.name, call)

    def RollService(self, request: mesh_pb2.RollServiceRequest, call: CallContext) -> mesh_pb2.Service:
        """Have every instance replaced."""
        self._service(request.name, call)
        self._do("roll", call, service=names.last(request.name))
        return self._service(request.name, call)

    def _do(self, op: str, call: CallContext, **words: object) -> Mapping[str, Any]:
        """Have the supervisor do or say something; a busy one has nearly all the time that the caller has."""
        left_s = max(_LEAST_S, call.deadline.remaining() - TELLING_S)
        with _asking("supervisor"):
            try:
                return self._supervisor.ask(op, words, timeout_s=left_s)
            except SourceRefusedError as error:
                raise FailedPrecondition(
                    f"The supervisor does not do it: {error}.",
                    reason="SUPERVISOR_REFUSED",
                    violations=[("SUPERVISOR", op, str(error))],
                ) from error

    def _process(self, name: str, call: CallContext) -> mesh_pb2.Process:
        found = mesh.process(mesh.of_status(self._do("status", call)["status"]), name)
        if found is None:
            raise NotFound(f"There is no {name}.", reason="PROCESS_NOT_FOUND", resource=("process", name))
        return found

    def _service(self, name: str, call: CallContext) -> mesh_pb2.Service:
        found = mesh.service(mesh.of_status(self._do("status", call)["status"]), name)
        if found is None:
            raise NotFound(f"There is no {name}.", reason="SERVICE_NOT_FOUND", resource=("service", name))
        return found


def glance(watching: Watching[mesh_pb2.Mesh], call: CallContext) -> mesh_pb2.Mesh:
    """The mesh as it is now."""
    with watching.open():
        found = watching.next(0, call.deadline.remaining())
    return found[1] if found is not None else mesh_pb2.Mesh(name=mesh.NAME)


class AlertHandler:
    """Serves `weft.operations.v1.AlertService`."""

    def __init__(self, watching: Watching[mesh_pb2.Mesh], page: Page) -> None:
        self._watching = watching
        self._page = page

    def ListAlerts(self, request: alerts_pb2.ListAlertsRequest, call: CallContext) -> alerts_pb2.ListAlertsResponse:
        """List what fires or is about to."""
        seen = glance(self._watching, call)
        told(seen, mesh_pb2.Source.KIND_ALERTS)
        found, token = self._page.cut(seen.alerts, request, call, default=LIST_DEFAULT)
        return alerts_pb2.ListAlertsResponse(alerts=found, next_page_token=token)


def told(seen: mesh_pb2.Mesh, *kinds: mesh_pb2.Source.Kind.ValueType) -> None:
    """Raises Unavailable where none of these sources answers."""
    asked = [source for source in seen.sources if source.kind in kinds]
    if not any(source.state == mesh_pb2.Source.STATE_OK for source in asked):
        reasons = "; ".join(source.reason for source in asked) or "nobody has answered in time"
        with _asking("mesh"):
            raise SourceAwayError(reasons)


class QueueHandler:
    """Serves `weft.operations.v1.QueueService`."""

    def __init__(self, watching: Watching[mesh_pb2.Mesh], letters: Http, page: Page, queues: Sequence[str]) -> None:
        """`queues`: the queues that there are."""
        self._watching = watching
        self._letters = letters
        self._page = page
        self._queues = frozenset(queues)

    def ListQueues(self, request: queues_pb2.ListQueuesRequest, call: CallContext) -> queues_pb2.ListQueuesResponse:
        """List queues."""
        seen = glance(self._watching, call)
        told(seen, mesh_pb2.Source.KIND_DEAD_LETTERS, mesh_pb2.Source.KIND_METRICS)
        found, token = self._page.cut(seen.queues, request, call, default=LIST_DEFAULT)
        return queues_pb2.ListQueuesResponse(queues=found, next_page_token=token)

    def ListDeadLetters(
        self, request: queues_pb2.ListDeadLettersRequest, _call: CallContext
    ) -> queues_pb2.ListDeadLettersResponse:
        """List dead letters."""
        most = min(request.page_size or PAGE_DEFAULT, PAGE_MAX)
        query: dict[str, str | int] = {
            "queue": self._queue(request.parent),
            "reason": request.reason,
            "type": request.type,
            "limit": most,
        }
        with _asking("dead letters"):
            return views.letters(self._letters.get("/letters", query, timeout_s=WAIT_S))

    def GetDeadLetter(self, request: queues_pb2.GetDeadLetterRequest, _call: CallContext) -> queues_pb2.DeadLetter:
        """Read one."""
        parent, _, letter_id = request.name.partition(views.LETTERS)
        with _asking("dead letters"):
            query = {"queue": self._queue(parent), "id": letter_id}
            found = views.letter(self._letters.get("/letter", query, timeout_s=WAIT_S))
        if found is None:
            raise NotFound(
                f"There is no {request.name}.", reason="DEAD_LETTER_NOT_FOUND", resource=("dead letter", request.name)
            )
        return found

    def ReplayDeadLetters(
        self, request: queues_pb2.ReplayDeadLettersRequest, _call: CallContext
    ) -> queues_pb2.ReplayDeadLettersResponse:
        """Send some back to their queues."""
        choice: dict[str, object] = {
            "queue": self._queue(request.parent),
            "ids": list(request.letter_ids),
            "reason": request.reason,
            "type": request.type,
        }
        with _asking("dead letters"):
            return views.replayed(self._letters.post_json("/replay", choice, timeout_s=REPLAY_S))

    def _queue(self, parent: str) -> str:
        name = names.last(parent)
        if name == ALL:
            return ""
        if name not in self._queues:
            raise NotFound(f"There is no {parent}.", reason="QUEUE_NOT_FOUND", resource=("queue", parent))
        return name


class TraceHandler:
    """Serves `weft.operations.v1.TraceService`."""

    def __init__(self, traces: Http, tokens: PageTokens) -> None:
        self._traces = traces
        self._tokens = tokens

    def ListTraces(self, request: traces_pb2.ListTracesRequest, call: CallContext) -> traces_pb2.ListTracesResponse:
        """List traces."""
        size = min(request.page_size or PAGE_DEFAULT, PAGE_MAX)
        fitting: dict[str, str | int] = {
            "service": request.service,
            "name": request.operation,
            "error": "true" if request.errors_only else "",
            "min_ms": request.min_duration_ms or "",
            "since": _moment(request, "start_time"),
            "until": _moment(request, "end_time"),
        }
        # A token goes on in the list of the same question alone.
        scope = f"{call.method} {sorted(fitting.items())}"
        before = self._tokens.decode(request.page_token, scope=scope)
        query = {**fitting, "limit": size, "before": before[0] if before else ""}
        with _asking("traces"):
            answer = self._traces.get("/api/traces", query, timeout_s=WAIT_S)
            found = views.summaries(answer)
            onward = str(answer.get("next", ""))
        token = self._tokens.encode((onward,), scope=scope) if onward else ""
        return traces_pb2.ListTracesResponse(traces=found, next_page_token=token)

    def GetTrace(self, request: traces_pb2.GetTraceRequest, _call: CallContext) -> traces_pb2.Trace:
        """Read a trace."""
        with _asking("traces"):
            try:
                answer = self._traces.get(f"/api/traces/{names.last(request.name)}", timeout_s=WAIT_S)
            except NotThereError:
                raise NotFound(
                    f"There is no {request.name}.", reason="TRACE_NOT_FOUND", resource=("trace", request.name)
                ) from None
            return views.trace(answer)

    def ListTraceLogs(
        self, request: traces_pb2.ListTraceLogsRequest, _call: CallContext
    ) -> traces_pb2.ListTraceLogsResponse:
        """List what was logged for a trace."""
        limit = min(request.page_size or LINES_DEFAULT, PAGE_MAX)
        query: dict[str, str | int] = {"span": request.span_id, "limit": limit}
        with _asking("traces"):
            answer = self._traces.get(f"/api/traces/{names.last(request.parent)}/logs", query, timeout_s=WAIT_S)
            return views.log_entries(answer)


def _moment(request: traces_pb2.ListTracesRequest, field: str) -> str:
    """A time in nanoseconds since 1970; empty where none is given."""
    if not request.HasField(field):  # type: ignore[arg-type]  # one of two names
        return ""
    given: Timestamp = getattr(request, field)
    try:
        given.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(violations=[(field, "is no moment of the years 1 to 9999")]) from None
    return str(given.ToNanoseconds())


class ContractHandler:
    """Serves `weft.operations.v1.ContractService`."""

    def __init__(self, contracts: Contracts, page: Page) -> None:
        self._contracts = contracts
        self._page = page

    def ListMethods(
        self, request: contracts_pb2.ListMethodsRequest, call: CallContext
    ) -> contracts_pb2.ListMethodsResponse:
        """List methods."""
        every = list(self._contracts.methods.values())
        found, token = self._page.cut(every, request, call, default=METHODS_DEFAULT)
        return contracts_pb2.ListMethodsResponse(methods=found, next_page_token=token)

    def GetMethod(self, request: contracts_pb2.GetMethodRequest, _call: CallContext) -> contracts_pb2.Method:
        """Read one."""
        found = self._contracts.methods.get(request.name)
        if found is None:
            raise NotFound(f"There is no {request.name}.", reason="METHOD_NOT_FOUND", resource=("method", request.name))
        return found

    def GetSchema(self, _request: contracts_pb2.GetSchemaRequest, _call: CallContext) -> contracts_pb2.Schema:
        """Read all contracts."""
        return self._contracts.schema


class MailHandler:
    """Serves `weft.operations.v1.MailService`."""

    def __init__(self, mail: Http) -> None:
        self._mail = mail

    def ListMails(self, request: mails_pb2.ListMailsRequest, _call: CallContext) -> mails_pb2.ListMailsResponse:
        """List mail."""
        most = min(request.page_size or PAGE_DEFAULT, MAILS_MAX)
        with _asking("mail"):
            found = self._mail.get("/messages", {"limit": most}, timeout_s=WAIT_S)
            return views.mails(found, self._mail.get("/count", timeout_s=WAIT_S))

    def GetMail(self, request: mails_pb2.GetMailRequest, _call: CallContext) -> mails_pb2.Mail:
        """Read one mail."""
        with _asking("mail"):
            try:
                return views.mail(self._mail.get(f"/messages/{names.last(request.name)}", timeout_s=WAIT_S))
            except NotThereError:
                raise NotFound(
                    f"There is no {request.name}.", reason="MAIL_NOT_FOUND", resource=("mail", request.name)
                ) from None
