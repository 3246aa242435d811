"""Secrets of containers, what is prepared in the servers, and a gateway that lets its clients go before it ends."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import yaml
from sqlalchemy import create_engine, make_url

from deploy.cli.__main__ import run
from deploy.ship import export, preparing
from deploy.ship import secrets as keeping
from deploy.ship.errors import ShipError
from deploy.ship.workload import USER
from deploy.supervisor import certificate
from deploy.supervisor.certificate import Pair
from deploy.supervisor.config import PROJECT, child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.secrets import DATABASES
from deploy.supervisor.servers import etcd
from tests.waiting import eventually, free_port

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    folder.chmod(0o700)
    keeping.make("compose", folder, edge_name="shop.example", now=NOW)
    return folder


def pair(folder: Path, name: str) -> Pair:
    return Pair((folder / f"{name}.crt").read_text(), (folder / f"{name}.key").read_text())


def test_every_secret_that_compose_names_is_made(made: Path) -> None:
    said = yaml.safe_load(export.build("compose")["compose.yaml"])

    assert set() == {*said["secrets"]} - {path.name for path in made.iterdir()}
    assert {0o600} == {path.stat().st_mode & 0o777 for path in made.iterdir()}


def test_what_is_there_stays_when_they_are_made_again(made: Path) -> None:
    before = {path.name: path.read_text() for path in made.iterdir()}

    keeping.make("compose", made, edge_name="shop.example", now=NOW + timedelta(days=30))

    assert before == {path.name: path.read_text() for path in made.iterdir()}


def test_a_certificate_is_signed_anew_before_it_ends_and_for_another_name(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "kept")
    before = {name: pair(made, name) for name in ("authority", "database-node", "database-root", "edge")}

    keeping.make("compose", tmp_path / "kept", edge_name="other.example", now=NOW)
    assert before["edge"] != pair(tmp_path / "kept", "edge")
    assert before["database-node"] == pair(tmp_path / "kept", "database-node")

    keeping.make("compose", tmp_path / "kept", edge_name="other.example", now=NOW + timedelta(days=310))
    after = {name: pair(tmp_path / "kept", name) for name in before}
    assert before["authority"] == after["authority"]
    assert before["database-node"] != after["database-node"]
    assert all(certificate.signed_by(after[name], after["authority"]) for name in after)
    assert {"other.example", "localhost"} == {*certificate.names(after["edge"])}


def test_what_root_renews_stays_readable_for_the_user_of_containers(made: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    folder = tmp_path / "kept"
    shutil.copytree(made, folder)
    (folder / "amqp.url").unlink()
    (folder / "edge.key").chmod(0o400)
    for path in (folder, *folder.iterdir()):
        os.chown(path, USER, USER)
    before = pair(folder, "edge")

    keeping.make("compose", folder, edge_name="shop.example", now=NOW + timedelta(days=310))

    assert before != pair(folder, "edge")
    assert {(USER, USER)} == {(path.stat().st_uid, path.stat().st_gid) for path in (folder, *folder.iterdir())}
    assert [0o400, 0o600] == [(folder / name).stat().st_mode & 0o777 for name in ("edge.key", "amqp.url")]


def test_the_authority_signs_what_openssl_believes(made: Path) -> None:
    for name, purpose, host in (
        ("edge", "sslserver", "shop.example"),
        ("database-node", "sslserver", "cockroach-2"),
        ("database-node", "sslclient", ""),
        ("database-root", "sslclient", ""),
    ):
        command = ["openssl", "verify", "-purpose", purpose, "-CAfile", made / "authority.crt"]
        when = ["-attime", str(int(NOW.timestamp()))]
        named = ["-verify_hostname", host] if host else []
        done = subprocess.run([*command, *when, *named, made / f"{name}.crt"], capture_output=True, text=True)
        assert 0 == done.returncode, done.stdout + done.stderr


def test_parts_are_known_by_an_authority_of_their_own(made: Path) -> None:
    signer, orders = pair(made, "workload-authority"), pair(made, "identity-service-orders")
    planes = certificate.names(pair(made, "identity-control-plane-control-plane"))

    assert ("spiffe://weft/service/orders",) == certificate.uris(orders)
    assert certificate.signed_by(orders, signer)
    assert not certificate.signed_by(orders, pair(made, "authority"))
    assert {"control-plane-1", "control-plane-2"} < set(planes)
    said = yaml.safe_load(export.build("compose")["compose.yaml"])["services"]["orders-1"]
    mounted = {each["target"]: each["source"] for each in said["secrets"]}
    assert "identity-service-orders.key" == mounted["/etc/weft/identity/tls.key"]
    assert "workload-authority.crt" == mounted["/etc/weft/identity/ca.crt"]
    assert "/etc/weft/identity" == said["environment"]["WEFT_IDENTITY"]


def test_a_database_is_asked_for_at_every_node_and_has_to_prove_who_it_is(made: Path) -> None:
    url = make_url((made / "database-orders.url").read_text())
    engine = create_engine(url.set(drivername="cockroachdb+psycopg"))
    _, words = engine.dialect.create_connect_args(engine.url)

    assert "cockroach-1,cockroach-2,cockroach-3" == words["host"]
    assert "26257,26257,26257" == words["port"]
    assert ("verify-full", "/etc/weft/database/ca.crt") == (words["sslmode"], words["sslrootcert"])
    assert (made / "database-orders.password").read_text() == words["password"]


def test_for_kubernetes_pods_get_what_they_name_and_cert_manager_keeps_the_keys(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    wanted = keeping.make("kubernetes", folder, edge_name="shop.example", now=NOW)
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())

    assert [{"name": "weft-secrets", "files": wanted}] == said["secretGenerator"]
    assert all((folder / name).is_file() for name in wanted)
    assert not list(folder.glob("*.crt"))
    assert "cockroach-1.cockroach:26257" in (folder / "database-orders.url").read_text()
    named = {
        item["key"]
        for text in export.build("kubernetes").values()
        if "secretName: weft-secrets" in text
        for one in yaml.safe_load_all(text)
        for volume in one.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", ())
        if volume.get("secret", {}).get("secretName") == "weft-secrets"
        for item in volume["secret"]["items"]
    }
    assert {*wanted} == named


def test_passwords_reach_the_database_hashed_and_every_statement_may_be_said_again() -> None:
    said = [one.as_string(None) for one in preparing.statements("orders", "SCRAM-SHA-256$x")]

    assert all('"orders"' in one for one in said)
    assert "ALTER USER \"orders\" WITH PASSWORD 'SCRAM-SHA-256$x'" in said
    assert 2 == len([one for one in said if "IF NOT EXISTS" in one])


def test_roles_and_databases_are_made_twice_without_a_word(cockroach: str) -> None:
    url = make_url(cockroach).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        for _ in range(2):
            for name in DATABASES:
                for statement in preparing.statements(name, preparing.verifier(connection, name, "secret")):
                    connection.execute(statement)
        found = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}

    assert {*DATABASES} <= found


@pytest.fixture
def member(folder: Path) -> Iterator[str]:
    """One etcd, alone; where it is."""
    layout = Layout(folder)
    layout.prepare(None)
    one = etcd.Member("etcd-1", free_port(), free_port())
    server = etcd.server(one, layout, None, cluster=(one,))
    assert server.prepare is not None
    asyncio.run(server.prepare())
    with (
        (folder / "etcd.log").open("wb") as log,
        subprocess.Popen(
            server.command.argv, env=dict(server.command.env), cwd=server.command.cwd, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield f"127.0.0.1:{one.client_port}"
        finally:
            process.terminate()
            process.wait()


def test_the_registry_asks_for_passwords_from_then_on(member: str, made: Path) -> None:
    for _ in range(2):  # a job that is run again changes nothing
        preparing.registry([member], made)

    password = (made / "etcd.password").read_text()
    user = etcd.User(etcd.USER, password, etcd.PREFIX)
    wrong = etcd.Passwords(root="wrong", users=(user,))
    with pytest.raises(etcd.EtcdError, match="authentication failed"):
        asyncio.run(etcd.enable_authentication([member], wrong))


def test_a_registry_that_does_not_answer_is_named_in_one_line(made: Path) -> None:
    with pytest.raises(ShipError, match="no answer in 0 s"):
        preparing.registry([f"127.0.0.1:{free_port()}"], made, wait_s=0)


def test_a_secret_that_is_missing_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ShipError, match=r"etcd\.password: .*`weft export secrets` makes it"):
        preparing.registry(["127.0.0.1:1"], tmp_path)


def test_a_gateway_is_asked_to_end_and_lets_its_clients_go_first(folder: Path, made: Path) -> None:
    port = free_port()
    arguments = (
        *("--node", "gateway-1", "--xds", f"127.0.0.1:{free_port()}", "--metrics-port", str(port)),
        *("--tls-cert", str(made / "edge.crt"), "--tls-key", str(made / "edge.key")),
        *("--tls-secret", str(folder / "edge.json"), "--admin-socket", str(folder / "admin.sock")),
        *("--out", str(folder / "gateway.pb")),
    )
    with (
        (folder / "gateway.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "deploy.ship", "gateway", *arguments],
            cwd=PROJECT,
            env=child_environ(),
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            eventually(lambda: (folder / "admin.sock").exists())
            process.send_signal(signal.SIGTERM)
            assert 0 == process.wait(60), (folder / "gateway.log").read_text()
        finally:
            process.kill()
    assert "not_drained" not in (folder / "gateway.log").read_text()


def test_a_gateway_without_a_certificate_says_so_and_does_not_start(folder: Path) -> None:
    arguments = ("--node", "gateway-1", "--xds", "127.0.0.1:1", "--metrics-port", "1", "--tls-cert", "missing.crt")
    more = ("--tls-key", "missing.key", "--tls-secret", "x", "--admin-socket", "y", "--out", str(folder / "z.pb"))
    done = subprocess.run(
        [sys.executable, "-m", "deploy.ship", "gateway", *arguments, *more],
        cwd=PROJECT,
        env=child_environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 2 == done.returncode
    assert "missing.crt" in done.stderr


def test_a_directory_of_something_else_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    assert 2 == run(["export", "compose", "--out", str(tmp_path)])
    assert "was not written by this command" in capsys.readouterr().err
    assert ["mine.txt"] == [path.name for path in tmp_path.iterdir()]


def test_what_is_stale_is_named_and_written_again_and_what_is_the_user_s_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "compose"
    assert 0 == run(["export", "compose", "--out", str(out)])
    (out / "secrets").mkdir()
    (out / "secrets" / "cache.key").write_text("kept")
    (out / "prometheus" / "old.json").write_text("{}")
    (out / "compose.yaml").write_text("name: other\n")

    capsys.readouterr()
    assert 1 == run(["export", "compose", "--out", str(out), "--check"])
    assert "2 files are not what they should be" in capsys.readouterr().err
    (out / "compose.yaml").write_text("x")
    assert 0 == run(["export", "compose", "--out", str(out), "--json"])
    assert ["compose.yaml", "prometheus/old.json"] == json.loads(capsys.readouterr().out)["changed"]
    assert "kept" == (out / "secrets" / "cache.key").read_text()
