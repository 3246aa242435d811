"""The test stand: a backend, Envoys and other gateways as processes of their own, each pinned to its core.

What is measured has one core to itself; load and backend have the others. Everything listens on loopback, on free
ports, and ends with the stand.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
from joserfc import jwt
from joserfc.jwk import ECKey

from bench.backend import COUNT
from bench.report import ROOT, BenchError
from deploy.supervisor.servers.envoy import binary
from weft_protos.access_token import AUDIENCE, ISSUER, LIFETIME_S

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.05


def cores() -> tuple[str, str]:
    """Core of what is measured, and core of load and backend, as taskset takes them; the same where there is one."""
    usable = sorted(os.sched_getaffinity(0))
    return str(usable[0]), str(usable[-1])


def every_core() -> str:
    """All that may be used, for what is not measured by its CPU."""
    return ",".join(map(str, sorted(os.sched_getaffinity(0))))


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition. Raises BenchError naming `what` did not happen."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"{what} within {START_TIMEOUT_S:.0f} s")
        threading.Event().wait(_POLL_S)


class Caller:
    """Somebody who may call everything: a signing key made for this run, and tokens of it."""

    def __init__(self, *scopes: str) -> None:
        self._key = ECKey.generate_key("P-256", {"kid": "bench", "alg": "ES256", "use": "sig"})
        self._scopes = scopes

    @property
    def keys(self) -> str:
        """The public JWK set."""
        return json.dumps({"keys": [self._key.as_dict(private=False)]})

    def token(self, **changes: object) -> str:
        """A token that is good for five minutes from now."""
        now = int(time.time())  # noqa: TID251 - what a token says is wall time
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "00000000-0000-4000-8000-000000000001",
            "scope": " ".join(self._scopes),
            "iat": now,
            "exp": now + LIFETIME_S,
            "jti": f"bench-{now}",
            "sid": "00000000-0000-4000-8000-000000000002",
            **changes,
        }
        return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": "bench"}, claims, self._key)


class Listening(Protocol):
    """What calls are routed to."""

    port: int


class Backend:
    """The process of bench/backend.py."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise BenchError("the backend did not start")
        self.pid = process.pid
        self.port = int(line)
        self._channel = grpc.insecure_channel(f"{HOST}:{self.port}")

    def answered(self) -> int:
        """How many calls it has answered so far."""
        count: Any = self._channel.unary_unary(COUNT)
        return int(count(b"", timeout=10.0))

    def close(self) -> None:
        """Give the connection back."""
        self._channel.close()


class Stand:
    """Starts processes and ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Stand":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def at_end(self, action: Callable[[], object]) -> None:
        """Do this when the stand ends, before what was started earlier ends."""
        self._stack.callback(action)

    def backend(self) -> Backend:
        """Start the backend beside the load."""
        process = self.start([sys.executable, "-m", "bench.backend"], core=cores()[1], stdout=subprocess.PIPE)
        running = Backend(process)
        self._stack.callback(running.close)
        return running

    def ready(self, url: str, what: str) -> None:
        """Wait until an URL answers 200. Raises BenchError naming `what` did not happen."""
        until(lambda: answers_with(url, 200), what)

    def envoy(
        self,
        name: str,
        config: Path,
        *,
        ready: str,
        environ: Mapping[str, str] | None = None,
        core: str | None = None,
    ) -> int:
        """Start an Envoy on the measured core, or on `core`; returns its pid once `ready`, an URL, answers 200."""
        log = (self.folder / f"{name}.log").open("wb")
        self._stack.callback(log.close)
        process = self.start(
            [str(binary()), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"],
            core=core or cores()[0],
            # The access log is written, as it is in a mesh, and read by nobody.
            stdout=subprocess.DEVNULL,
            stderr=log,
            environ=environ,
        )

        def answers() -> bool:
            if process.poll() is not None:
                complaint = (self.folder / f"{name}.log").read_text(errors="replace")[-1500:]
                raise BenchError(f"Envoy {name} ended: {complaint}")
            return answers_with(ready, 200)

        until(answers, f"Envoy {name} was not ready")
        return process.pid

    def start(
        self,
        argv: Sequence[str],
        *,
        core: str,
        stdout: int | None = None,
        stderr: Any = None,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process on a core; it ends with the stand. taskset replaces itself, so the pid is the program's."""
        process = subprocess.Popen(
            ["taskset", "-c", core, *argv],
            cwd=ROOT,
            env={**os.environ, **(environ or {})},  # noqa: TID251 - processes of a bench live where it lives
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
        )
        self._stack.callback(_end, process)
        return process


def answers_with(url: str, status: int) -> bool:
    """Whether a GET is answered with this status now."""
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == status)
    except urllib.error.HTTPError as error:
        return error.code == status
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
