"""What `weft export compose` writes: sound by the compose specification, and the same mesh as the supervisor's."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.ship import export
from deploy.ship.workload import SECRETS
from deploy.supervisor.config import INHERITED, Settings
from deploy.supervisor.desired import HA_SIZES
from deploy.supervisor.part import Command, Kind, Part, Server
from deploy.supervisor.stack import SERVICES
from tests.unit.deploy.test_stack import build as build_stack
from tests.unit.deploy.test_stack import needs as needs_of
from weft_protos import mesh_parts

Service = dict[str, Any]
#: What the supervisor gives its own processes and a container has no use for: they have no supervisor, spans go to
#: Jaeger, and where instances may be is left to what private networks are.
LOCAL = {"WEFT_SUPERVISOR", "WEFT_TRACE_STORE", "WEFT_NETWORKS"}


@pytest.fixture(scope="module")
def files() -> Mapping[str, str]:
    return export.build("compose")


@pytest.fixture(scope="module")
def services(files: Mapping[str, str]) -> dict[str, Service]:
    found: dict[str, Service] = yaml.safe_load(files["compose.yaml"])["services"]
    return found


@pytest.fixture
def stack(folder: Path) -> tuple[Part, ...]:
    settings = Settings.from_environ({"WEFT_PROFILE": "production,ha", "WEFT_DATA": str(folder)})
    return build_stack(folder, settings=settings).parts()


def schema() -> Any:
    text = resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text()
    return json.loads(text)


def test_it_is_what_the_compose_specification_knows(files: Mapping[str, str]) -> None:
    jsonschema.validate(yaml.safe_load(files["compose.yaml"]), schema())


def test_a_misspelt_word_would_be_found(files: Mapping[str, str]) -> None:
    said = yaml.safe_load(files["compose.yaml"])
    said["services"]["orders-1"]["dependson"] = {}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(said, schema())


def test_every_instance_of_the_desired_state_is_a_service(services: dict[str, Service]) -> None:
    wanted = {f"{name}-{number + 1}" for name, size in HA_SIZES.items() for number in range(size)}
    wanted |= {f"{name}-{number}" for name in ("cockroach", "rabbitmq", "etcd") for number in (1, 2, 3)}

    assert set() == wanted - {*services}


def test_our_processes_are_run_as_the_supervisor_runs_them(
    services: dict[str, Service], stack: tuple[Part, ...]
) -> None:
    ours = (Kind.SERVICE, Kind.WORKER, Kind.CONTROL_PLANE)
    found = [part for part in stack if isinstance(part, Server) and part.kind in ours]

    assert len(found) > 20
    for part in found:
        own = services[part.name]
        assert ["python", *part.command.argv[1:]] == own["entrypoint"], part.name
        told = {*part.command.env} - {*INHERITED} - LOCAL
        # Letters and pages are asked of a few instances here, of all there.
        told -= {"WEFT_LISTEN_PAGES", "WEFT_LISTEN_LETTERS"}
        assert told == {*own["environment"]} - {"WEFT_LISTEN_PAGES", "WEFT_LISTEN_LETTERS"}, part.name
        for name in ("WEFT_TRACE_RATIO", "WEFT_LOG_LEVEL", "WEFT_CONSUMER_SAMPLE", "WEFT_ARCHIVE_DAYS"):
            assert part.command.env.get(name) == own["environment"].get(name), (part.name, name)


def test_the_edge_is_compiled_as_the_supervisor_has_it_compiled(
    services: dict[str, Service], stack: tuple[Part, ...]
) -> None:
    def flags(words: list[str]) -> set[str]:
        return {word for word in words if word.startswith("--")}

    [compiled] = [part.run for part in stack if part.name == "compile" and not isinstance(part, Server)]
    assert isinstance(compiled, Command)
    script = services["publish"]["entrypoint"][2]

    # Elsewhere than on loopback it has to be said where it listens.
    assert flags([*compiled.argv]) | {"--address"} == flags(script.split())
    assert "--profile production" in script
    assert "--port " not in script


def test_who_waits_for_whom_is_as_in_the_stack(services: dict[str, Service], stack: tuple[Part, ...]) -> None:
    for user in ("orders-1", "email-1", "reports-1", "relay-1"):
        migrations = {name for name in needs_of(stack, user) if name.startswith("migrate-")}
        assert migrations <= {*services[user]["depends_on"]}, user
    assert {"publish"} <= {*services["gateway-1"]["depends_on"]}


def test_what_is_waited_for_can_be_waited_for(services: dict[str, Service]) -> None:
    for name, one in services.items():
        for need, how in one.get("depends_on", {}).items():
            assert need in services, (name, need)
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[need], (name, need)
            if how["condition"] == "service_completed_successfully":
                assert "on-failure" == services[need]["restart"], (name, need)
            assert "profiles" not in services[need], (name, need)


def test_no_container_is_root_or_writes_where_it_should_not(services: dict[str, Service]) -> None:
    for name, one in services.items():
        assert one["read_only"] is True, name
        assert ["ALL"] == one["cap_drop"], name
        assert ["no-new-privileges:true"] == one["security_opt"], name
    assert {"volumes"} == {name for name, one in services.items() if one["user"] != "10001:10001"}
    assert "none" == services["volumes"]["network_mode"]


def test_only_gateways_are_shown_to_other_machines(services: dict[str, Service]) -> None:
    shown = {
        name for name, one in services.items() for port in one.get("ports", ()) if not port.startswith("127.0.0.1:")
    }

    assert {"gateway-1", "gateway-2"} == shown
    assert ["8443:8443"] == services["gateway-1"]["ports"]
    assert ["8444:8443"] == services["gateway-2"]["ports"]


def test_secrets_are_files_and_in_no_environment(files: Mapping[str, str], services: dict[str, Service]) -> None:
    said = yaml.safe_load(files["compose.yaml"])

    for name, one in services.items():
        assert not any(re.search("password|secret_key|token", key, re.IGNORECASE) for key in one.get("environment", {}))
        for secret in one.get("secrets", ()):
            assert secret["source"] in said["secrets"], name
            assert secret["target"].startswith(("/etc/weft/",)), name
    assert f"{SECRETS}/seal.key" in {one["target"] for one in services["identity-1"]["secrets"]}
    for name in SERVICES:
        if name != "identity":
            assert "seal.key" not in {one["source"] for one in services[f"{name}-1"].get("secrets", ())}


def test_nothing_is_left_for_compose_to_fill_in_but_what_is_named(files: Mapping[str, str]) -> None:
    found = re.findall(r"(?<!\$)\$\{?([A-Za-z_]+)", files["compose.yaml"])

    assert {"TAG", "SECRETS", "EDGE_NAME"} == {*found}
    assert "POD_" not in files["compose.yaml"]


def test_prometheus_takes_its_configuration_and_asks_every_instance(
    files: Mapping[str, str], services: dict[str, Service], tmp_path: Path
) -> None:
    (tmp_path / "rules").mkdir()
    for name in ("prometheus.yml", "targets.json", "targets-seldom.json"):
        (tmp_path / name).write_text(files[f"prometheus/{name}"])

    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    targets = [json.loads(files[f"prometheus/{name}"]) for name in ("targets.json", "targets-seldom.json")]
    asked = {one["labels"]["instance"] for groups in targets for one in groups}
    ours = {f"{name}-1" for name in (*SERVICES, "relay", *(one.process for one in mesh_parts.WORKERS))}
    assert ours | {"gateway-2", "control-plane-1", "etcd-3", "rabbitmq-2", "prometheus-1"} <= asked <= {*services}


def test_alertmanager_takes_its_configuration_and_tells_no_supervisor(files: Mapping[str, str]) -> None:
    configured = json.loads(files["alertmanager/alertmanager.yml"])

    assert ["mail"] == [one["name"] for one in configured["receivers"]]
    assert "recovery" not in json.dumps(configured["route"])


def test_images_are_built_from_files_that_the_linter_finds_nothing_in() -> None:
    images = sorted((export.PROJECT / "deploy" / "images").glob("*.Dockerfile"))
    linter = Path(sys.executable).with_name("hadolint")

    done = subprocess.run([linter, *images], capture_output=True, text=True, check=False)

    assert 2 == len(images)
    assert (0, "") == (done.returncode, done.stdout)


def test_every_image_of_ours_has_its_file(services: dict[str, Service]) -> None:
    files = {one["build"]["dockerfile"] for one in services.values() if "build" in one}

    assert {f"deploy/images/{name}.Dockerfile" for name in ("weft", "weft-gateway")} == files
    for file in files:
        assert (export.PROJECT / file).is_file()
        # Every folder that is copied is there.
        for line in (export.PROJECT / file).read_text().splitlines():
            if line.startswith("COPY ") and "--from" not in line:
                for source in line.split()[1:-1]:
                    assert (export.PROJECT / source).exists(), line


def test_images_of_others_have_a_version() -> None:
    for form in export.FORMS:
        for one in export.workloads(form):
            assert one.image.ours or re.search(r":v?[0-9]+\.[0-9]+\.[0-9]+", str(one.image)), one.image
