"""The shell of a sink's process: settings, logs, start, wait for a signal, stop."""

import logging
import signal
import sys
import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from deploy.observability.config import ConfigError, Settings
from weft_protos import redaction


class Sink(Protocol):
    """Something that runs between `start` and `stop`."""

    def start(self) -> None:
        """Listen. Raises OSError where an address is not to be had."""
        ...

    def stop(self) -> None:
        """Stop listening, keep what was accepted."""
        ...


def run(name: str, intake: str, build: Callable[[Settings], Sink]) -> int:
    """Run one sink until SIGTERM or SIGINT; the process's exit code."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = Settings.from_environ(intake)
    except ConfigError as error:
        print(f"weft: {error}", file=sys.stderr)
        return 2
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
        ),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redaction.clean,
            structlog.processors.JSONRenderer(),
        ],
    )
    log = structlog.get_logger().bind(service=name)
    sink = build(settings)
    try:
        sink.start()
    except OSError as error:
        log.error("sink_not_started", error=str(error))
        return 1
    log.info("sink_ready", intake=str(settings.intake), http=str(settings.http))
    stop.wait()
    sink.stop()
    log.info("sink_stopped")
    return 0
