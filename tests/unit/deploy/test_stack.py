"""The stack as data: what is in it, what needs what, and what never shows up in argv or environment."""

import asyncio
import itertools
import json
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.supervisor import certificate, messages
from deploy.supervisor.config import Settings
from deploy.supervisor.desired import Desired
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.lane import LaneSpec
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Part, Server, Task
from deploy.supervisor.ports import Ports
from deploy.supervisor.readiness import GrpcHealth, Shown
from deploy.supervisor.secrets import Secrets
from deploy.supervisor.stack import IDENTITIES, Stack
from weft_protos import identity, mesh_parts


def build(
    folder: Path,
    *,
    sizes: dict[str, int] | None = None,
    only: tuple[str, ...] = (),
    settings: Settings | None = None,
    ports: Ports | None = None,
) -> Stack:
    layout = Layout(folder)
    layout.prepare(None)
    desired = Desired.of(settings or Settings(data=folder), sizes=sizes, only=only)
    ports = ports or Ports(layout.ports, base=21000, is_free=lambda _: True)
    return Stack(desired, layout, ports=ports, secrets=Secrets(layout.secrets), account=None)


@pytest.fixture
def parts(folder: Path) -> tuple[Part, ...]:
    return build(folder).parts()


def named(parts: tuple[Part, ...], name: str) -> Part:
    return next(part for part in parts if part.name == name)


def needs(parts: tuple[Part, ...], name: str) -> set[str]:
    """Everything `name` waits for, directly or not."""
    direct = set(named(parts, name).after)
    return direct | {further for need in direct for further in needs(parts, need)}


def ports_of(part: Part) -> tuple[int, ...]:
    assert isinstance(part, Server)
    return part.ports


def environ(part: Part) -> dict[str, str]:
    command = part.command if isinstance(part, Server) else part.run
    assert isinstance(command, Command)
    return dict(command.env)


def test_a_supervisor_that_finds_every_process_running_would_start_the_very_same(folder: Path) -> None:
    first = {part.name: part for part in build(folder).parts() if isinstance(part, Server)}
    known = {port for part in first.values() for port in part.ports}
    taken = set(json.loads(Layout(folder).ports.read_text()).values())

    ports = Ports(Layout(folder).ports, base=21000, is_free=lambda port: port not in taken, kept=known)
    again = {part.name: part for part in build(folder, ports=ports).parts() if isinstance(part, Server)}

    assert {name: part.command.digest() for name, part in first.items()} == {
        name: part.command.digest() for name, part in again.items()
    }


def test_the_default_mesh_is_the_documented_one(parts: tuple[Part, ...]) -> None:
    expected = {
        *("etcd-1", "etcd-2", "etcd-3", "memcached-1", "memcached-2", "epmd", "rabbitmq-1", "postgres-1"),
        *("prometheus", "alertmanager", "postgres-exporter", "traces", "mail"),
        *("control-plane-1", "control-plane-2", "identity-1", "identity-2", "catalog-1", "catalog-2"),
        *("orders-1", "orders-2", "analytics-1", "operations-1", "relay-1", "email-1", "audit-1"),
        *("analytics-worker-1",),
        *("archive-1", "reports-1"),
        *("gateway-1", "gateway-2"),
    }
    # Whatever was added beside the shop has its own manifest, and nothing here to be changed.
    shop = {"identity", "catalog", "orders", "analytics", "operations"}
    shop |= {"email", "audit", "analytics-worker", "archive", "reports"}
    added = {one.name: one.instances for one in mesh_parts.SERVICES}
    added |= {one.process: one.instances for one in mesh_parts.WORKERS}
    expected |= {f"{name}-{n + 1}" for name, size in added.items() if name not in shop for n in range(size)}

    assert expected == {part.name for part in parts if isinstance(part, Server)}


def test_every_database_is_migrated_before_its_user_starts(parts: tuple[Part, ...]) -> None:
    for user, name in (
        ("orders-1", "orders"),
        ("email-1", "email"),
        ("analytics-worker-1", "analytics"),
        ("reports-1", "analytics"),
    ):
        assert f"migrate-{name}" in needs(parts, user)
    assert {f"migrate-{name}" for name in ("identity", "catalog", "orders", "analytics")} <= needs(parts, "relay-1")


def test_only_workers_wait_for_the_broker(parts: tuple[Part, ...]) -> None:
    waiting = {part.kind for part in parts if isinstance(part, Server) and "rabbitmq-1" in needs(parts, part.name)}

    assert {Kind.WORKER} == waiting


def test_gateways_wait_for_contracts_control_planes_and_public_keys(parts: tuple[Part, ...]) -> None:
    expected = {"publish", "bootstrap-gateway-1", "control-plane-1", "control-plane-2", "identity-1", "identity-2"}

    assert expected <= needs(parts, "gateway-1")


def test_nothing_signs_in_to_etcd_before_authentication_is_on(parts: tuple[Part, ...]) -> None:
    for name in ("publish", "control-plane-1", "identity-1", "orders-2"):
        assert "etcd-auth" in needs(parts, name)


def test_no_two_parts_share_a_port_but_the_gateways(parts: tuple[Part, ...]) -> None:
    ports = [port for part in parts if isinstance(part, Server) for port in part.ports if port not in (8080, 8443)]

    assert len(ports) == len(set(ports))
    assert 2 == sum(8080 in part.ports and 8443 in part.ports for part in parts if isinstance(part, Server))


def test_no_secret_is_in_argv_or_environment(folder: Path) -> None:
    stack = build(folder)
    parts = stack.parts()
    stack.write_secrets()
    stack.certificate.ensure(now=datetime.now(UTC))
    public = (".email", ".crt")
    files = [path for path in (folder / "secrets").rglob("*") if path.is_file() and path.suffix not in public]
    secrets = [path.read_text() for path in files]
    commands = [part.command if isinstance(part, Server) else part.run for part in parts]
    shown = [
        text
        for command in commands
        if isinstance(command, Command)
        for text in itertools.chain(command.argv, command.env.values())
    ]

    assert {"ca.key", "tls.key", "operator.password"} <= {path.name for path in files}
    assert [] == [text for text in shown for secret in secrets if secret in text]


def test_contracts_are_published_as_at_the_start(folder: Path) -> None:
    stack = build(folder)
    compiled = named(stack.parts(), "compile")
    publishing = stack.publishing()
    assert isinstance(compiled, Task)
    assert isinstance(compiled.run, Command)

    assert publishing.edge == compiled.run.argv[-len(publishing.edge) :]
    assert ("--profile", "local", "--port", "8080", "--tls-port", "8443") == publishing.edge[:6]
    assert publishing.environ.items() <= environ(named(stack.parts(), "publish")).items()
    assert publishing == messages.publishing_of(messages.decode(messages.encode(asdict(publishing))))


def test_a_process_gets_the_settings_of_the_brief(parts: tuple[Part, ...]) -> None:
    env = environ(named(parts, "orders-1"))
    expected = {
        *("WEFT_INSTANCE", "WEFT_LISTEN", "WEFT_METRICS_PORT", "WEFT_ETCD", "WEFT_ETCD_USER", "WEFT_XDS"),
        *("WEFT_CACHE", "WEFT_OTLP_ENDPOINT", "WEFT_TRACE_RATIO", "WEFT_SMTP", "WEFT_SECRETS", "WEFT_LOG_LEVEL"),
        *("WEFT_STATE", "WEFT_NETWORKS", "WEFT_CONSUMER_SAMPLE"),
        *("WEFT_ARCHIVE", "WEFT_ARCHIVE_DAYS", "WEFT_REPORT_MEMORY_MB"),
    }

    assert expected == {name for name in env if name.startswith("WEFT_")}
    assert ("orders-1", 2, 2) == (env["WEFT_INSTANCE"], env["WEFT_XDS"].count(":"), env["WEFT_CACHE"].count(":"))
    assert 3 == env["WEFT_ETCD"].count(":")


def test_crash_points_are_for_the_mesh_of_a_test_and_reach_its_processes(folder: Path) -> None:
    settings = Settings(data=folder, crash_points=folder / "points")
    layout = Layout(folder)
    layout.prepare(None)
    ports = Ports(layout.ports, base=21000, is_free=lambda _: True)
    desired = Desired.of(settings, ephemeral=True)
    stack = Stack(desired, layout, ports=ports, secrets=Secrets(layout.secrets), account=None)

    assert {str(folder / "points")} == {
        environ(named(stack.parts(), name))["WEFT_CRASH_POINTS"] for name in ("orders-1", "relay-1", "archive-1")
    }


@pytest.mark.parametrize(("profile", "ephemeral"), [("local", False), ("production", False), ("production", True)])
def test_crash_points_are_refused_in_every_other_mesh(folder: Path, profile: str, ephemeral: bool) -> None:
    settings = Settings(data=folder, profile=profile, crash_points=folder / "points")

    with pytest.raises(ConfigError, match="for the mesh of a test"):
        Desired.of(settings, ephemeral=ephemeral)


def test_members_of_etcd_start_together_and_are_known_to_each_other(parts: tuple[Part, ...]) -> None:
    members = [part for part in parts if isinstance(part, Server) and part.kind is Kind.ETCD]

    assert [{"etcd-form"}] * 3 == [needs(parts, member.name) for member in members]
    assert 1 == len({flag for member in members for flag in member.command.argv if "--initial-cluster=" in flag})
    assert {member.name for member in members} <= needs(parts, "etcd-auth")


def test_no_process_is_told_not_to_compile_itself(parts: tuple[Part, ...]) -> None:
    commands = [part.command if isinstance(part, Server) else part.run for part in parts]

    assert not any(isinstance(command, Command) and "PYTHONDONTWRITEBYTECODE" in command.env for command in commands)


def test_in_production_nothing_is_offered_in_clear_unless_it_is_asked_for(folder: Path) -> None:
    closed = build(folder, settings=Settings(data=folder, profile="production", gateway_port=None))
    asked = build(folder, settings=Settings(data=folder, profile="production"))

    assert ("https://127.0.0.1:8443", "http://127.0.0.1:8080") == (closed.gateway_url(), asked.gateway_url())
    gateway = named(closed.parts(), "gateway-1")
    assert isinstance(gateway, Server)
    assert (8443, 2) == (gateway.ports[0], len(gateway.ports))
    assert ("--profile", "production", "--tls-port", "8443") == closed.publishing().edge[:4]
    assert ("--profile", "production", "--port", "8080") == asked.publishing().edge[:4]


def test_handshakes_are_taken_for_the_names_of_the_users_certificate(folder: Path) -> None:
    authority = certificate.make_authority()
    for name in ("shop.example", "api.shop.example"):
        pair = authority.issue((name, f"*.{name}"), ())
        (folder / "own.crt").write_text(pair.certificate)
        layout = Layout(folder / "data")
        layout.prepare(None)
        layout.write(folder / "own.key", pair.key, None)
        stack = build(
            folder / "data",
            settings=Settings(data=folder, tls_certificate=folder / "own.crt", tls_key=folder / "own.key"),
        )
        stack.certificate.ensure(now=datetime.now(UTC))
        edge = stack.publishing().edge

        assert [name, f"*.{name}"] == [value for flag, value in itertools.pairwise(edge) if flag == "--tls-name"]


def test_sizes_are_obeyed_down_to_none(folder: Path) -> None:
    names = {part.name for part in build(folder, sizes={"orders": 3, "gateway": 0}).parts()}

    assert {"orders-1", "orders-2", "orders-3"} <= names
    assert not any(name.startswith(("gateway", "bootstrap")) for name in names)


def test_a_part_of_the_mesh_brings_only_what_it_needs(folder: Path) -> None:
    names = [part.name for part in build(folder, only=("rabbitmq-1",)).parts()]

    assert ["epmd", "rabbitmq-1"] == names


def test_every_process_of_ours_is_watched_and_counted_as_heavy(parts: tuple[Part, ...]) -> None:
    kinds = (Kind.SERVICE, Kind.WORKER, Kind.CONTROL_PLANE)
    ours = [part for part in parts if isinstance(part, Server) and part.kind in kinds]

    assert 16 <= len(ours)
    assert all(part.watched and part.heavy for part in ours)


def test_every_process_that_exposes_metrics_is_a_target(folder: Path) -> None:
    stack = build(folder)
    layout, parts = Layout(folder), stack.parts()
    layout.slo.write_text("groups: []\n")
    monitor = named(parts, "prometheus")
    assert isinstance(monitor, Server)
    assert monitor.prepare is not None

    asyncio.run(monitor.prepare())

    found = [
        group["labels"]["instance"]
        for name in ("targets.json", "targets-seldom.json")
        for group in json.loads((layout.home("prometheus") / name).read_text())
    ]
    silent = ("memcached", "epmd", "postgres-1", "traces", "mail")  # the supervisor and the exporter speak for them
    servers = {part.name for part in parts if isinstance(part, Server) and not part.name.startswith(silent)}
    assert sorted(servers | {"supervisor"}) == sorted(found)


def test_tasks_come_before_what_needs_them(parts: tuple[Part, ...]) -> None:
    seen: set[str] = set()
    for part in parts:
        assert set(part.after) <= seen
        seen.add(part.name)
    assert any(isinstance(part, Task) for part in parts)


def test_an_envoy_is_told_the_name_its_refusals_carry(parts: tuple[Part, ...]) -> None:
    names = {
        part.name: part.command.env["WEFT_INSTANCE"]
        for part in parts
        if isinstance(part, Server) and part.kind is Kind.GATEWAY
    }

    assert {"gateway-1": "gateway-1", "gateway-2": "gateway-2"} == names


def test_a_resized_mesh_differs_only_in_the_parts_that_come_or_go(folder: Path) -> None:
    layout = Layout(folder)
    layout.prepare(None)
    desired = Desired.of(Settings(data=folder))
    ports = Ports(layout.ports, base=21000, is_free=lambda _: True)
    stack = Stack(desired, layout, ports=ports, secrets=Secrets(layout.secrets), account=None)
    before = {part.name: part for part in stack.parts()}

    after = {part.name: part for part in stack.resized(desired.resized("gateway", 3).resized("orders", 1)).parts()}

    assert {"gateway-3", "bootstrap-gateway-3"} == set(after) - set(before)
    assert {"orders-2"} == set(before) - set(after)
    servers = [name for name in after if name in before and isinstance(after[name], Server)]
    assert {name: ports_of(before[name]) for name in servers} == {name: ports_of(after[name]) for name in servers}


@pytest.mark.parametrize(("service", "size"), [("memcached", 3), ("control-plane", 1), ("orders", 33), ("nothing", 1)])
def test_what_others_know_by_a_list_keeps_its_size(folder: Path, service: str, size: int) -> None:
    with pytest.raises(ConfigError, match=service):
        Desired.of(Settings(data=folder)).resized(service, size)


def test_a_lane_is_instances_beside_the_others(folder: Path) -> None:
    before = build(folder)
    spec = LaneSpec(("orders", "catalog"), instances=2, env={"FEATURE": "on", "WEFT_LISTEN": "ignored"})
    after = before.resized(replace(Desired.of(Settings(data=folder)), lanes={"canary": spec})).parts()

    new = {part.name: part for part in after if part.name not in {part.name for part in before.parts()}}
    assert {f"{service}-canary-{number}" for service in ("orders", "catalog") for number in (1, 2)} == set(new)
    canary, stable = new["orders-canary-1"], named(after, "orders-1")
    assert isinstance(canary, Server)
    assert ("orders@canary", Kind.SERVICE) == (canary.service, canary.kind)
    told, others = environ(canary), environ(stable)
    assert {"FEATURE": "on", "WEFT_LANE": "canary"} == {name: told[name] for name in told.keys() - others.keys()}
    assert f"127.0.0.1:{canary.ports[0]}" == told["WEFT_LISTEN"] != others["WEFT_LISTEN"]
    assert stable == named(before.parts(), "orders-1")


def test_a_lane_that_was_rolled_back_has_no_instances(folder: Path) -> None:
    spec = LaneSpec(("orders",), rolled_back="it failed")
    stack = build(folder).resized(replace(Desired.of(Settings(data=folder)), lanes={"canary": spec}))

    assert not [part for part in stack.parts() if "canary" in part.name]


def test_a_lane_runs_the_code_of_its_clone_by_the_interpreter_of_that(folder: Path, tmp_path: Path) -> None:
    def command(clone: Path) -> Command:
        spec = LaneSpec(("orders",), checkout=str(clone))
        stack = build(folder).resized(replace(Desired.of(Settings(data=folder)), lanes={"canary": spec}))
        part = named(stack.parts(), "orders-canary-1")
        assert isinstance(part, Server)
        return part.command

    plain = command(tmp_path)
    assert (tmp_path, sys.executable) == (plain.cwd, plain.argv[0])
    assert f"{tmp_path}:{tmp_path}/protos/gen:{tmp_path}/protos/py" == plain.env["PYTHONPATH"]

    interpreter = tmp_path / ".venv" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.touch()
    assert str(interpreter) == command(tmp_path).argv[0]


def test_while_hops_are_in_clear_nobody_is_told_of_certificates(parts: tuple[Part, ...]) -> None:
    commands = [part.command if isinstance(part, Server) else part.run for part in parts]
    told = [command for command in commands if isinstance(command, Command)]
    probes = [part.probe for part in parts if isinstance(part, Server)]

    assert not any("WEFT_IDENTITY" in command.env or "--hop-secrets" in command.argv for command in told)
    assert {None} == {probe.shown for probe in probes if isinstance(probe, GrpcHealth)}


def test_where_hops_are_encrypted_every_process_of_ours_has_the_identity_of_its_part(folder: Path) -> None:
    stack = build(folder, settings=Settings(data=folder, mtls=True))
    parts = stack.parts()
    assert stack.workloads is not None
    servers = {part.name: part for part in parts if isinstance(part, Server)}
    held = {name: one.command.env.get("WEFT_IDENTITY", "") for name, one in servers.items()}
    asked = {name: one.probe.shown for name, one in servers.items() if isinstance(one.probe, GrpcHealth)}

    assert {name for name, place in held.items() if place} == asked.keys()
    assert {str(stack.workloads.folder(one)) for one in IDENTITIES} > {held[name] for name in asked}
    own = stack.workloads.folder(identity.SUPERVISOR)
    expected = {"orders-1": "orders.service.weft", "email-1": "email.worker.weft"}
    assert {name: Shown(own, dns) for name, dns in expected.items()}.items() <= asked.items()
    assert {str(stack.workloads.folder(identity.service("orders")))} == {held["orders-1"], held["orders-2"]}


def test_gateways_are_told_where_their_identity_lies_and_so_is_whoever_publishes(folder: Path) -> None:
    stack = build(folder, settings=Settings(data=folder, mtls=True))
    told: list[str] = []
    for name in ("bootstrap-gateway-1", "compile"):
        part = named(stack.parts(), name)
        assert isinstance(part, Task)
        assert isinstance(part.run, Command)
        told += [
            " ".join(pair) for pair in itertools.pairwise(part.run.argv) if pair[0] in ("--identity", "--hop-secrets")
        ]

    run, identities = Layout(folder).hop_secrets, Layout(folder).identities
    assert [f"--identity {identities}/gateway-gateway", f"--hop-secrets {run}", f"--hop-secrets {run}"] == told
    assert ("--hop-secrets", str(run)) == stack.publishing().edge[-2:]


def test_instances_of_a_lane_are_known_as_the_service(folder: Path) -> None:
    spec = LaneSpec(services=("orders",))
    desired = Desired.of(Settings(data=folder, mtls=True)).with_lane("canary", spec)
    stack = build(folder, settings=Settings(data=folder, mtls=True)).resized(desired)

    assert (
        str(Layout(folder).identities / "service-orders")
        == environ(named(stack.parts(), "orders-canary-1"))["WEFT_IDENTITY"]
    )
