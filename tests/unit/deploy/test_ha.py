"""The profile `ha` as data: what is in it, who knows whom, and what belongs to whom."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from deploy.supervisor import procfs
from deploy.supervisor.config import Settings
from deploy.supervisor.desired import AUTOSCALED, HA_SIZES, Desired, usual_bounds
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.graph import stop_rank
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Part, Server
from deploy.supervisor.ports import Ports
from deploy.supervisor.secrets import DATABASES, Secrets
from deploy.supervisor.servers import etcd, patroni, rabbitmq
from deploy.supervisor.servers.rabbitmq_leader import leader
from deploy.supervisor.stack import Stack

NODES = tuple(rabbitmq.Node(f"rabbitmq-{n}", f"weft-{n}@localhost", n, n + 10, n + 20) for n in (1, 2, 3))
MEMBER = patroni.Member("postgres-2", 5, 6)
PASSWORDS = patroni.Passwords("super", "replica", "interface", "registry")
CLUSTER = patroni.Cluster(("127.0.0.1:1", "127.0.0.1:2"), PASSWORDS)


def build(folder: Path, *, ha: bool = True) -> Stack:
    layout = Layout(folder, ha=ha)
    layout.prepare(None)
    desired = Desired.of(Settings(data=folder, ha=ha))
    ports = Ports(layout.ports, base=21000, is_free=lambda _: True)
    return Stack(desired, layout, ports=ports, secrets=Secrets(layout.secrets), account=None)


@pytest.fixture
def parts(folder: Path) -> tuple[Part, ...]:
    return build(folder).parts()


def servers(parts: tuple[Part, ...]) -> list[Server]:
    return [part for part in parts if isinstance(part, Server)]


def test_nothing_but_sinks_and_the_monitor_is_there_only_once(parts: tuple[Part, ...]) -> None:
    counts: dict[str, int] = {}
    for server in servers(parts):
        counts[server.service] = counts.get(server.service, 0) + 1

    assert {3} == {counts[name] for name in ("etcd", "postgres", "postgres-exporter", "rabbitmq", "memcached")}
    assert {2} == {counts[name] for name in HA_SIZES if name != "memcached"}
    assert {"epmd", "prometheus", "alertmanager", "traces", "mail"} == {
        name for name, count in counts.items() if count == 1
    }


def test_a_load_that_goes_leaves_two_of_everything() -> None:
    assert set(AUTOSCALED) == set(usual_bounds(ha=True))
    assert {2} == {bounds.least for bounds in usual_bounds(ha=True).values()}
    assert AUTOSCALED == usual_bounds(ha=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("local", False)),
        ("ha", ("local", True)),
        ("production,ha", ("production", True)),
        ("ha, local", ("local", True)),
        ("production", ("production", False)),
    ],
)
def test_the_profile_is_what_the_edge_shows_and_how_often_servers_are_there(
    text: str, expected: tuple[str, bool]
) -> None:
    settings = Settings.from_environ({"WEFT_PROFILE": text, "HOME": "/nonexistent"})

    assert expected == (settings.profile, settings.ha)


@pytest.mark.parametrize("text", ["hA", "ha,ha", "local,production", "ha,", "three"])
def test_a_profile_nobody_knows_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"WEFT_PROFILE={text} is unknown.*production,ha"):
        Settings.from_environ({"WEFT_PROFILE": text, "HOME": "/nonexistent"})


def test_both_profiles_keep_their_data_apart(folder: Path) -> None:
    one, three = Layout(folder), Layout(folder, ha=True)

    assert one.home("postgres-1") != three.home("postgres-1")
    assert one.state != three.state
    assert (one.secrets, one.run, one.log) == (three.secrets, three.run, three.log)


def test_every_process_finds_the_member_that_leads_and_a_replica(folder: Path) -> None:
    stack = build(folder)
    stack.parts()
    stack.write_secrets()
    for name in DATABASES:
        leader_url = sqlalchemy.make_url((folder / f"secrets/database-{name}.url").read_text())
        replicas = [*map(sqlalchemy.make_url, (folder / f"secrets/database-{name}.replicas.url").read_text().split())]
        assert ("read-write", 3) == (leader_url.query["target_session_attrs"], len(leader_url.query["host"]))
        assert 3 == len({url.port for url in replicas})
        assert {name} == {url.database for url in replicas}
        _, options = sqlalchemy.create_engine(leader_url).dialect.create_connect_args(leader_url)
        assert ("127.0.0.1,127.0.0.1,127.0.0.1", 3) == (options["host"], len(str(options["port"]).split(",")))
    assert 3 == len((folder / "secrets/amqp.url").read_text().split(","))

    build(folder, ha=False).write_secrets()

    assert [] == list((folder / "secrets").glob("*.replicas.url"))
    assert 1 == len((folder / "secrets/amqp.url").read_text().split(","))


def test_members_of_the_database_wait_for_the_registry_and_workers_for_all_brokers(parts: tuple[Part, ...]) -> None:
    found = {part.name: part for part in parts}

    assert all(("etcd-auth",) == found[f"postgres-{number}"].after for number in (1, 2, 3))
    assert {"postgres-1", "postgres-2", "postgres-3"} == set(found["databases"].after)
    assert {node.name for node in NODES} <= set(found["relay-2"].after)


def test_the_database_gives_its_leadership_back_while_the_registry_still_runs(parts: tuple[Part, ...]) -> None:
    ranks = {server.name: stop_rank(server) for server in servers(parts)}

    assert ranks["postgres-1"] < ranks["etcd-1"] < ranks["epmd"]


class TestPatroni:
    def configured(self, folder: Path, cluster: patroni.Cluster = CLUSTER) -> Any:
        return json.loads(json.dumps(patroni.configure(MEMBER, folder, cluster)))

    def test_what_is_acknowledged_is_on_two_members(self, tmp_path: Path) -> None:
        for cluster in (CLUSTER, replace(CLUSTER, durable=False)):
            found = self.configured(tmp_path, cluster)
            parameters = found["postgresql"]["parameters"]
            assert found["bootstrap"]["dcs"]["synchronous_mode"] is True
            assert "synchronous_commit" not in parameters
            assert "full_page_writes" not in parameters  # pg_rewind needs them

    def test_a_member_is_replaced_only_after_it_could_have_tried_twice(self) -> None:
        assert patroni.TTL_S > patroni.LOOP_WAIT_S + 2 * patroni.RETRY_S
        assert True is patroni.dynamic()["failsafe_mode"]

    def test_everything_listens_on_loopback_and_asks_for_a_password(self, tmp_path: Path) -> None:
        found = self.configured(tmp_path)

        assert {"127.0.0.1:5"} == {found["postgresql"][name] for name in ("listen", "connect_address")}
        assert {"127.0.0.1:6"} == {found["restapi"][name] for name in ("listen", "connect_address")}
        assert "interface" == found["restapi"]["authentication"]["password"]
        assert all("127.0.0.1/32 scram-sha-256" in line for line in found["postgresql"]["pg_hba"])

    def test_it_has_a_user_and_a_prefix_of_its_own_in_the_registry(self, folder: Path) -> None:
        found = self.configured(folder)
        users = {user.name: user.prefix for user in build(folder)._etcd_users()}

        assert users == {etcd.USER: etcd.PREFIX, found["etcd3"]["username"]: found["namespace"]}
        assert {etcd.USER} == {user.name for user in build(folder, ha=False)._etcd_users()}

    def test_its_file_is_its_own_and_no_password_is_elsewhere(self, tmp_path: Path) -> None:
        server = patroni.server(MEMBER, Layout(tmp_path), None, cluster=CLUSTER)
        assert server.prepare is not None
        if patroni.BINARY.exists():
            asyncio.run(server.prepare())
            assert 0o600 == (layout_file := tmp_path / "data/postgres-2/patroni.yml").stat().st_mode & 0o777
            assert "replica" in layout_file.read_text()
        shown = [*server.command.argv, *server.command.env.values()]
        assert not [word for word in shown for secret in ("super", "interface", "registry") if secret in word]
        assert "super" not in repr(CLUSTER)

    def test_only_a_server_that_runs_on_the_data_is_its_companion(self, tmp_path: Path) -> None:
        assert patroni.postmaster(tmp_path) is None
        (tmp_path / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n")
        assert patroni.postmaster(tmp_path) is None  # its pid was given to another
        (tmp_path / "postmaster.pid").write_text("")
        assert patroni.postmaster(tmp_path) is None


class TestBroker:
    def test_nodes_know_each_other_and_share_their_cookie(self, folder: Path) -> None:
        found = [server for server in servers(build(folder).parts()) if server.service == "rabbitmq"]
        names = {server.command.env["RABBITMQ_NODENAME"] for server in found}

        assert {node.erlang for node in NODES} == names
        assert 1 == len({server.command.env["ERL_EPMD_PORT"] for server in found})
        rendered = rabbitmq.render(NODES[1], folder, cluster=NODES)
        assert all(f".nodes.{number} = {node.erlang}\n" in rendered for number, node in enumerate(NODES, 1))
        for server in found:
            assert server.prepare is not None
            asyncio.run(server.prepare())
        cookies = [folder / "ha" / node.name / ".erlang.cookie" for node in NODES]
        assert 1 == len({cookie.read_text() for cookie in cookies})
        assert {0o400} == {cookie.stat().st_mode & 0o777 for cookie in cookies}

    def test_a_node_alone_forms_no_cluster(self, tmp_path: Path) -> None:
        assert "cluster" not in rabbitmq.render(NODES[0], tmp_path, cluster=NODES[:1])

    def test_a_node_without_data_joins_the_first_and_one_with_data_starts_with_it(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path)

        def after(node: rabbitmq.Node) -> tuple[str, ...]:
            return rabbitmq.server(node, layout, None, cluster=NODES, epmd_port=1, password="x", cookie="y").after

        assert [("epmd",), ("epmd", "rabbitmq-1")] == [after(NODES[0]), after(NODES[1])]
        (layout.home("rabbitmq-2") / "mnesia" / NODES[1].erlang).mkdir(parents=True)
        assert [("epmd",), ("epmd", "rabbitmq-1")] == [after(NODES[1]), after(NODES[2])]

    def test_the_node_with_most_queues_that_are_consumed_leads(self) -> None:
        told = "weft-1@localhost\t0\nweft-1@localhost\t0\nweft-2@localhost\t1\nweft-3@localhost\t0\n"

        assert "rabbitmq-2" == leader(told, NODES)
        assert "rabbitmq-1" == leader("weft-1@localhost\t0\nweft-1@localhost\t0\nweft-2@localhost\t0\n", NODES)
        assert "" == leader("", NODES)


def test_a_listener_of_a_companion_is_the_parts_own() -> None:
    listening = "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n"
    listening += "print(s.getsockname()[1], flush=True); time.sleep(600)"
    with subprocess.Popen((sys.executable, "-S", "-c", listening), stdout=subprocess.PIPE, text=True) as companion:
        try:
            assert companion.stdout is not None
            port = int(companion.stdout.readline())
            assert procfs.owns_listener(port, 1, companion.pid) is True
            assert procfs.owns_listener(port, companion.pid) is True
        finally:
            companion.kill()
