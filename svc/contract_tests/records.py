"""What a consumer relies on, as files: `<directory>/<consumer>/<provider>.json`, the same bytes for the same tests.

A record holds no test's name and no time: it changes only when what the consumer asks or needs changes.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal

from google.protobuf.descriptor import ServiceDescriptor
from pydantic import BaseModel, ConfigDict, ValidationError

from svc.contract_tests.errors import ContractTestError

FORMAT: Final = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def key(self) -> str:
        """Itself as text, for comparing and sorting."""
        return json.dumps(self.model_dump(), sort_keys=True)


class Given(_Part):
    """A state that the provider must be in; its test suite brings it about by name."""

    state: str
    parameters: dict[str, Any] = {}

    def __str__(self) -> str:
        return self.state


class Failure(_Part):
    """How a call ends that must fail."""

    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.code} {self.reason}"


class Interaction(_Part):
    """One call, and what the consumer relies on in its answer."""

    method: str
    given: tuple[Given, ...] = ()
    request: dict[str, Any]
    answers: tuple[dict[str, Any], ...] = ()
    """JSON of the messages, as far as the consumer's tests state them: one, or those that a stream begins with."""
    error: Failure | None = None

    @property
    def question(self) -> str:
        """All but the outcome: two interactions that share it contradict each other."""
        return json.dumps([self.method, [each.key for each in self.given], self.request], sort_keys=True)

    def __str__(self) -> str:
        state = f" given {', '.join(map(str, self.given))}" if self.given else ""
        return f"{self.method} {'fails with ' + str(self.error) if self.error else 'answers'}{state}"


class Record(_Part):
    """Everything that one consumer relies on at one service."""

    format: Literal[1] = FORMAT
    consumer: str
    provider: str
    """Full name of the service."""
    contract: str
    """SHA-256 of the provider's contract at the time of recording; see `contract_hash`."""
    interactions: tuple[Interaction, ...]

    def text(self) -> str:
        """The content of its file."""
        content = self.model_dump(exclude_defaults=True) | {"format": self.format}
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def make(consumer: str, service: ServiceDescriptor, interactions: Iterable[Interaction]) -> Record:
    """A record of distinct interactions, in an order of their own."""
    distinct = {each.key: each for each in interactions}
    ordered = sorted(distinct.values(), key=lambda each: (each.method, each.key))
    return Record(
        consumer=consumer,
        provider=service.full_name,
        contract=contract_hash(service),
        interactions=tuple(ordered),
    )


def contract_hash(service: ServiceDescriptor) -> str:
    """SHA-256 of the file that holds a service: its methods, policies, messages and rules, without comments."""
    return hashlib.sha256(service.file.serialized_pb).hexdigest()


def path_of(directory: Path, consumer: str, provider: str) -> Path:
    """Where a record lies."""
    return directory / consumer / f"{provider}.json"


def read(path: Path) -> Record:
    """The record in a file. Raises ContractTestError."""
    try:
        return Record.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ContractTestError(f"{path} is not readable: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ContractTestError(f"{path} is not a record of contract tests: {where}: {first['msg']}") from None


def load(directory: Path, *, provider: str = "") -> tuple[Record, ...]:
    """The records below a directory, by consumer; those of one provider where it is named. Raises ContractTestError."""
    if not directory.is_dir():
        raise ContractTestError(f"{directory} is not a directory of records")
    found = [read(path) for path in sorted(directory.glob("*/*.json"))]
    return tuple(record for record in found if provider in ("", record.provider))


def write(directory: Path, record: Record) -> Path:
    """Put a record where `load` finds it, in place of what was there."""
    path = path_of(directory, record.consumer, record.provider)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.text(), encoding="utf-8")
    return path
