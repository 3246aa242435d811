"""The command line: one clear line on standard error for a wrong argument, and the status object others rely on."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.cli import mesh
from deploy.cli.__main__ import run
from deploy.supervisor import messages
from deploy.supervisor.config import Settings
from deploy.supervisor.edge_certificate import EdgeCertificate
from deploy.supervisor.layout import Layout
from deploy.supervisor.messages import Event, Process, Size, Status

STATUS = Status(
    gateway="http://127.0.0.1:8080",
    urls={"console": None, "traces": "http://127.0.0.1:1/"},
    processes=(
        Process("orders-1", "service", "orders", 7, "127.0.0.1:2", "ready", 0, "2026-01-01T00:00:00.000Z", "member"),
        Process("relay-1", "worker", "relay", None, "127.0.0.1:3", "down", 3, "2026-01-01T00:00:00.000Z", "member"),
    ),
)


@pytest.fixture(autouse=True)
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory on which nothing runs."""
    monkeypatch.setenv("WEFT_DATA", str(folder))
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["bogus"], 2, "No such command"),
        (["up", "--frob"], 2, "--frob"),
        (["kill"], 2, "Missing argument"),
        (["kill", "orders-1", "--signal", "LOUD"], 2, "LOUD is not a signal"),
        (["kill", "orders-1", "--signal", "99"], 2, "99 is not a signal"),
        (["logs", "ghost"], 2, "ghost"),
        (["logs", "-n", "-1"], 2, "-n"),
        (["explain"], 2, "Missing argument"),
        (["explain", "PlaceOrder"], 2, "'PlaceOrder' is not a trace id"),
        (["explain", "0" * 32], 3, "no mesh runs here"),
        (["explain", "--as", "orders.fly", "PlaceOrder"], 2, "no contract names the scope 'orders.fly'; known are"),
        (["explain", "--as", "", "Nothing"], 2, "no contract has a method 'Nothing'"),
        (["dlq", "list"], 3, "no mesh was ever started here"),
        (
            ["dlq", "list", "--queue", "post"],
            2,
            "there is no worker 'post' with dead letters; there are analytics, archive, audit",
        ),
        (["dlq", "list", "--limit", "0"], 2, "--limit"),
        (["dlq", "show"], 2, "Missing argument"),
        (["dlq", "rehearse"], 2, "Missing argument"),
        (["dlq", "rehearse", "post"], 2, "WORKER: there is no worker 'post' with dead letters; there are analytics"),
        (["dlq", "rehearse", "email"], 3, "no mesh was ever started here"),
        (["dlq", "replay"], 2, "say which: IDs, --reason, --type, or --all"),
        (["dlq", "replay", "--all", "--reason", "mail"], 2, "--all is every one"),
        (["audit", "verify"], 3, "no mesh was ever started here"),
        (["audit", "verify", "--noted", "7"], 2, "--noted: '7' is not SEQUENCE:HASH"),
        (["proxies"], 3, "no mesh runs here"),
        (["proxies", "--json", "--watch"], 2, "--watch shows a table"),
        (["status"], 3, "no mesh runs here"),
        (["status", "--json"], 3, "no mesh runs here"),
        (["kill", "any"], 3, "no mesh runs here"),
        (["scale", "orders", "3"], 3, "no mesh runs here"),
        (["scale", "orders"], 2, "Missing argument"),
        (["scale", "orders", "33"], 2, "33 is no size; give 0 to 32, `auto`, or bounds such as 2-6"),
        (["scale", "orders", "many"], 2, "many is no size"),
        (["scale", "orders", "2-"], 2, "2- is no size"),
        (["scale", "orders", "6-2"], 2, "6-2 is no range"),
        (["scale", "orders", "0-2"], 2, "0-2 is no range"),
        (["scale", "orders", "2-6"], 3, "no mesh runs here"),
        (["scale", "orders", "auto"], 3, "no mesh runs here"),
        (["restart"], 2, "Missing argument"),
        (["restart", "orders-1"], 3, "no mesh runs here"),
        (["scale", "memcached", "3"], 2, "memcached cannot be resized while the mesh runs; analytics, "),
        (["certificates", "bogus"], 2, "No such command"),
        (["certificates", "show"], 3, "no mesh was started in"),
        (["certificates", "renew", "--json"], 3, "no mesh runs here"),
        (["certificates", "renew", "--workloads"], 3, "no mesh runs here"),
        (["contracts", "bogus"], 2, "No such command"),
        (["contracts", "publish"], 3, "no mesh runs here"),
        (["contracts", "publish", "--timeout", "0"], 2, "--timeout"),
        (["contracts", "rollback", "--wait"], 3, "no mesh runs here"),
        (["contracts", "plan", "--descriptors", "/none"], 2, "/none"),
        (["contracts", "plan", "--against", "running"], 3, "no mesh runs here"),
        (["contracts", "plan", "--against", "no-such-commit"], 2, "neither a descriptor set nor a commit"),
        (["contracts", "check", "--against", "--output=x"], 2, "neither a descriptor set nor a commit"),
        (["keys", "bogus"], 2, "No such command"),
        (["keys", "list"], 3, "no mesh runs here"),
        (["keys", "rotate", "--wait"], 3, "no mesh runs here"),
        (["keys", "revoke"], 2, "Missing argument"),
        (["keys", "revoke", "../x"], 2, "'../x' is not the id of a key; `weft keys list` shows them"),
        (["keys", "revoke", "k" * 43], 3, "no mesh runs here"),
    ],
)
def test_what_is_wrong_is_one_line_on_standard_error(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code == run(arguments)
    said = capsys.readouterr()

    assert "" == said.out
    assert message in said.err
    assert (1, True) == (said.err.count("\n"), said.err.startswith("weft: "))


def test_a_misspelt_setting_is_exit_two(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WEFT_GATEWAY_PROT", "1")

    assert 2 == run(["up"])
    assert "did you mean WEFT_GATEWAY_PORT" in capsys.readouterr().err


def test_a_certificate_that_will_not_do_is_exit_two_and_nothing_starts(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEFT_TLS_CERT", str(data / "none.crt"))
    monkeypatch.setenv("WEFT_TLS_KEY", str(data / "none.key"))

    assert 2 == run(["up"])
    said = capsys.readouterr()
    reason = "cannot be read: No such file or directory; name a PEM file"
    assert ("", f"weft: WEFT_TLS_CERT={data / 'none.crt'} {reason}\n") == (said.out, said.err)
    assert [] == [*data.iterdir()]


def test_a_certificate_is_shown_with_what_to_trust(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(data / "mesh")
    layout.prepare(None)
    kept = EdgeCertificate(layout, None)
    kept.ensure(now=datetime.now(UTC))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEFT_DATA", str(layout.root))

        assert 0 == run(["certificates", "show", "--json"])
        found = json.loads(capsys.readouterr().out)
        assert (["localhost"], str(layout.authority)) == (found["names"], found["authority"])
        assert kept.expires().isoformat() == found["expires"]
        assert 0 == run(["certificates", "show"])
        assert f"authority    {layout.authority}" in capsys.readouterr().out


def test_places_say_what_to_trust(folder: Path) -> None:
    own = Settings(data=folder, tls_certificate=Path("/a.crt"), tls_key=Path("/a.key"))

    assert f"https://localhost:8443   curl --cacert {folder / 'ca.crt'}" in mesh.places(STATUS, Settings(data=folder))
    assert "certificate /a.crt" in mesh.places(STATUS, own)


def test_down_without_a_mesh_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run(["down"])
    assert "nothing runs\n" == capsys.readouterr().out


def test_logs_of_a_service_are_those_of_its_instances(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "log").mkdir()
    for name in ("orders-1", "orders-2", "analytics-1", "analytics-worker-1"):
        (data / "log" / f"{name}.log").write_text(f"line of {name}\n")

    assert 0 == run(["logs", "orders"])
    assert ["orders-1", "orders-2"] == [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert 0 == run(["logs", "analytics"])
    assert "line of analytics-1\n" == capsys.readouterr().out


def test_the_status_object_has_the_promised_shape() -> None:
    found = json.loads(STATUS.to_json())

    assert {"gateway", "urls", "processes", "supervisor", "sizes", "rolling"} == set(found)
    promised = ["name", "kind", "service", "pid", "address", "state", "restarts", "since", "role"]
    assert [*promised, "quarantined", "reason", "log"] == list(found["processes"][0])


def test_a_status_survives_the_socket() -> None:
    assert STATUS == messages.status_of(messages.decode(STATUS.to_json().encode()))


def test_an_event_survives_the_socket() -> None:
    event = Event("failed", part="orders-1", detail="exited", log=("one", "two"))

    assert event == messages.event_of(messages.decode(messages.encode_event(event)))


def test_a_mesh_is_ready_when_all_of_it_is() -> None:
    assert not STATUS.ready
    assert Status(STATUS.gateway, {}, STATUS.processes[:1]).ready


def test_places_leave_out_what_there_is_not(folder: Path) -> None:
    shown = mesh.places(STATUS, Settings(data=folder))

    assert "console" not in shown
    assert "http://127.0.0.1:1/" in shown


def test_the_table_is_cut_nowhere_and_coloured_only_for_people() -> None:
    plain, coloured = mesh._table(STATUS, colour=False), mesh._table(STATUS, colour=True)

    assert ["relay-1", "worker", "down", "-", "127.0.0.1:3", "3", "2026-01-01T00:00:00Z"] == plain.splitlines()[
        2
    ].split()
    assert (False, True) == ("\x1b" in plain, "\x1b" in coloured)


def test_each_part_is_one_line_with_its_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    for event in (
        Event("part", part="zipkin", state="starting", detail="fetching it once"),
        Event("part", part="etcd-1", state="starting"),
        Event("part", part="etcd-1", state="ready", seconds=0.31),
        Event("part", part="orders-1", state="down", detail="exited early with exit code 1"),
        Event("up"),
    ):
        mesh.show_event(event)
    lines = capsys.readouterr().out.splitlines()

    assert ["zipkin", "fetching", "it", "once"] == lines[0].split()
    assert ["etcd-1", "ready", "0.3", "s"] == lines[1].split()
    assert lines[2].endswith("exited early with exit code 1; starting it again")
    assert 3 == len(lines)


def test_what_is_in_quarantine_says_why_and_what_to_do() -> None:
    lost = replace(STATUS.processes[1], quarantined=True, reason="exited early with exit code 2", log=("no database",))
    found = replace(STATUS, processes=(STATUS.processes[0], lost))

    assert "quarantined" in mesh._table(found, colour=False).splitlines()[2]
    assert [
        "relay-1 died again and again, last: exited early with exit code 2.",
        "  relay-1 | no database",
        "  It is tried once a minute, and now with `weft restart relay-1`.",
    ] == mesh._quarantine(found)
    assert [] == mesh._quarantine(STATUS)


def test_what_is_sized_by_its_load_is_shown_with_its_bounds() -> None:
    sizes = {"orders": Size(3, auto="2-4", load=1.9), "gateway": Size(2)}

    assert ["sized by load: orders 3 of 2-4"] == mesh._sizes(replace(STATUS, sizes=sizes))
    assert [] == mesh._sizes(STATUS)


def test_sizes_survive_the_socket() -> None:
    status = replace(STATUS, supervisor=7, sizes={"orders": Size(3, auto="2-4", load=1.9)})

    assert status == messages.status_of(messages.decode(status.to_json().encode()))
