"""What `weft export kubernetes` writes: sound by the schemas, sized by the house's numbers, open to nobody else."""

import copy
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.ship import export
from deploy.ship.kubernetes.names import PART
from deploy.supervisor import autoscale, load
from deploy.supervisor.desired import AUTOSCALED, HA_SIZES
from deploy.supervisor.part import Kind
from tests.unit.deploy import custom_resources
from weft_protos import mesh_parts

VERSION = "1.31"
Object = dict[str, Any]


@pytest.fixture(scope="module")
def files() -> Mapping[str, str]:
    return export.build("kubernetes")


@pytest.fixture(scope="module")
def objects(files: Mapping[str, str]) -> list[Object]:
    return [
        found
        for name, text in files.items()
        if name.endswith(".yaml") and not name.endswith("kustomization.yaml")
        for found in yaml.safe_load_all(text)
    ]


def of(objects: list[Object], kind: str) -> dict[str, Object]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def pods(objects: list[Object]) -> dict[str, Object]:
    running = ("Deployment", "StatefulSet", "Job")
    return {one["metadata"]["name"]: one["spec"]["template"] for one in objects if one["kind"] in running}


def test_every_object_is_what_kubernetes_knows(objects: list[Object]) -> None:
    known = [one for one in objects if one["kind"] not in custom_resources.KINDS]

    assert len(known) > 100
    for one in known:
        kubernetes_validate.validate(one, VERSION, strict=True)


def test_a_misspelt_field_would_be_found(objects: list[Object]) -> None:
    wrong = copy.deepcopy(of(objects, "Deployment")["orders"])
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_every_object_of_keda_and_cert_manager_is_what_they_document(objects: list[Object]) -> None:
    found = [one for one in objects if one["kind"] in custom_resources.KINDS]

    assert {*custom_resources.KINDS} == {one["kind"] for one in found}
    for one in found:
        custom_resources.KINDS[one["kind"]].model_validate(one)


def test_every_part_of_the_desired_state_is_there(objects: list[Object]) -> None:
    running = {name for kind in ("Deployment", "StatefulSet") for name in of(objects, kind)}

    assert set() == {*HA_SIZES} - running
    assert {"cockroach", "rabbitmq", "etcd", "jaeger", "prometheus", "alertmanager", "mail"} == running - {*HA_SIZES}


def test_sizes_are_those_of_the_profile_ha(objects: list[Object]) -> None:
    said = {
        name: one["spec"]["replicas"]
        for kind in ("Deployment", "StatefulSet")
        for name, one in of(objects, kind).items()
        if "replicas" in one["spec"] and name in HA_SIZES
    }

    assert {name: size for name, size in HA_SIZES.items() if name not in AUTOSCALED} == said


def test_a_service_is_sized_by_the_numbers_of_the_supervisor(objects: list[Object]) -> None:
    scalers = of(objects, "HorizontalPodAutoscaler")

    assert {one.name for one in mesh_parts.SERVICES if one.autoscale} == {*scalers}
    for one in mesh_parts.SERVICES:
        if one.autoscale is None:
            continue
        spec = scalers[one.name]["spec"]
        least, most = one.autoscale
        assert (max(2, least), max(2, most)) == (spec["minReplicas"], spec["maxReplicas"])
        [metric] = spec["metrics"]
        assert round(autoscale.OUT_AT * 100) == metric["resource"]["target"]["averageUtilization"]
        assert int(autoscale.IN_FOR_S) == spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"]
        # The share is of what is asked for: one processor, by which the supervisor counts too.
        [container] = of(objects, "Deployment")[one.name]["spec"]["template"]["spec"]["containers"]
        assert "1" == container["resources"]["requests"]["cpu"]


def test_a_worker_is_sized_by_the_metric_and_the_backlog_of_the_supervisor(objects: list[Object]) -> None:
    scalers = of(objects, "ScaledObject")

    assert {*load.BACKLOG_EACH} == {*scalers}
    for name, each in load.BACKLOG_EACH.items():
        spec = scalers[name]["spec"]
        [trigger] = spec["triggers"]
        assert str(each) == trigger["metadata"]["threshold"]
        metric = load.DEPTH if name in load.QUEUES else load.PENDING
        assert metric in trigger["metadata"]["query"]
        assert load.QUEUES.get(name, "") in trigger["metadata"]["query"]
        assert AUTOSCALED[name].most <= spec["maxReplicaCount"]
        # So many instances as the supervisor asks for, of any backlog.
        for waiting in (1, each - 1, each, each + 1, 3 * each):
            wanted = autoscale.backlog_load(waiting, each=each) / autoscale.OUT_AT
            assert -(-waiting // each) == -(-round(wanted * 1e6) // 1_000_000)


def test_what_sizes_a_part_names_a_deployment_that_says_no_size(objects: list[Object]) -> None:
    deployments = of(objects, "Deployment")

    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        for one in of(objects, kind).values():
            assert "replicas" not in deployments[one["spec"]["scaleTargetRef"]["name"]]["spec"]


def test_no_container_is_root_or_writes_where_it_should_not(objects: list[Object]) -> None:
    for name, pod in pods(objects).items():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True, name
        assert "RuntimeDefault" == pod["spec"]["securityContext"]["seccompProfile"]["type"]
        for container in pod["spec"]["containers"]:
            assert {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            } == container["securityContext"], name
            assert "memory" in container["resources"]["limits"]


def test_only_prometheus_may_ask_kubernetes_for_anything(objects: list[Object]) -> None:
    asking = {name for name, pod in pods(objects).items() if pod["spec"]["automountServiceAccountToken"]}

    assert {"prometheus"} == asking
    assert {"prometheus"} == {*of(objects, "RoleBinding")}
    [rule] = of(objects, "Role")["prometheus"]["rules"]
    assert (["pods"], ["get", "list", "watch"]) == (rule["resources"], rule["verbs"])


def test_everything_that_goes_on_is_asked_whether_it_is_ready_and_alive(objects: list[Object]) -> None:
    for kind in ("Deployment", "StatefulSet"):
        for name, one in of(objects, kind).items():
            [container] = one["spec"]["template"]["spec"]["containers"]
            numbers = {port["containerPort"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                [how] = container[probe].keys() & {"grpc", "httpGet", "tcpSocket"}
                assert container[probe][how]["port"] in numbers, (name, probe)


def test_our_processes_are_asked_by_the_health_of_the_chassis(objects: list[Object]) -> None:
    for name, pod in pods(objects).items():
        [container] = pod["spec"]["containers"]
        if pod["metadata"]["labels"]["weft.dev/kind"] not in (Kind.SERVICE.value, Kind.WORKER.value):
            continue
        # A kubelet has no certificate: it asks beside the metrics, in clear.
        [metrics] = [port["containerPort"] for port in container["ports"] if port["name"] == "metrics"]
        assert {"port": metrics, "path": "/ready"} == container["readinessProbe"]["httpGet"], name
        assert {"port": metrics, "path": "/alive"} == container["livenessProbe"]["httpGet"], name


def test_every_part_that_speaks_grpc_has_an_identity_that_cert_manager_renews_every_twelve_hours(
    objects: list[Object],
) -> None:
    signed = of(objects, "Certificate")
    held = {}
    for name, pod in pods(objects).items():
        for volume in pod["spec"]["volumes"]:
            if volume["name"].startswith("identity-"):
                held[name] = signed[volume["secret"]["secretName"]]["spec"]
    kinds = (Kind.SERVICE.value, Kind.WORKER.value, Kind.GATEWAY.value, Kind.CONTROL_PLANE.value)
    expected = {
        name: [f"spiffe://weft/{pod['metadata']['labels']['weft.dev/kind']}/{name}"]
        for name, pod in pods(objects).items()
        if pod["metadata"]["labels"]["weft.dev/kind"] in kinds
    }

    assert expected == {name: spec["uris"] for name, spec in held.items()}
    assert {("24h", "12h", "weft-workload-authority")} == {
        (spec["duration"], spec["renewBefore"], spec["issuerRef"]["name"]) for spec in held.values()
    }
    # gRPC's clients check control planes by the host they call.
    assert {"control-plane-1.control-plane", "control-plane-2.control-plane"} < set(held["control-plane"]["dnsNames"])


def test_at_most_one_instance_of_a_part_is_taken_away_at_a_time(objects: list[Object]) -> None:
    budgets = of(objects, "PodDisruptionBudget")
    several = {name for name, size in HA_SIZES.items() if size > 1} | {"cockroach", "rabbitmq", "etcd"}

    assert several == {*budgets}
    assert {1} == {one["spec"]["maxUnavailable"] for one in budgets.values()}


def test_every_pod_reads_only_the_secrets_it_uses(objects: list[Object]) -> None:
    def read(name: str) -> set[str]:
        volumes = pods(objects)[name]["spec"]["volumes"]
        return {item["key"] for volume in volumes for item in volume.get("secret", {}).get("items", ())}

    assert {"seal.key", "operator.password"} <= read("identity")
    for name in pods(objects):
        if name != "identity":
            assert not {"seal.key", "operator.password"} & read(name), name
    assert {"database-orders.url"} == {key for key in read("orders") if key.startswith("database-")}
    assert {"tls.crt", "tls.key", "ca.crt"} == read("gateway")


def test_no_secret_is_in_what_is_committed(files: Mapping[str, str]) -> None:
    for name, text in files.items():
        assert "kind: Secret\n" not in text, name
        assert "password:" not in text, name


def test_a_configuration_that_changes_replaces_the_pods(objects: list[Object]) -> None:
    for name in ("rabbitmq", "prometheus", "alertmanager"):
        assert 16 == len(pods(objects)[name]["metadata"]["annotations"]["weft.dev/config"])


def test_every_kustomization_names_what_is_there_and_nothing_is_left_out(files: Mapping[str, str]) -> None:
    named = set()
    for name, text in files.items():
        if name.endswith("kustomization.yaml"):
            folder, said = name.rpartition("/")[0], yaml.safe_load(text)
            named |= {name, *(f"{folder}/{resource}" for resource in said["resources"])}
            for generator in said.get("configMapGenerator", ()):
                named |= {f"{folder}/{file}" for file in generator["files"]}

    assert {*files} == named


def test_the_overlay_goes_through_every_stage_and_names_what_is_there(files: Mapping[str, str]) -> None:
    overlay = export.KUBERNETES.parent / "overlays" / "production"
    stages = {name.split("/")[0] for name in files}

    assert stages == {path.parent.name for path in overlay.glob("*/kustomization.yaml")}
    for path in overlay.glob("*/kustomization.yaml"):
        said = yaml.safe_load(path.read_text())
        for place in (*said["resources"], *said["components"]):
            assert (path.parent / place / "kustomization.yaml").is_file(), (path, place)


def test_the_patches_of_the_overlay_meet_what_they_change(objects: list[Object]) -> None:
    component = export.KUBERNETES.parent / "components" / "production" / "kustomization.yaml"

    for patch in yaml.safe_load(component.read_text())["patches"]:
        target = patch["target"]
        [met] = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (target["kind"], target["name"])]
        change = yaml.safe_load(patch["patch"])
        if isinstance(change, list):
            for step in change:
                found: Any = met
                for word in step["path"].strip("/").split("/"):
                    found = found[word]
        else:
            assert (met["apiVersion"], met["kind"]) == (change["apiVersion"], change["kind"])
            [container] = change["spec"]["template"]["spec"]["containers"]
            [same] = [one for one in met["spec"]["template"]["spec"]["containers"] if one["name"] == container["name"]]
            assert {one["name"] for one in container["env"]} <= {one["name"] for one in same["env"]}


def test_prometheus_takes_its_configuration(files: Mapping[str, str], objects: list[Object], tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    for name, text in files.items():
        if name.startswith("servers/rules/"):
            (tmp_path / "rules" / name.rpartition("/")[2]).write_text(text)
    said = json.loads(of(objects, "ConfigMap")["prometheus-config"]["data"]["prometheus.yml"])
    for job in said["scrape_configs"]:
        # Debian builds it without this one way of finding others; everything else is held against its own reader.
        assert [{"role": "pod", "namespaces": {"own_namespace": True}}] == job.pop("kubernetes_sd_configs")
    [container] = pods(objects)["prometheus"]["spec"]["containers"]
    [mounted] = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == "rules"]
    assert [f"{mounted}/*.yml"] == said["rule_files"]
    said["rule_files"] = ["rules/*.yml"]
    (tmp_path / "prometheus.yml").write_text(json.dumps(said))

    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "rules found" in done.stdout


def test_prometheus_finds_every_part_that_has_metrics_and_names_it_as_elsewhere(objects: list[Object]) -> None:
    configured = json.loads(of(objects, "ConfigMap")["prometheus-config"]["data"]["prometheus.yml"])
    kept = [rule for job in configured["scrape_configs"] for rule in job["relabel_configs"] if "regex" in rule]
    ports = next(rule["regex"] for rule in kept if "port_name" in rule["source_labels"][0]).split("|")

    for name, pod in pods(objects).items():
        if "weft.dev/scrape" not in pod["metadata"]["labels"]:
            continue
        [container] = pod["spec"]["containers"]
        assert 1 == len([port for port in container["ports"] if port["name"] in ports]), name
        assert "weft.dev/metrics-path" in pod["metadata"]["annotations"], name
    targets = {rule.get("target_label") for job in configured["scrape_configs"] for rule in job["relabel_configs"]}
    assert {"instance", "service", "kind", "job"} <= targets
    assert PART in {*pods(objects)["orders"]["metadata"]["labels"]}
