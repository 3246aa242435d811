"""What a process says of its health, in three voices that must not be mixed up.

- Liveness, the health service's name `liveness`: does work go on? Where it does not, a new process helps, and the
  supervisor starts one.
- Readiness, the name ``: does it take calls? Its own state only. A database that is down is down for every instance;
  were they to say so, none would be left to answer what needs no database, and none to come back at once.
- Deep checks, as metrics: does what it depends on answer? For people and alerts, and nothing acts on it.
"""

import threading
from collections.abc import Callable
from typing import Final

import structlog

from svc.chassis import metrics

LIVENESS: Final = "liveness"
CHECK_EVERY_S: Final = 5.0

log = structlog.get_logger(__name__)


class Liveness:
    """Several witnesses, each of whom can say that its part of the process has stopped to work. Thread-safe."""

    def __init__(self) -> None:
        """Nobody has anything to say yet."""
        self._witnesses: dict[str, Callable[[], bool]] = {}
        self._stuck: tuple[str, ...] = ()

    def add(self, name: str, goes_on: Callable[[], bool]) -> None:
        """`goes_on` must answer at once, from memory."""
        self._witnesses[name] = goes_on

    def goes_on(self) -> bool:
        """Whether all of it works."""
        stuck = tuple(name for name, goes_on in dict(self._witnesses).items() if not goes_on())
        if stuck and stuck != self._stuck:
            log.error("work_stopped", parts=stuck)
        self._stuck = stuck
        return not stuck


class DeepChecks:
    """Asks each dependency now and then, in a thread of its own, and reports the answers as `weft_dependency_up`."""

    def __init__(self) -> None:
        """Nothing is asked before `start`."""
        self._checks: dict[str, Callable[[], object]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deep-checks", daemon=True)

    def add(self, dependency: str, check: Callable[[], object]) -> None:
        """`check` raises, or answers False, where there is no answer; it bounds its own waiting."""
        self._checks[dependency] = check

    def start(self) -> None:
        """Begin, where there is anything to ask."""
        if self._checks:
            self._thread.start()

    def stop(self) -> None:
        """End; a check that hangs is left to the end of the process."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def ask(self) -> None:
        """Ask all of them once."""
        for dependency, check in self._checks.items():
            try:
                up = check() is not False
            except Exception as error:  # noqa: BLE001 - counted, as 0
                # Whatever a driver raises, the answer is that there was none.
                log.info("dependency_down", dependency=dependency, reason=type(error).__name__)
                up = False
            metrics.DEPENDENCY_UP.labels(dependency).set(up)

    def _run(self) -> None:
        while not self._stop.wait(CHECK_EVERY_S):
            self.ask()
