"""What `weft proxies` tells of the running mesh: who is connected, and that everybody has what there is."""

import json
from typing import Any

import pytest

from deploy.supervisor.mesh import Mesh
from tests.integration.weft_command import weft_here
from tests.waiting import eventually

pytestmark = pytest.mark.calls


def asked(mesh: Mesh, *flags: str) -> str:
    answer = weft_here(mesh.secrets.parent, "proxies", *flags)
    assert 0 == answer.returncode, answer.stderr
    return answer.stdout


def test_every_gateway_is_synced_with_what_the_control_planes_serve(mesh: Mesh) -> None:
    found: dict[str, Any] = {}

    def synced() -> bool:
        found.update(json.loads(asked(mesh, "--json")))
        of_gateways = [each for each in found["clients"] if each["kind"] == "envoy"]
        served = {each["version"] for each in found["control_planes"]}
        return (
            len(served) == 1
            and {"gateway-1", "gateway-2"} <= {each["node"] for each in of_gateways}
            and all((each["state"], {each["version"]}) == ("SYNCED", served) for each in of_gateways)
        )

    eventually(synced)
    assert {"control-plane-1", "control-plane-2"} == {each["instance"] for each in found["control_planes"]}
    gateway = next(each for each in found["clients"] if each["node"] == "gateway-1")
    assert gateway["agent"].startswith("envoy 1.")
    assert (0.0, [], []) == (gateway["age_s"], gateway["waiting"], gateway["refusals"])


def test_the_table_has_a_line_for_each_client_without_colours_where_nobody_looks(mesh: Mesh) -> None:
    lines = asked(mesh).splitlines()

    assert ["NODE", "KIND", "CLIENT"] == lines[0].split()[:3]
    assert any(line.startswith("gateway-1") for line in lines)
    assert any(line.startswith("control-plane-1 serves ") for line in lines)
    assert "\x1b" not in "".join(lines)
