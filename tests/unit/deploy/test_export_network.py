"""Who may call whom in Kubernetes: what contracts and wiring name, at both ends, and nothing else."""

from typing import Any

import pytest
import yaml

from deploy.ship import export, sources
from deploy.ship.errors import ShipError
from deploy.ship.kubernetes import network
from deploy.ship.kubernetes.names import PART
from deploy.ship.workload import Workload
from deploy.supervisor.secrets import DATABASES
from weft_protos import mesh_parts

Policy = dict[str, Any]


@pytest.fixture(scope="module")
def workloads() -> list[Workload]:
    return export.workloads("kubernetes")


@pytest.fixture(scope="module")
def policies() -> dict[str, Policy]:
    found = {}
    for name, text in export.build("kubernetes").items():
        if name.endswith(".yaml"):
            for one in yaml.safe_load_all(text):
                if one["kind"] == "NetworkPolicy":
                    found[one["metadata"]["name"]] = one["spec"]
    return found


def parts(peers: list[Policy]) -> set[str]:
    return {peer["podSelector"]["matchLabels"].get(PART, "") for peer in peers if "podSelector" in peer}


def going(policies: dict[str, Policy], name: str) -> set[str]:
    return {part for rule in policies[name]["egress"] for part in parts(rule.get("to", []))} - {""}


def coming(policies: dict[str, Policy], name: str) -> set[str]:
    return {part for rule in policies[name]["ingress"] for part in parts(rule.get("from", []))} - {""}


def test_who_is_named_nowhere_is_refused(policies: dict[str, Policy]) -> None:
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} == policies["nobody"]


def test_every_workload_has_a_policy_of_its_own(policies: dict[str, Policy], workloads: list[Workload]) -> None:
    assert {one.name for one in workloads} | {"nobody"} == {*policies}


def test_both_ends_of_a_call_agree(policies: dict[str, Policy]) -> None:
    out = {(name, target) for name in policies if name != "nobody" for target in going(policies, name)}
    into = {(source, name) for name in policies if name != "nobody" for source in coming(policies, name)}

    assert out == into


def test_a_service_calls_the_services_that_its_wiring_names_and_no_other(policies: dict[str, Policy]) -> None:
    services = {one.name for one in mesh_parts.SERVICES}

    assert ("catalog",) == sources.callees("orders")
    for one in mesh_parts.SERVICES:
        assert {*sources.callees(one.name)} == going(policies, one.name) & services, one.name


def test_only_those_with_a_database_reach_the_databases(policies: dict[str, Policy]) -> None:
    tasks = {"databases", "cockroach-init", *(f"{verb}-{name}" for verb in ("expand", "migrate") for name in DATABASES)}
    stores = {*mesh_parts.STORING, "relay", *(one.process for one in mesh_parts.WORKERS)}

    assert {*stores, *tasks, "cockroach"} == coming(policies, "cockroach")


def test_only_workers_reach_the_broker(policies: dict[str, Policy]) -> None:
    workers = {"relay", *(one.process for one in mesh_parts.WORKERS)}

    assert {*workers, "rabbitmq", "prometheus"} == coming(policies, "rabbitmq")


def test_a_worker_calls_no_service(policies: dict[str, Policy]) -> None:
    services = {one.name for one in mesh_parts.SERVICES}

    for one in mesh_parts.WORKERS:
        assert set() == going(policies, one.process) & services, one.name


def test_nobody_but_the_gateways_is_open_to_the_world(policies: dict[str, Policy]) -> None:
    opened = {name for name, spec in policies.items() for rule in spec.get("ingress", ()) if not rule.get("from")}

    assert {"gateway"} == opened
    [rule] = [rule for rule in policies["gateway"]["ingress"] if not rule.get("from")]
    assert [{"protocol": "TCP", "port": 8443}] == rule["ports"]


def test_nobody_but_prometheus_leaves_the_namespace_for_more_than_names(policies: dict[str, Policy]) -> None:
    leaving = {name for name, spec in policies.items() for rule in spec.get("egress", ()) if not rule.get("to")}

    assert {"prometheus"} == leaving
    for name, spec in policies.items():
        for rule in spec.get("egress", ()):
            for peer in rule.get("to", ()):
                if "namespaceSelector" in peer:
                    assert {53} == {port["port"] for port in rule["ports"]}, name


def test_a_call_of_what_is_not_there_is_refused() -> None:
    part = next(one for one in export.workloads("kubernetes") if one.name == "orders")

    with pytest.raises(ShipError, match=r"orders calls [a-z-]+ on [a-z]+"):
        network.edges([part])
