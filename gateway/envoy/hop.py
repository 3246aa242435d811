"""TLS of the hops inside: a gateway to services and control planes, and what gRPC clients are told of services.

Both sides show a certificate of the mesh's own authority, and a client takes none but that of the part it means: each
cluster names one identity. A gateway reads its own certificate by SDS from two files, one for the certificate and one
for the authority, since a file of secrets holds one; it reads again what has been moved into the certificate's
directory. gRPC clients have a file watcher of their own, named in their bootstrap, and need to be told its name alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gateway.envoy import names
from weft_protos.identity import AUTHORITY, CERTIFICATE, KEY, PROVIDER, Identity
from weft_protos.xds import envoy

_SOCKET: Final = "envoy.transport_sockets.tls"
_TLS: Final = "extensions.transport_sockets.tls.v3"


def from_gateway(secrets: Path, server: Identity) -> dict[str, Any]:
    """The transport socket of a gateway's cluster. `secrets`: the directory that `secret_files` are written to."""
    return _upstream(
        # Both sides are ours, and know the newest version.
        tls_params={"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        alpn_protocols=["h2"],
        tls_certificate_sds_secret_configs=[_secret(secrets, names.WORKLOAD)],
        combined_validation_context={
            "default_validation_context": {
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": server.uri}}]
            },
            "validation_context_sds_secret_config": _secret(secrets, names.WORKLOAD_AUTHORITY),
        },
    )


def from_service(server: Identity) -> dict[str, Any]:
    """The transport socket of the same cluster as gRPC clients get it."""
    instance = {"instance_name": PROVIDER}
    return _upstream(
        tls_certificate_provider_instance=instance,
        validation_context={
            "ca_certificate_provider_instance": instance,
            # The typed form, which follows this one, gRPC takes without a word and does not obey.
            "match_subject_alt_names": [{"exact": server.uri}],
        },
    )


def secret_files(identity: Path) -> Iterator[tuple[str, Any]]:
    """What a gateway reads, by file name. `identity`: the directory of its certificate."""
    watched = {"path": str(identity)}
    shown = {
        "certificate_chain": {"filename": str(identity / CERTIFICATE)},
        "private_key": {"filename": str(identity / KEY)},
        "watched_directory": watched,
    }
    trusted = {"trusted_ca": {"filename": str(identity / AUTHORITY)}, "watched_directory": watched}
    yield _file(names.WORKLOAD), _kept(names.WORKLOAD, tls_certificate=shown)
    yield _file(names.WORKLOAD_AUTHORITY), _kept(names.WORKLOAD_AUTHORITY, validation_context=trusted)


def _upstream(**context: Any) -> dict[str, Any]:
    return {"name": _SOCKET, "typed_config": envoy(f"{_TLS}.UpstreamTlsContext", common_tls_context=context)}


def _secret(folder: Path, name: str) -> dict[str, Any]:
    source = {"path_config_source": {"path": str(folder / _file(name))}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source}


def _kept(name: str, **fields: Any) -> Any:
    return envoy("service.discovery.v3.DiscoveryResponse", resources=[envoy(f"{_TLS}.Secret", name=name, **fields)])


def _file(name: str) -> str:
    return f"{name}.json"
