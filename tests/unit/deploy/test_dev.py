"""`weft dev` beside a supervisor that this test speaks for: who is renewed, in which order, and what stops it."""

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from deploy.cli import contracts, dev, saves
from deploy.cli.dev import Following
from deploy.cli.scaffold import files
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.messages import Killed, Process, Publishing, Status

FOREVER_S = 60.0


def process(name: str) -> Process:
    return Process(
        name, "service", name.rpartition("-")[0], 1, "127.0.0.1:1", state="ready", restarts=0, since="", role=""
    )


@dataclass
class FakeMesh:
    """Renews what it is asked to, at once; what `breaks` names does not come up again."""

    processes: dict[str, Process]
    breaks: set[str] = field(default_factory=set)
    unready: bool = False
    renewed: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, *names: str, breaks: str = "") -> "FakeMesh":
        return cls({name: process(name) for name in names}, {breaks} if breaks else set())

    def status(self) -> Status:
        return Status("", {}, tuple(self.processes.values()), 1, {})

    def restart(self, name: str) -> Killed:
        before = self.processes[name]
        if name in self.breaks:
            self.processes[name] = replace(before, restarts=before.restarts + 1, state="down", reason="exited with 1")
            self.ended.wait(FOREVER_S)
            raise RefusedError(f"{name} is not ready again")
        self.processes[name] = replace(before, restarts=before.restarts + 1, state="ready")
        self.renewed.append(name)
        return Killed(name, 1)

    def log_tail(self, name: str, lines: int) -> tuple[str, ...]:
        return (f"NameError in {name}",)

    def publishing(self) -> Publishing:
        return Publishing((), {})


def test_each_instance_of_what_was_saved_is_renewed_one_after_another(capsys: pytest.CaptureFixture[str]) -> None:
    mesh = FakeMesh.of("catalog-1", "catalog-2", "orders-1")

    assert Following(mesh).follow(["svc/catalog/rpc.py"])

    assert ["catalog-1", "catalog-2"] == mesh.renewed
    lines = capsys.readouterr().out.splitlines()
    assert ["svc/catalog/rpc.py", "renewed", "renewed", "done"] == [
        word for line in lines for word in line.split() if word in ("svc/catalog/rpc.py", "renewed", "done")
    ]


def test_one_that_does_not_come_up_is_shown_with_its_last_words_and_the_others_stay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mesh = FakeMesh.of("catalog-1", "catalog-2", breaks="catalog-1")

    assert not Following(mesh).follow(["svc/catalog/rpc.py"])
    mesh.ended.set()

    assert [] == mesh.renewed
    said = capsys.readouterr().err
    assert "weft: catalog-1 does not come up: exited with 1; the others go on as they were" in said
    assert "catalog-1 | NameError in catalog-1" in said
    assert "the mesh goes on with what it has" in said


def test_a_save_after_a_failure_tries_the_one_that_is_down_again(capsys: pytest.CaptureFixture[str]) -> None:
    mesh = FakeMesh.of("catalog-1", "catalog-2", breaks="catalog-1")
    following = Following(mesh)
    following.follow(["svc/catalog/rpc.py"])
    mesh.ended.set()
    mesh.breaks.clear()

    assert following.follow(["svc/catalog/rpc.py"])

    assert ["catalog-1", "catalog-2"] == mesh.renewed


def test_what_did_not_work_is_done_with_the_next_save_and_only_then(capsys: pytest.CaptureFixture[str]) -> None:
    mesh = FakeMesh.of("catalog-1", "orders-1", breaks="catalog-1")
    following = Following(mesh)
    following.follow(["svc/catalog/rpc.py"])
    mesh.ended.set()
    mesh.breaks.clear()

    assert following.follow(["svc/orders/model.py"])
    assert following.follow(["svc/orders/model.py"])

    assert ["catalog-1", "orders-1", "orders-1"] == mesh.renewed


def test_what_means_nothing_to_a_mesh_is_passed_by_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    mesh = FakeMesh.of("catalog-1")

    assert Following(mesh).follow(["svc/contract_tests/mock.py", "tests/waiting.py"])

    assert ([], "") == (mesh.renewed, capsys.readouterr().out)


def test_a_manifest_is_nothing_that_a_running_mesh_can_follow(capsys: pytest.CaptureFixture[str]) -> None:
    mesh = FakeMesh.of("catalog-1")

    assert Following(mesh).follow(["svc/catalog/service.toml"])

    assert [] == mesh.renewed
    assert "`weft down`, then `weft up`" in capsys.readouterr().out


def test_a_new_service_waits_for_the_next_start_and_nothing_of_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "svc" / "parcels").mkdir(parents=True)
    (tmp_path / "svc" / "parcels" / "service.toml").write_text("instances = 2\n")
    monkeypatch.setattr(dev, "PROJECT", tmp_path)
    monkeypatch.setattr(files, "generate", lambda _: pytest.fail("two would generate at once"))
    mesh = FakeMesh.of("catalog-1", "relay-1")

    saved = ["protos/weft/parcels/v1/parcels.proto", "svc/parcels/service.toml", "worker/handlers/parcels/handler.py"]
    assert Following(mesh).follow(saved)

    assert [] == mesh.renewed
    assert 1 == capsys.readouterr().out.count("`weft down`, then `weft up`")


def test_what_is_published_leaves_out_who_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[set[str]] = []

    def send(_publishing: Publishing, built: Path, _folder: Path) -> dict[str, Any]:
        sent.append({file.package for file in FileDescriptorSet.FromString(built.read_bytes()).file if file.service})
        return {"changed": True, "manifest": "m"}

    monkeypatch.setattr(contracts, "send", send)
    mesh = FakeMesh.of("catalog-1", "orders-1", "identity-1", "operations-1")

    assert Following(mesh).follow(["gateway/plan.py"])

    assert [{f"weft.{name}.v1" for name in ("catalog", "orders", "identity", "operations")}] == sent


def test_whoever_was_told_that_it_watches_misses_no_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "PROJECT", tmp_path)
    for folder in saves.WATCHED:
        (tmp_path / folder).mkdir(parents=True)
    told = dev.watched()

    first = next(told)
    (tmp_path / "svc" / "model.py").write_text("VALUE = 1\n")
    later = next(changed for changed in told if changed)

    assert (set(), {"svc/model.py"}) == (first, later)
