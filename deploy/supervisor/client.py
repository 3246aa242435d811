"""The other end of the daemon's socket: blocking, for the `weft` command and for tests."""

import contextlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.supervisor import messages
from deploy.supervisor.autoscale import Bounds
from deploy.supervisor.errors import NotRunningError, RefusedError
from deploy.supervisor.lane import LaneSpec
from deploy.supervisor.messages import Certificate, Event, Killed, Publishing, Scaled, Status

ANSWER_TIMEOUT_S = 300.0
"""Longer than what can be asked for takes: a restart, or so many instances more."""


class Client:
    """Talks to the daemon behind one socket. Every method raises NotRunningError when there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def running(self) -> bool:
        """Whether a daemon answers."""
        try:
            with self._connect(1.0):
                return True
        except NotRunningError:
            return False

    def status(self) -> Status:
        """What runs now. Raises RefusedError while the daemon is still reading its desired state."""
        return messages.status_of(self._ask({"op": "status"})["status"])

    def publishing(self) -> Publishing:
        """How contracts are compiled and published for this mesh. Raises RefusedError."""
        return messages.publishing_of(self._ask({"op": "publishing"})["publishing"])

    def renew_certificate(self, *, workloads: bool = False) -> Certificate:
        """Have the gateways show a new certificate now; `workloads`: all parts, each other. Raises RefusedError."""
        request = {"op": "renew-certificate", "workloads": workloads}
        return messages.certificate_of(self._ask(request)["certificate"])

    def kill(self, name: str, number: int) -> Killed:
        """Send a signal to a process. Raises RefusedError."""
        answer = self._ask({"op": "kill", "name": name, "signal": number})
        return Killed(answer["name"], answer["pid"])

    def restart(self, name: str) -> Killed:
        """Stop one process politely and wait for its successor. Raises RefusedError."""
        answer = self._ask({"op": "restart", "name": name})
        return Killed(answer["name"], answer["pid"])

    def scale(self, service: str, size: int, *, for_now: bool = False) -> Scaled:
        """Start or stop instances until there are so many, and wait for them. Raises RefusedError."""
        answer = self._ask({"op": "scale", "service": service, "size": size, "for-now": for_now})
        return Scaled(tuple(answer["started"]), tuple(answer["stopped"]))

    def scale_by_load(self, service: str, bounds: Bounds | None) -> Scaled:
        """Let the load decide how many there are, within bounds; None: the usual ones. Raises RefusedError."""
        within = None if bounds is None else [bounds.least, bounds.most]
        answer = self._ask({"op": "scale", "service": service, "auto": within})
        return Scaled(tuple(answer["started"]), tuple(answer["stopped"]))

    def start_lane(self, name: str, spec: LaneSpec) -> Scaled:
        """Start a lane and wait for its instances. Raises RefusedError."""
        answer = self._ask({"op": "lane-start", "name": name, "lane": asdict(spec)})
        return Scaled(tuple(answer["started"]), tuple(answer["stopped"]))

    def shift_lane(self, name: str, percent: float) -> None:
        """Send another share of the subjects to a lane. Raises RefusedError."""
        self._ask({"op": "lane-shift", "name": name, "percent": percent})

    def end_lane(self, name: str) -> Scaled:
        """End a lane and wait until its instances are gone. Raises RefusedError."""
        answer = self._ask({"op": "lane-end", "name": name})
        return Scaled(tuple(answer["started"]), tuple(answer["stopped"]))

    def lanes(self) -> list[dict[str, Any]]:
        """All lanes. Raises RefusedError."""
        return list(self._ask({"op": "lanes"})["lanes"])

    def watch(self, rules: str) -> None:
        """Have Prometheus go by these rules for the contracts' objectives. Raises RefusedError."""
        self._ask({"op": "watch", "rules": rules})

    def events(self, *, timeout_s: float | None = None) -> Iterator[Event]:
        """Everything that happened since the daemon began, then what happens, until it ends."""
        return self._stream({"op": "events"}, timeout_s)

    def down(self, *, timeout_s: float | None = None) -> Iterator[Event]:
        """Tell the daemon to stop everything; what happens until it has."""
        return self._stream({"op": "down"}, timeout_s)

    def _ask(self, request: Mapping[str, object]) -> Mapping[str, Any]:
        try:
            with self._connect(ANSWER_TIMEOUT_S) as connection, connection.makefile("rwb") as stream:
                stream.write(messages.encode(request))
                stream.flush()
                line = stream.readline()
        except ConnectionError:
            line = b""  # it was killed just now
        except TimeoutError as error:
            raise RefusedError("the supervisor has not answered yet; `weft status` shows how far it is") from error
        if not line:
            raise NotRunningError("the supervisor has just stopped")
        answer = messages.decode(line)
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer

    def _stream(self, request: Mapping[str, object], timeout_s: float | None) -> Iterator[Event]:
        # A connection that is reset belongs to a supervisor that was killed just now: nothing more will be said.
        ended = contextlib.suppress(ConnectionError)
        with ended, self._connect(timeout_s) as connection, connection.makefile("rwb") as stream:
            stream.write(messages.encode(request))
            stream.flush()
            for line in stream:
                yield messages.event_of(messages.decode(line))

    def _connect(self, timeout_s: float | None) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise NotRunningError(f"no mesh runs here ({self._path})") from error
        return connection
