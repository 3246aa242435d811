"""TLS of the edge: which handshakes it takes, and a certificate that changes without a restart.

Envoy reads certificate and key through a secret in a file of its own (SDS by file): when something is moved into the
certificate's directory, it reads both again. Connections that live keep theirs, new ones get the new one, and a pair
that does not fit is not taken. Certificates of clients are not asked for: who calls is said by tokens alone.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway.envoy import names
from weft_protos.xds import envoy

#: For TLS 1.2; those of 1.3 are all good and not for choice. Forward secrecy and authenticated encryption only.
CIPHERS: Final = (
    "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
    "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
#: The first keeps what is recorded today from the quantum computers of tomorrow.
CURVES: Final = ("X25519MLKEM768", "X25519", "P-256")
#: For the hello, and once more for all of the handshake.
HANDSHAKE_TIMEOUT: Final = "5s"

_SERVER_NAME: Final = "extensions.matching.common_inputs.network.v3.ServerNameInput"


def socket(secret: Path) -> dict[str, Any]:
    """The transport socket of the listener."""
    source = {"path_config_source": {"path": str(secret)}, "resource_api_version": "V3"}
    context = envoy(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_2",
                "tls_maximum_protocol_version": "TLSv1_3",
                "cipher_suites": CIPHERS,
                "ecdh_curves": CURVES,
            },
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [{"name": names.EDGE_TLS, "sds_config": source}],
        },
    )
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def handshakes(chain: str, served: Sequence[str]) -> Any:
    """The part of a listener that sends a handshake to its filter chain, or does not take it.

    It is taken if it asks for a name of the certificate, or for none, as from clients that call an address (RFC 6066,
    section 3). All others are closed before they see a certificate.
    """
    matcher = {
        "predicate": {"or_matcher": {"predicate": [_asks(_names(served)), {"not_matcher": _asks(".+")}]}},
        "on_match": {"action": {"name": chain, "typed_config": envoy("google.protobuf.StringValue", value=chain)}},
    }
    inspector = envoy("extensions.filters.listener.tls_inspector.v3.TlsInspector")
    return envoy(
        "config.listener.v3.Listener",
        filter_chain_matcher={"matcher_list": {"matchers": [matcher]}},
        listener_filters=[{"name": "envoy.filters.listener.tls_inspector", "typed_config": inspector}],
        listener_filters_timeout=HANDSHAKE_TIMEOUT,
    )


def secret(certificate: Path, key: Path) -> Any:
    """What the file at `socket`'s path has to say. Both files lie where moves show: in the certificate's directory."""
    kept = envoy(
        "extensions.transport_sockets.tls.v3.Secret",
        name=names.EDGE_TLS,
        tls_certificate={
            "certificate_chain": {"filename": str(certificate)},
            "private_key": {"filename": str(key)},
            "watched_directory": {"path": str(certificate.parent)},
        },
    )
    return envoy("service.discovery.v3.DiscoveryResponse", resources=[kept])


def _asks(regex: str) -> dict[str, Any]:
    given = {"name": "server_name", "typed_config": envoy(_SERVER_NAME)}
    return {"single_predicate": {"input": given, "value_match": {"safe_regex": {"google_re2": {}, "regex": regex}}}}


def _names(served: Sequence[str]) -> str:
    """A regular expression for the names; a wildcard stands for one label (RFC 9525, 6.3)."""
    return "|".join(re.escape(name).replace(r"\-", "-").replace(r"\*", "[^.]+") for name in served)
