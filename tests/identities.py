"""Certificates of parts of a mesh, made by the supervisor's own code, for tests on real sockets."""

from datetime import UTC, datetime
from pathlib import Path

from deploy.supervisor.layout import Layout
from deploy.supervisor.workload_certificates import WorkloadCertificates
from weft_protos.identity import Identity


class Identities:
    """Those of one mesh, with an authority of its own."""

    def __init__(self, folder: Path, *parts: Identity) -> None:
        layout = Layout(folder)
        layout.secrets.mkdir(parents=True)
        self.kept = WorkloadCertificates(layout, parts)
        self.renew()

    def renew(self) -> None:
        """Another certificate for each."""
        self.kept.ensure(now=datetime.now(UTC), anew=True)

    def of(self, part: Identity) -> Path:
        """What its process is told of."""
        return self.kept.folder(part)
