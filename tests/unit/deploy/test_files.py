"""What the supervisor keeps on disk: layout, secrets, log files, record of processes."""

import asyncio
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.supervisor import logfile, procfs
from deploy.supervisor.account import Account
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.layout import MARKER, Layout
from deploy.supervisor.orphans import stop_strays
from deploy.supervisor.record import Entry, Record
from deploy.supervisor.secrets import DATABASES, Secrets
from tests.waiting import eventually


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestLayout:
    def test_preparing_twice_is_preparing_once(self, folder: Path) -> None:
        layout = Layout(folder / "data")
        layout.prepare(None)
        layout.prepare(None)

        assert (0o711, 0o700, 0o700) == (mode(layout.root), mode(layout.secrets), mode(layout.log))

    def test_a_directory_of_somebody_else_is_refused_and_left_alone(self, folder: Path) -> None:
        (folder / "thesis.txt").touch()

        with pytest.raises(ConfigError, match="not Weft's"):
            Layout(folder).prepare(None)
        assert ["thesis.txt"] == os.listdir(folder)

    def test_a_directory_without_the_marker_is_never_removed(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match=MARKER):
            Layout(folder).remove()
        assert folder.exists()

    def test_our_own_directory_is_removed_whole(self, folder: Path) -> None:
        layout = Layout(folder / "data")
        layout.prepare(None)

        assert (True, False) == (layout.remove(), layout.remove())

    def test_a_place_the_server_account_cannot_reach_is_refused_before_anything_is_made(self, folder: Path) -> None:
        closed = folder / "closed"
        closed.mkdir(mode=0o700)
        stranger = Account("stranger", os.geteuid() + 54321, os.getegid() + 54321)

        with pytest.raises(ConfigError, match="user stranger cannot enter"):
            Layout(closed / "data").prepare(stranger)
        assert [] == os.listdir(closed)

    def test_a_path_too_long_for_a_socket_is_refused(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match="too long"):
            Layout(folder / ("x" * 100)).prepare(None)


class TestSecrets:
    def test_a_password_is_made_once(self, tmp_path: Path) -> None:
        made = Secrets(tmp_path).password("operator")

        assert made == Secrets(tmp_path).password("operator")
        assert len(made) >= 32

    def test_every_file_is_ours_alone(self, tmp_path: Path) -> None:
        secrets = Secrets(tmp_path)
        secrets.make_application_secrets()
        secrets.write_database_urls([5432])
        secrets.write_amqp_url([5672])

        assert {0o600} == {mode(path) for path in tmp_path.iterdir()}

    def test_everything_that_processes_read_is_there(self, tmp_path: Path) -> None:
        secrets = Secrets(tmp_path)
        secrets.make_application_secrets()
        secrets.write_database_urls([5432])
        secrets.write_amqp_url([5672])
        expected = {f"database-{name}.url" for name in DATABASES}
        expected |= {"amqp.url", "etcd.password", "cache.key", "seal.key", "operator.password", "operator.email"}

        assert expected <= set(os.listdir(tmp_path))

    def test_keys_are_thirty_two_random_bytes_in_hex(self, tmp_path: Path) -> None:
        Secrets(tmp_path).make_application_secrets()
        keys = [bytes.fromhex((tmp_path / name).read_text()) for name in ("cache.key", "seal.key")]

        assert [32, 32] == [len(key) for key in keys]
        assert keys[0] != keys[1]

    def test_a_new_port_changes_the_url_and_not_the_password(self, tmp_path: Path) -> None:
        secrets = Secrets(tmp_path)

        assert secrets.database_url("orders", [1]).replace(":1/", ":2/") == secrets.database_url("orders", [2])

    def test_a_secret_others_may_read_is_refused_with_the_fix(self, tmp_path: Path) -> None:
        Secrets(tmp_path).password("operator")
        (tmp_path / "operator.password").chmod(0o644)

        with pytest.raises(ConfigError, match="chmod 600"):
            Secrets(tmp_path)

    def test_an_empty_secret_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "operator.password").touch(mode=0o600)

        with pytest.raises(ConfigError, match="is empty"):
            Secrets(tmp_path).password("operator")


class TestLogfile:
    def test_the_tail_is_the_last_lines_since_a_position(self, tmp_path: Path) -> None:
        path = tmp_path / "x.log"
        path.write_text("old\n")
        since = logfile.size(path)
        with path.open("a") as file:
            file.write("one\ntwo\nthree\n")

        assert ("two", "three") == logfile.tail(path, 2, since=since)
        assert ("one", "two", "three") == logfile.tail(path, 9, since=since)

    def test_a_log_that_is_not_there_has_no_lines(self, tmp_path: Path) -> None:
        assert () == logfile.tail(tmp_path / "x.log", 5)

    def test_a_writer_goes_on_after_its_log_was_rotated(self, tmp_path: Path) -> None:
        path = tmp_path / "x.log"
        descriptor = logfile.open_for_append(path)
        try:
            os.write(descriptor, b"before\n")
            rotated = logfile.rotate(path, size_max=3)
            os.write(descriptor, b"after\n")
        finally:
            os.close(descriptor)

        assert rotated
        assert ("before\n", "after\n") == ((tmp_path / "x.log.1").read_text(), path.read_text())

    def test_a_small_log_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "x.log").write_text("few")

        assert not logfile.rotate(tmp_path / "x.log", size_max=3)

    def test_following_gives_whole_lines_only(self, tmp_path: Path) -> None:
        path = tmp_path / "x.log"
        path.write_text("seen\nnew\nhal")
        lines = logfile.follow({path: 5})

        assert (path, "new") == next(lines)
        with path.open("a") as file:
            file.write("f\n")
        assert (path, "half") == next(lines)


class TestRecord:
    def entry(self, pid: int, start_time: int) -> Entry:
        return Entry(
            name="orders-1",
            pid=pid,
            start_time=start_time,
            digest="d",
            ports=(21000,),
            starts=1,
            since="2026-01-01T00:00:00+00:00",
            stop_rank=1,
            stop_signal=15,
            grace_s=1.0,
        )

    def test_a_process_that_outlived_its_supervisor_is_a_survivor(self, tmp_path: Path) -> None:
        own = procfs.start_time(os.getpid())
        assert own is not None
        Record(tmp_path / "p.json").put(self.entry(os.getpid(), own))

        assert ["orders-1"] == [entry.name for entry in Record(tmp_path / "p.json").survivors()]

    def test_our_own_children_are_no_survivors(self, tmp_path: Path) -> None:
        own = procfs.start_time(os.getpid())
        assert own is not None
        record = Record(tmp_path / "p.json")
        record.put(self.entry(os.getpid(), own))

        assert () == record.survivors()

    def test_a_pid_that_was_used_again_is_left_alone(self, tmp_path: Path) -> None:
        own = procfs.start_time(os.getpid())
        assert own is not None
        Record(tmp_path / "p.json").put(self.entry(os.getpid(), own - 1))

        assert () == Record(tmp_path / "p.json").survivors()

    def test_a_process_that_ended_is_no_survivor(self, tmp_path: Path) -> None:
        child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
        start = procfs.start_time(child.pid)
        assert start is not None
        Record(tmp_path / "p.json").put(self.entry(child.pid, start))
        child.communicate()

        assert () == Record(tmp_path / "p.json").survivors()

    def test_a_record_from_before_the_last_boot_is_void(self, tmp_path: Path) -> None:
        path = tmp_path / "p.json"
        own = procfs.start_time(os.getpid())
        assert own is not None
        Record(path).put(self.entry(os.getpid(), own))
        path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "another"}))

        assert () == Record(path).survivors()

    def test_what_a_successor_has_not_taken_over_yet_stays_on_record(self, tmp_path: Path) -> None:
        own = procfs.start_time(os.getpid())
        assert own is not None
        first = Record(tmp_path / "p.json")
        first.put(self.entry(os.getpid(), own))
        first.put(replace(self.entry(os.getpid(), own), name="orders-2"))

        second = Record(tmp_path / "p.json")
        second.put(self.entry(os.getpid(), own))

        assert ["orders-2"] == [entry.name for entry in second.survivors()]
        assert ["orders-1", "orders-2"] == [entry.name for entry in Record(tmp_path / "p.json").survivors()]

    def test_tasks_are_done_for_as_long_as_anything_of_the_mesh_runs(self, tmp_path: Path) -> None:
        own = procfs.start_time(os.getpid())
        assert own is not None
        record = Record(tmp_path / "p.json")
        record.put(self.entry(os.getpid(), own))
        record.finish("migrate", "d1")
        record.mark_up()

        again = Record(tmp_path / "p.json")
        assert (True, False, True) == (again.finished("migrate", "d1"), again.finished("migrate", "d2"), again.up)
        again.remove("orders-1")
        after = Record(tmp_path / "p.json")
        assert (False, False) == (after.finished("migrate", "d1"), after.up)

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"boot": 1, "processes": [1]}', '{"processes": []}'])
    def test_a_record_that_cannot_be_read_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "p.json").write_text(text)

        assert () == Record(tmp_path / "p.json").survivors()

    def test_a_disk_that_is_full_ends_nothing(self, tmp_path: Path) -> None:
        own = procfs.start_time(os.getpid())
        assert own is not None
        record = Record(tmp_path / "gone" / "p.json")
        record.put(self.entry(os.getpid(), own))

        assert {"orders-1"} == record.names()

    def test_what_was_removed_is_forgotten(self, tmp_path: Path) -> None:
        own = procfs.start_time(os.getpid())
        assert own is not None
        record = Record(tmp_path / "p.json")
        record.put(self.entry(os.getpid(), own))
        record.remove("orders-1")

        assert () == Record(tmp_path / "p.json").survivors()


FAMILY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, file=sys.stderr, flush=True)
child.wait()
"""


class TestStrays:
    def test_what_a_known_process_started_is_no_stray_and_what_nobody_knows_is(self, folder: Path) -> None:
        layout = Layout(folder)
        layout.prepare(None)
        log = layout.log_of("server-1")
        output = logfile.open_for_append(log)
        try:
            parent = subprocess.Popen(
                (sys.executable, "-S", "-c", FAMILY), stdout=output, stderr=output, start_new_session=True
            )
        finally:
            os.close(output)
        eventually(lambda: log.read_text().strip())
        child, start = int(log.read_text()), procfs.start_time(parent.pid)
        assert start is not None
        record = Record(layout.processes)
        record.put(replace(TestRecord().entry(parent.pid, start), name="server-1"))

        assert () == asyncio.run(stop_strays(layout, record))
        assert None not in {procfs.start_time(pid) for pid in (parent.pid, child)}

        record.remove("server-1")
        assert {"server-1"} == set(asyncio.run(stop_strays(layout, record)))
        parent.wait(30)
        eventually(lambda: procfs.start_time(child) is None)
