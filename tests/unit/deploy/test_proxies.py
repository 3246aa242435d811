"""What `weft proxies` shows of what the control planes say."""

from typing import Any

from deploy.cli.proxies import table

OF = {"kind": "grpc", "agent": "gRPC 1.85.1", "control_plane": "control-plane-1", "version": "0" * 64, "streams": 1}
SYNCED: dict[str, Any] = {**OF, "node": "orders-1", "state": "SYNCED", "age_s": 0.0, "waiting": [], "refusals": []}
STALE = SYNCED | {"node": "orders-2", "state": "STALE", "age_s": 12.5, "waiting": ["Listener"], "version": ""}
REFUSAL = {"type": "Cluster", "version": "v", "detail": "no such\n policy"}
NACKED = SYNCED | {"node": "gateway-1", "kind": "envoy", "state": "NACKED", "refusals": [REFUSAL]}
SERVING = {"instance": "control-plane-1", "version": "0" * 64, "refused_version": "", "problems": []}


def test_each_client_has_a_line_that_says_what_is_wrong() -> None:
    told = table({"clients": [NACKED, STALE, SYNCED], "control_planes": [SERVING]}, colour=False)

    assert [
        "NODE       KIND   CLIENT       CONTROL PLANE    VERSION       STATE   DETAIL",
        "gateway-1  envoy  gRPC 1.85.1  control-plane-1  000000000000  NACKED  Cluster: no such policy",
        "orders-2   grpc   gRPC 1.85.1  control-plane-1  -             STALE   for 12.5 s, waiting for Listener",
        "orders-1   grpc   gRPC 1.85.1  control-plane-1  000000000000  SYNCED",
        "control-plane-1 serves 000000000000",
    ] == told.splitlines()


def test_a_control_plane_that_refused_a_bundle_says_why() -> None:
    refusing = SERVING | {"refused_version": "f" * 64, "problems": ["one", "two"]}

    assert "control-plane-1 serves 000000000000, refused ffffffffffff: one; two" in table(
        {"clients": [], "control_planes": [refusing]}, colour=False
    )
    assert table({"clients": [], "control_planes": []}, colour=False).endswith("no control plane has reported")


def test_colours_go_by_state_and_leave_the_words_alone() -> None:
    plain = table({"clients": [NACKED, SYNCED], "control_planes": []}, colour=False).splitlines()
    coloured = table({"clients": [NACKED, SYNCED], "control_planes": []}, colour=True).splitlines()

    assert [plain[0], f"\x1b[31m{plain[1]}\x1b[0m", f"\x1b[32m{plain[2]}\x1b[0m"] == coloured[:3]
