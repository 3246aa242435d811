"""Programs that join the mesh in tests, as objects: the caller and the instance in Go, and a caller in Python.

Callers take one JSON object a line and answer with one (`cmd/caller/main.go` says which), so that a test speaks alike
to both; none of them ever sees a token in its arguments or its environment.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tests.go.build import Programs
from tests.waiting import DEADLINE_S

_SHIPPING_CALLER: Final = Path(__file__).with_name("shipping_caller.py")


@dataclass(frozen=True)
class Report:
    """What came of calls that a caller made on and on."""

    calls: int
    failed: int
    said: tuple[str, ...]
    """What the first failures said."""
    peers: Mapping[str, int]
    """Good answers, by who gave them: an address, or an instance where the answer names it."""


class Caller:
    """A process that calls when it is told to."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command, env=dict(environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Caller":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def call(self, product: str, *, token: str = "", traceparent: str = "") -> Mapping[str, str]:
        """One call: `code`, `message`, `peer` and `name` of the answer."""
        answer: Mapping[str, str] = self._ask(
            {"do": "call", "product": product, "token": token, "traceparent": traceparent}
        )
        return answer

    def start(self, product: str, *, token: str, callers: int = 2) -> None:
        """Call on and on, from so many threads."""
        self._ask({"do": "start", "product": product, "token": token, "callers": callers})

    def report(self) -> Report:
        """What came of it so far."""
        return self._report("report")

    def stop(self) -> Report:
        """What came of it in the end: every call that was begun has been answered."""
        return self._report("stop")

    def _report(self, order: str) -> Report:
        found = self._ask({"do": order})
        return Report(found["calls"], found["failed"], tuple(found["said"]), found["peers"])

    def _ask(self, order: Mapping[str, object]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the caller ended with {self._process.wait(DEADLINE_S)}"
        return json.loads(line)


def go_caller(programs: Programs, bootstrap: Path, *, collector: str = "") -> Caller:
    """A caller of catalog in Go, which is told of the mesh by the bootstrap file and by nothing else."""
    environ = {"GRPC_XDS_BOOTSTRAP": str(bootstrap)}
    return Caller([str(programs.caller)], environ | ({"WEFT_OTLP_ENDPOINT": collector} if collector else {}))


def python_caller(programs: Programs, bootstrap: Path) -> Caller:
    """A caller of shipping in Python, on a channel as every service of the mesh opens it."""
    environ = {"GRPC_XDS_BOOTSTRAP": str(bootstrap)}
    return Caller([sys.executable, str(_SHIPPING_CALLER), str(programs.contracts)], environ)


class Shipping:
    """An instance in Go; `environ` is what an instance in Python gets, but for its name and its port."""

    def __init__(self, programs: Programs, instance: str, *, port: int, environ: Mapping[str, str]) -> None:
        self.instance = instance
        self.address = f"127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [str(programs.shipping)], env={**environ, "WEFT_INSTANCE": instance, "WEFT_LISTEN": self.address}
        )

    def __enter__(self) -> "Shipping":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def terminate(self) -> int:
        """Ask it to end, wait, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self._process.wait(DEADLINE_S)

    def kill(self) -> None:
        """End it at once; nothing where it has ended."""
        self._process.kill()
        self._process.wait()
