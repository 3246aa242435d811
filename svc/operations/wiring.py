"""Composes the operations service: the only place that names its concrete classes together.

`__main__` hands `build` to the chassis, which opens what it asks for and closes it again.
"""

from collections.abc import Sequence
from typing import Any, Final

from lb.errors import EtcdError
from lb.registry.survey import Survey
from svc.chassis.clock import SystemClock
from svc.chassis.config import Secrets
from svc.chassis.pages import PageTokens
from svc.chassis.resources import Resources
from svc.chassis.server import Service
from svc.chassis.site import Site
from svc.operations import alerts, figures, mesh, views
from svc.operations.config import Sources
from svc.operations.contracts import Contracts
from svc.operations.mesh import Known, Registered
from svc.operations.pages import Pages
from svc.operations.rpc import (
    AlertHandler,
    ContractHandler,
    MailHandler,
    MeshHandler,
    Page,
    QueueHandler,
    TraceHandler,
)
from svc.operations.sources import ASK_S, Http, SourceAwayError, Supervisor
from svc.operations.watching import Poll, Watching
from weft.operations.v1 import alerts_pb2, contracts_pb2, mails_pb2, mesh_pb2, queues_pb2, traces_pb2
from weft_protos import mesh_parts, policy

#: Secret that the door of dead letters asks for.
LETTERS_TOKEN: Final = "letters.password"
#: How often each source is asked while somebody watches: what dies, fires or is put aside is to be seen within two
#: seconds, on a busy machine too. The supervisor knows of every change at once; who counts dead letters may have to ask
#: twice; figures are five seconds apart by themselves; whether a store answers is shown and nothing else.
AT_ONCE_S: Final = 0.5
SOON_S: Final = 1.0
FIGURES_S: Final = 2.5
STORES_S: Final = 5.0
#: One expression of some forty questions.
FIGURES_WAIT_S: Final = 3.0


def build(resources: Resources) -> Sequence[Service]:
    """The services of one instance."""
    sources, secrets = Sources.read(), resources.settings.secrets
    supervisor = Supervisor(sources.supervisor)
    traces = Http(mesh.TRACES, [sources.trace_store] if sources.trace_store else [])
    mail = Http(mesh.MAIL, [sources.mail] if sources.mail else [])
    letters = Http(mesh.LETTERS, sources.letters or (), token=_token(secrets))
    watching = _watching(resources, sources, supervisor, letters, traces=traces, mail=mail)
    if sources.listen_pages is not None:
        site = Site(sources.listen_pages, Pages(console=sources.console, docs=sources.docs).answer)
        resources.add_background("pages", site.start, site.stop)
    tokens = PageTokens(secrets.cache_key())
    page = Page(tokens)
    return [
        (mesh_pb2.DESCRIPTOR.services_by_name["MeshService"], MeshHandler(watching, supervisor)),
        (alerts_pb2.DESCRIPTOR.services_by_name["AlertService"], AlertHandler(watching, page)),
        (queues_pb2.DESCRIPTOR.services_by_name["QueueService"], QueueHandler(watching, letters, page, queues())),
        (traces_pb2.DESCRIPTOR.services_by_name["TraceService"], TraceHandler(traces, tokens)),
        (contracts_pb2.DESCRIPTOR.services_by_name["ContractService"], ContractHandler(Contracts(), page)),
        (mails_pb2.DESCRIPTOR.services_by_name["MailService"], MailHandler(mail)),
    ]


def queues() -> Sequence[str]:
    """The queues of workers that the contracts name, and those of all events."""
    return sorted({*mesh_parts.OF_ALL, *policy.queues()})


def _token(secrets: Secrets) -> str:
    return secrets.read(LETTERS_TOKEN) if secrets.has(LETTERS_TOKEN) else ""


def _watching(
    resources: Resources, sources: Sources, supervisor: Supervisor, letters: Http, *, traces: Http, mail: Http
) -> Watching[mesh_pb2.Mesh]:
    prometheus = Http("prometheus", [sources.prometheus] if sources.prometheus else [])
    survey, asked = Survey(resources.etcd_settings), figures.expression()

    def known() -> Known:
        status = supervisor.ask("status")["status"]
        return Known(status, supervisor.ask("lanes")["lanes"])

    def measured() -> figures.Figures:
        return figures.parse(prometheus.post("/api/v1/query", {"query": asked}, timeout_s=FIGURES_WAIT_S))

    def registered() -> Registered:
        try:
            seen = survey.read(ASK_S)
        except EtcdError as error:
            raise SourceAwayError(f"registry: {error}") from error
        return Registered(seen.endpoints, seen.statuses)

    def firing() -> Any:
        return alerts.parse(prometheus.get("/api/v1/alerts"))

    polls = (
        Poll(mesh.SUPERVISOR, known, AT_ONCE_S),
        Poll(mesh.METRICS, measured, FIGURES_S),
        Poll(mesh.ALERTS, firing, AT_ONCE_S),
        Poll(mesh.REGISTRY, registered, SOON_S),
        Poll(mesh.LETTERS, lambda: views.depths(letters.get("/depths")), AT_ONCE_S),
        Poll(mesh.TRACES, lambda: traces.get("/healthz"), STORES_S),
        Poll(mesh.MAIL, lambda: mail.get("/healthz"), STORES_S),
    )
    watching = Watching(polls, mesh.compose, clock=SystemClock())

    def stop() -> None:
        watching.stop()
        survey.close()

    resources.add_background("watching", watching.start, stop)
    return watching
