"""Members of etcd that a test may kill, freeze and start again on their data and their ports.

The supervisor would be too helpful: it starts again what a test has ended.
"""

import json
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from deploy.supervisor.account import Account
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Server
from deploy.supervisor.servers import etcd
from tests.waiting import eventually, free_port


class EtcdMember:
    """One process. Not started on creation."""

    def __init__(self, part: Server, account: Account | None) -> None:
        self._part = part
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._part.ports[0]}"

    def start(self) -> None:
        """Start it where it is not running; it is not waited for."""
        if self._process is None:
            command, account = self._part.command, self._account
            # Not by Popen itself: to change the user it would fork, and among gRPC's threads such a child may crash.
            switch = [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"] if account else []
            self._process = subprocess.Popen(
                ["setpriv", *switch, "--", *command.argv],
                env=dict(command.env),
                cwd=command.cwd,
                stderr=subprocess.DEVNULL,
            )

    def restart(self) -> None:
        """Start it where it is not running, and wait until it has a leader: before that, it only listens."""
        self.start()
        eventually(self.healthy)

    def kill(self) -> None:
        """End it with SIGKILL and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it with SIGTERM and wait until it is gone."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def freeze(self) -> None:
        """From now on it answers nobody, and its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/health", timeout=1) as answer:
                return bool(json.load(answer)["health"] == "true")
        except OSError:
            return False

    def leads(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=1) as answer:
                return b"\netcd_server_is_leader 1\n" in answer.read()
        except OSError:
            return False


class EtcdServer(EtcdMember):
    """A cluster of one, started on creation."""

    def __init__(self, folder: Path, account: Account | None) -> None:
        layout = layout_of(folder, account)
        member = etcd.Member("etcd-1", free_port(), free_port())
        layout.private(layout.home(member.name), account)
        super().__init__(etcd.server(member, layout, account, cluster=[member]), account)
        self.restart()


class EtcdCluster:
    """Three members, started on creation."""

    def __init__(self, folder: Path, account: Account | None) -> None:
        self._layout, self._account = layout_of(folder, account), account
        members = [etcd.Member(f"etcd-{number}", free_port(), free_port()) for number in (1, 2, 3)]
        self.members = [
            EtcdMember(etcd.server(member, self._layout, account, cluster=members), account) for member in members
        ]
        self._names = [member.name for member in members]
        for member in members:
            self._layout.private(self._layout.home(member.name), account)
        self.restart()

    @property
    def addresses(self) -> Sequence[str]:
        return [member.address for member in self.members]

    def restart(self) -> None:
        """Start what does not run, let go on what is frozen, and wait until all of them are well."""
        for member in self.members:
            member.thaw()
            member.start()
        eventually(lambda: all(member.healthy() for member in self.members))

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def wipe(self) -> None:
        """Kill all of them and start them without their data: another history, and maybe the same ports."""
        self.kill()
        for name in self._names:
            shutil.rmtree(etcd.data_dir(name, self._layout))
        self.restart()

    def leader(self) -> EtcdMember:
        """Who leads now."""
        eventually(lambda: any(member.leads() for member in self.members))
        return next(member for member in self.members if member.leads())


def layout_of(folder: Path, account: Account | None) -> Layout:
    """A data directory in a folder."""
    layout = Layout(folder)
    layout.prepare(account)
    return layout
