"""The fixture `provider`, and what one run of pytest records. `plugin` imports it only for tests that ask for it."""

from pathlib import Path
from typing import Final

from google.protobuf.descriptor import ServiceDescriptor

from svc.contract_tests import messages, records
from svc.contract_tests.errors import ContractTestError
from svc.contract_tests.expectation import Like, Where, contradiction
from svc.contract_tests.mock import Mock
from svc.contract_tests.records import Interaction
from svc.contract_tests.tokens import Issuer

_HINT: Final = "record it with `pytest --weft-record`, and commit the file"


class Recorder:
    """What the tests of a run rely on: compared with the records there are, or written anew."""

    def __init__(self, directory: Path, *, rewrite: bool) -> None:
        self._directory = directory
        self._rewrite = rewrite
        self._found: dict[tuple[str, str], list[Interaction]] = {}
        self._services: dict[str, ServiceDescriptor] = {}

    def add(self, mock: Mock) -> None:
        """Take in what a consumer was answered. Raises ContractTestError where no record has it, or one denies it."""
        provider = mock.service.full_name
        self._services[provider] = mock.service
        known = self._found.setdefault((mock.consumer, provider), [])
        for interaction in mock.interactions():
            other = contradiction(interaction, known)
            if other is not None:
                raise ContractTestError(
                    f"two tests of {mock.consumer} contradict each other: {interaction}, and {other}, both for "
                    f"{messages.shown(interaction.request)}; tell them apart with given(), or take one off_record()"
                )
            known.append(interaction)
            if not self._rewrite:
                self._refuse_unknown(mock, interaction)

    def _refuse_unknown(self, mock: Mock, interaction: Interaction) -> None:
        path = records.path_of(self._directory, mock.consumer, mock.service.full_name)
        if not path.exists():
            raise ContractTestError(f"{path} is not there, which says what {mock.consumer} relies on; {_HINT}")
        record = records.read(path)
        if interaction.key not in {each.key for each in record.interactions}:
            raise ContractTestError(f"{path} does not have: {interaction}; {_HINT}")

    def write(self) -> list[Path]:
        """Replace the records of every consumer and provider that was tested; the files."""
        return [
            records.write(self._directory, records.make(consumer, self._services[provider], found))
            for (consumer, provider), found in sorted(self._found.items())
            if found
        ]


class Provider:
    """The fixture: call it with a service's full name, and it is there."""

    like = Like
    where = Where

    def __init__(self, recorder: Recorder, *, consumer: str = "") -> None:
        """`consumer`: whose tests these are where a call does not say."""
        self._recorder = recorder
        self._consumer = consumer
        self._issuer: Issuer | None = None
        self._mocks: list[Mock] = []

    def __call__(self, service: str | ServiceDescriptor, *, consumer: str = "", access: bool = False) -> Mock:
        """A mock of a service.

        `consumer` names who is tested, for the record; without a name nothing is recorded. With `access` a caller
        needs a token of `token()` with a scope that the contract names; without it everybody may call.
        """
        __tracebackhide__ = True
        verifier = self._signing().verifier if access else None
        mock = Mock(messages.service_of(service), consumer=consumer or self._consumer, verifier=verifier)
        self._mocks.append(mock)
        return mock

    def token(self, *scopes: str, subject: str = "ann") -> str:
        """An access token that mocks made with `access` take."""
        return self._signing().token(*scopes, subject=subject)

    def _signing(self) -> Issuer:
        if self._issuer is None:
            self._issuer = Issuer()
        return self._issuer

    def problems(self) -> list[str]:
        """What consumers did that nobody expected."""
        return [problem for mock in self._mocks for problem in mock.problems()]

    def broken(self) -> str:
        """What was called without being expected, or expected and not called; else records, and says what denies it."""
        problems = self.problems()
        unused = [line for mock in self._mocks for line in mock.unused()]
        if unused:
            problems.append("expected calls that were not made:\n" + "\n".join(f"    {line}" for line in unused))
        if not problems:
            try:
                for mock in self._mocks:
                    if mock.consumer:
                        self._recorder.add(mock)
            except ContractTestError as denied:
                problems.append(str(denied))
        return "\n".join(problems)

    def close(self) -> None:
        """Stop every mock."""
        for mock in self._mocks:
            mock.close()
