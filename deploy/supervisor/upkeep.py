"""Keeps the mesh's certificates good while it runs: the gateways', and where hops are encrypted those of its parts."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import structlog

from deploy.supervisor.edge_certificate import EdgeCertificate
from deploy.supervisor.errors import ConfigError, RefusedError
from deploy.supervisor.workload_certificates import WorkloadCertificates

log = structlog.get_logger()

LOOKED_AT_EVERY_S: Final = 5.0


class Upkeep:
    """Of one mesh."""

    def __init__(
        self, edge: EdgeCertificate, workloads: WorkloadCertificates | None, now: Callable[[], datetime]
    ) -> None:
        """`workloads` None: hops are in clear."""
        self._edge = edge
        self._workloads = workloads
        self._now = now
        self._told: dict[str, str] = {}

    def begin(self) -> None:
        """Have all of them before anything starts. Raises ConfigError and OSError."""
        self._edge.ensure(now=self._now())
        if self._workloads is not None:
            self._workloads.ensure(now=self._now())

    async def run(self) -> None:
        """Renew each before it ends, and take over what the user put in the place of the gateways'."""
        while True:
            await asyncio.sleep(LOOKED_AT_EVERY_S)
            self._guarded("certificate_refused", self._keep_edge)
            self._guarded("workload_certificates_refused", self._keep_workloads)

    def renew(self) -> Mapping[str, object]:
        """The gateways' now, signed or read anew. Raises RefusedError."""
        try:
            changed = self._edge.ensure(now=self._now(), anew=True)
        except (ConfigError, OSError) as error:
            raise RefusedError(str(error)) from error
        return {"changed": changed, "names": self._edge.names(), "expires": self._edge.expires().isoformat()}

    def renew_workloads(self) -> Mapping[str, object]:
        """Those of all parts now. Raises RefusedError."""
        if self._workloads is None:
            raise RefusedError(
                "hops of this mesh are in clear, its parts have no certificates; run: weft down && WEFT_MTLS=on weft up"
            )
        try:
            changed = self._workloads.ensure(now=self._now(), anew=True)
        except OSError as error:
            raise RefusedError(str(error)) from error
        expires = self._workloads.expires().isoformat()
        return {"changed": bool(changed), "names": [part.uri for part in changed], "expires": expires}

    def _keep_edge(self) -> None:
        kept = self._edge
        names = kept.names()
        if kept.ensure(now=self._now()):
            log.info("certificate_changed", expires=kept.expires().isoformat())
            if kept.names() != names:
                log.warning("certificate_names_changed", names=kept.names(), fix="weft down, then weft up")

    def _keep_workloads(self) -> None:
        if self._workloads is not None and (changed := self._workloads.ensure(now=self._now())):
            log.info("workload_certificates_changed", parts=[part.uri for part in changed])

    def _guarded(self, event: str, keep: Callable[[], None]) -> None:
        try:
            keep()
        except (ConfigError, OSError, ValueError) as error:
            if self._told.get(event) != str(error):
                log.error(event, reason=str(error))  # what is in place stays
            self._told[event] = str(error)
        else:
            self._told.pop(event, None)
