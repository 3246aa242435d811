"""Every metric of the control plane, declared once."""

from typing import Final

from prometheus_client import Counter, Gauge

from lb.xds.types import ORDER, short

CLIENTS: Final = Gauge("weft_xds_clients", "Open xDS streams.", ["kind"])
NACKS: Final = Counter("weft_xds_nacks_total", "Responses that a client refused.", ["kind", "type"])
REFUSING: Final = Gauge(
    "weft_xds_clients_refusing", "Connected clients whose last response of a type they refused.", ["kind"]
)
BUNDLE_REFUSED: Final = Gauge("weft_xds_bundle_refused", "1 while the published bundle is one that cannot be served.")
RESOURCES: Final = Gauge("weft_xds_snapshot_resources", "Resources in the current snapshots.", ["type"])
PUSHES: Final = Counter("weft_xds_pushes_total", "Responses sent.", ["type"])
#: The same by type URL, looked up once.
PUSHES_OF: Final = {type_url: PUSHES.labels(type=short(type_url)) for type_url in ORDER}
ENDPOINTS: Final = Gauge("weft_endpoints", "Endpoints announced.", ["service"])
REFUSED: Final = Counter("weft_xds_refused_total", "Input that was refused; the last good one serves on.", ["source"])
REGISTRY_REFUSED: Final = Counter("weft_registry_refused_total", "Registry entries refused.", ["reason"])
