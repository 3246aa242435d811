"""One etcd that a test may kill and start again on its data and its ports; the supervisor would be too helpful."""

import json
import subprocess
import urllib.request
from pathlib import Path

from deploy.supervisor.account import Account
from deploy.supervisor.layout import Layout
from deploy.supervisor.servers import etcd
from tests.waiting import eventually, free_port


class EtcdServer:
    """Started on creation."""

    def __init__(self, folder: Path, account: Account | None) -> None:
        self._client_port, self._peer_port = free_port(), free_port()
        layout = Layout(folder)
        layout.prepare(account)
        layout.private(layout.home("etcd-1"), account)
        self._part = etcd.server("etcd-1", layout, account, client_port=self._client_port, peer_port=self._peer_port)
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None
        self.restart()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._client_port}"

    def kill(self) -> None:
        """End it with SIGKILL and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Start it where it is not running, and wait until it is its own leader: before that, it only listens."""
        if self._process is None:
            command = self._part.command
            account = self._account
            self._process = subprocess.Popen(
                command.argv,
                env=dict(command.env),
                cwd=command.cwd,
                stderr=subprocess.DEVNULL,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
            eventually(self._healthy)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/health", timeout=1) as answer:
                return bool(json.load(answer)["health"] == "true")
        except OSError:
            return False
