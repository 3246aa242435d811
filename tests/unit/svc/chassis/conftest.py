from collections.abc import Iterator

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from svc.chassis import telemetry
from svc.chassis.config import Settings
from tests.unit.svc.chassis.instance import Instance, Issuer


class Spans:
    """Everything traced in a test."""

    def __init__(self, running: telemetry.Telemetry, exporter: InMemorySpanExporter) -> None:
        self._running = running
        self._exporter = exporter

    def ended(self) -> tuple[ReadableSpan, ...]:
        assert self._running._provider.force_flush()
        return self._exporter.get_finished_spans()

    def one(self, name: str) -> ReadableSpan:
        (found,) = (span for span in self.ended() if span.name == name)
        return found


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def instance() -> Iterator[Instance]:
    running = Instance()
    yield running
    running.close()


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> pytest.MonkeyPatch:
    """The environment of a process, as the supervisor sets it."""
    for name, value in {
        "WEFT_INSTANCE": "orders-1",
        "WEFT_LISTEN": "127.0.0.1:0",
        "WEFT_METRICS_PORT": "0",
        "WEFT_ETCD": "127.0.0.1:1",
        "WEFT_XDS": "127.0.0.1:1,127.0.0.1:2",
        "WEFT_CACHE": "127.0.0.1:1",
        "WEFT_SECRETS": str(tmp_path_factory.mktemp("secrets")),
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def settings(environ: pytest.MonkeyPatch) -> Settings:
    return Settings.read()


@pytest.fixture
def spans(settings: Settings) -> Iterator[Spans]:
    exporter = InMemorySpanExporter()
    running = telemetry.setup(settings, service="orders", exporter=exporter)
    yield Spans(running, exporter)
    running.shutdown()
    structlog.reset_defaults()
