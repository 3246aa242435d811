"""Configuration of the real servers, rendered."""

import asyncio
import base64
import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.supervisor import procfs
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Server
from deploy.supervisor.servers import (
    alertmanager,
    etcd,
    memcached,
    postgres,
    postgres_exporter,
    prometheus,
    python,
    rabbitmq,
)
from deploy.supervisor.servers.etcd_cluster import Found, source
from tests.waiting import eventually

NODE = rabbitmq.Node("rabbitmq-1", "weft-1@localhost", 7, 8, 6)
OTHER = rabbitmq.Node("rabbitmq-2", "weft-2@localhost", 5, 4, 3)


def broker(node: rabbitmq.Node, folder: Path, cluster: tuple[rabbitmq.Node, ...] = (NODE,)) -> Server:
    return rabbitmq.server(
        node, Layout(folder), None, cluster=cluster, epmd_port=9, password="hunter2", cookie="hunter3"
    )


def argv(server: Server) -> str:
    return " ".join(server.command.argv)


def monitor(layout: Layout, targets: Sequence[prometheus.Target] = ()) -> Server:
    return prometheus.server("q", layout, None, port=7, targets=targets, alertmanager_port=9)


def test_every_listener_is_on_loopback(tmp_path: Path) -> None:
    layout = Layout(tmp_path)

    assert "-l 127.0.0.1 -p 7 -U 0" in argv(memcached.server("m", layout, None, port=7))
    assert "listen_addresses=127.0.0.1" in argv(postgres.server("p", layout, None, port=7, password="x"))
    assert "--web.listen-address=127.0.0.1:7" in argv(monitor(layout))
    assert "-port 7 -address 127.0.0.1" in argv(rabbitmq.epmd(layout, None, port=7))
    assert "listeners.tcp.1 = 127.0.0.1:7\n" in rabbitmq.render(NODE, tmp_path)
    assert "prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = 6\n" in rabbitmq.render(NODE, tmp_path)
    told = alertmanager.Receivers("127.0.0.1:25", "a@example.com", recovery_port=9, recovery_token="hunter2")
    teller = argv(alertmanager.server("a", layout, None, port=7, receivers=told))
    assert "--web.listen-address=127.0.0.1:7" in teller
    assert teller.endswith("--cluster.listen-address= --log.level=warn")
    exporter = postgres_exporter.server("e", layout, None, port=7, database_port=8, password="x")
    assert "--web.listen-address=127.0.0.1:7" in argv(exporter)


def test_etcd_is_given_every_url_so_that_it_takes_no_default_port(tmp_path: Path) -> None:
    members = [etcd.Member("etcd-1", 7, 8), etcd.Member("etcd-2", 5, 6)]
    flags = argv(etcd.server(members[0], Layout(tmp_path), None, cluster=members))

    assert 2 == flags.count("http://127.0.0.1:7")
    assert 3 == flags.count("http://127.0.0.1:8")
    assert "--initial-cluster=etcd-1=http://127.0.0.1:8,etcd-2=http://127.0.0.1:6" in flags
    assert "--grpc-keepalive-min-time=1s" in flags


MADE = "etcd-1=http://127.0.0.1:1,etcd-2=http://127.0.0.1:2"


@pytest.mark.parametrize(
    ("one", "two", "chosen"),
    [
        (Found("", -1), Found("", -1), None),  # the first start
        (Found(MADE, 7), Found(MADE, 9), None),  # every later one: the members settle by themselves who is behind
        (Found("", 7), Found("", -1), "etcd-1"),  # what an earlier release left: one member that is a cluster by itself
        (Found(MADE, -1), Found(MADE, 9), "etcd-2"),  # one has lost its data
        (Found("etcd-1=http://127.0.0.1:3", 7), Found("etcd-1=http://127.0.0.1:3", 9), "etcd-2"),  # other ports
        (Found(MADE, 5), Found("", 5), "etcd-1"),
    ],
)
def test_etcds_data_is_formed_anew_only_where_it_is_not_that_of_one_cluster(
    one: Found, two: Found, chosen: str | None
) -> None:
    assert chosen == source({"etcd-2": two, "etcd-1": one}, MADE)


def test_etcd_passwords_are_never_shown() -> None:
    user = etcd.User("weft", "hunter2", "/weft/")

    assert ("Passwords(...)", True) == (repr(etcd.Passwords("root", (user,))), "hunter2" not in repr(user))


def test_postgres_is_stopped_by_sigint_and_keeps_its_socket_at_home(tmp_path: Path) -> None:
    server = postgres.server("p", Layout(tmp_path), None, port=7, password="hunter2")

    assert "SIGINT" == server.stop_signal.name
    assert f"unix_socket_directories={tmp_path}" in argv(server)
    assert "hunter2" not in argv(server)


def test_postgres_is_not_started_beside_what_a_killed_one_has_left_of_its_process(folder: Path) -> None:
    layout = Layout(folder)
    layout.prepare(None)
    server = postgres.server("postgres-1", layout, None, port=21003, password="p")
    cluster = layout.home("postgres-1") / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("15")
    dead = subprocess.Popen(["true"])
    (cluster / "postmaster.pid").write_text(f"{dead.pid}\n{cluster}\n")
    eventually(lambda: procfs.start_time(dead.pid) is None)

    async def prepared() -> tuple[bool, bool]:
        assert server.prepare is not None
        preparing = asyncio.ensure_future(server.prepare())
        early, _ = await asyncio.wait({preparing}, timeout=0.2)
        dead.wait()
        await preparing
        return bool(early), (cluster / "postmaster.pid").exists()

    # By that file it finds what else the killed one has left, so it stays.
    assert (False, True) == asyncio.run(prepared())


def test_only_an_ephemeral_postgres_gives_up_durability(tmp_path: Path) -> None:
    layout = Layout(tmp_path)

    assert "fsync" not in argv(postgres.server("p", layout, None, port=7, password="x"))
    assert "fsync=off" in argv(postgres.server("p", layout, None, port=7, password="x", durable=False))


def test_the_broker_lets_a_worker_hold_its_deliveries_through_an_outage(tmp_path: Path) -> None:
    settings = dict(line.split(" = ") for line in rabbitmq.render(NODE, tmp_path).splitlines())

    # Twice a worker's own limit (`worker.runner.HOLD_S`, 600 s) and more: whoever reaches it hangs.
    assert 1_200_000 <= int(settings["consumer_timeout"])


def test_the_broker_knows_one_user_by_a_salted_hash_only() -> None:
    found = json.loads(rabbitmq.definitions("hunter2"))
    raw = base64.b64decode(found["users"][0]["password_hash"])

    assert ["weft"] == [user["name"] for user in found["users"]]
    assert hashlib.sha256(raw[:4] + b"hunter2").digest() == raw[4:]
    assert "hunter2" not in json.dumps(found)


def test_the_broker_shares_nothing_with_a_system_wide_one(tmp_path: Path) -> None:
    server = broker(NODE, tmp_path)
    env = server.command.env

    assert ("9", "8", "/nonexistent") == (
        env["ERL_EPMD_PORT"],
        env["RABBITMQ_DIST_PORT"],
        env["RABBITMQ_CONF_ENV_FILE"],
    )
    assert str(tmp_path) in env["HOME"]
    assert ("epmd",) == server.after


def test_prometheus_leaves_a_metric_the_labels_it_came_with(tmp_path: Path) -> None:
    # weft_endpoints{service="catalog"} is about the catalog, though a control plane exposes it.
    configured = prometheus.render(tmp_path, "127.0.0.1:9")["scrape_configs"]

    assert isinstance(configured, list)
    assert {True} == {job["honor_labels"] for job in configured}


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.run.mkdir()
    layout.slo.write_text("groups: []\n")
    targets = [
        prometheus.Target("orders-1", "orders", "service", 7),
        prometheus.Target("rabbitmq-1", "rabbitmq", "rabbitmq", 8, often=False),
    ]
    server = monitor(layout, targets)
    assert server.prepare is not None

    asyncio.run(server.prepare())

    home = layout.home("q")
    done = subprocess.run(["promtool", "check", "config", home / "prometheus.yml"], capture_output=True, text=True)
    assert 0 == done.returncode, done.stdout + done.stderr
    asked = [json.loads((home / name).read_text()) for name in ("targets.json", "targets-seldom.json")]
    assert [["127.0.0.1:7"], ["127.0.0.1:8"]] == [group["targets"] for (group,) in asked]


def test_every_target_has_one_job_however_often_it_is_asked(tmp_path: Path) -> None:
    configured = prometheus.render(tmp_path, "127.0.0.1:9")["scrape_configs"]

    assert isinstance(configured, list)
    assert [[{"target_label": "job", "replacement": "weft"}]] * 2 == [job["relabel_configs"] for job in configured]
    assert ["5s", "15s"] == [job["scrape_interval"] for job in configured]


def test_the_exporter_gets_its_password_by_a_file(tmp_path: Path) -> None:
    exporter = postgres_exporter.server("e", Layout(tmp_path), None, port=7, database_port=8, password="hunter2")
    assert exporter.prepare is not None

    asyncio.run(exporter.prepare())

    assert "hunter2" not in f"{exporter.command.argv} {exporter.command.env}"
    assert "hunter2" == Path(exporter.command.env["DATA_SOURCE_PASS_FILE"]).read_text()


def test_prometheus_scrapes_each_process_under_its_own_name() -> None:
    targets = [
        prometheus.Target("orders-1", "orders", "service", 7),
        prometheus.Target("gateway-1", "gateway", "gateway", 8, path="/stats/prometheus"),
    ]
    groups = prometheus.render_targets(targets)

    assert [["127.0.0.1:7"], ["127.0.0.1:8"]] == [group["targets"] for group in groups]
    assert {
        "instance": "gateway-1",
        "service": "gateway",
        "kind": "gateway",
        "__metrics_path__": "/stats/prometheus",
    } == groups[1]["labels"]


def test_prometheus_reads_targets_and_rules_from_its_own_directory(tmp_path: Path) -> None:
    text = json.dumps(prometheus.render(tmp_path, "127.0.0.1:9"))

    assert f"{tmp_path}/targets.json" in text
    assert f"{tmp_path}/targets-seldom.json" in text
    assert "127.0.0.1:9" in text
    assert f"{tmp_path}/rules/*.yml" in text


def test_a_sink_answers_on_its_http_port_first(tmp_path: Path) -> None:
    server = python.sink(
        "mail",
        "deploy.observability.mail",
        store=tmp_path / "mail.sqlite",
        listen={"WEFT_LISTEN_SMTP": 25, "WEFT_LISTEN_HTTP": 80},
        environ={"WEFT_LOG_LEVEL": "info"},
    )

    assert (80, 25) == server.ports
    assert "127.0.0.1:25" == server.command.env["WEFT_LISTEN_SMTP"]


def test_modules_run_with_the_supervisors_own_interpreter() -> None:
    command = python.command(("svc.orders", "serve"), {})

    assert isinstance(command, Command)
    assert ("-m", "svc.orders", "serve") == command.argv[1:]
