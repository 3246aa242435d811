"""Those who tell about the mesh: the supervisor on its socket, the others over HTTP.

Every question is bounded in time and in the size of its answer. SourceAwayError says that somebody does not answer, in
words for people; none of them ever holds a credential.
"""

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from svc.chassis.config import Address

#: For what is asked every second; whoever is slower is as good as away.
ASK_S: Final = 1.5
#: For what somebody waits for.
WAIT_S: Final = 8.0
ANSWER_BYTES_MAX: Final = 32 << 20
_NOT_SET: Final = "nobody has said where it is"


class SourceAwayError(Exception):
    """It does not answer, or not as agreed. The message is for people."""


class SourceRefusedError(Exception):
    """It answers, and does not do what it is asked. The message is for people."""


class NotThereError(SourceAwayError):
    """It answers that there is no such thing."""


class Http:
    """One HTTP server, or several that do the same, which are tried in turn."""

    def __init__(self, name: str, addresses: Sequence[Address], *, token: str = "") -> None:
        """`name`: what people call it; `token`: shown to it as a bearer's."""
        self._name = name
        self._addresses = tuple(addresses)
        self._token = token

    def get(self, path: str, query: Mapping[str, str | int] | None = None, *, timeout_s: float = ASK_S) -> Any:
        """The JSON answer. Raises SourceAwayError and NotThereError."""
        given = {name: value for name, value in (query or {}).items() if value != ""}
        return self._ask("GET", f"{path}?{urlencode(given)}" if given else path, b"", "", timeout_s)

    def post(self, path: str, form: Mapping[str, str], *, timeout_s: float = ASK_S) -> Any:
        """The JSON answer to a form."""
        return self._ask("POST", path, urlencode(form).encode(), "application/x-www-form-urlencoded", timeout_s)

    def post_json(self, path: str, value: Mapping[str, object], *, timeout_s: float = ASK_S) -> Any:
        """The JSON answer to a JSON object."""
        return self._ask("POST", path, json.dumps(value).encode(), "application/json", timeout_s)

    def _ask(self, verb: str, path: str, body: bytes, kind: str, timeout_s: float) -> Any:
        reason = _NOT_SET
        for address in self._addresses:
            connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
            try:
                connection.connect()
            except OSError as error:
                reason = _why(error)
                continue
            try:
                return self._answer(connection, verb, path, body=body, kind=kind)
            except (OSError, http.client.HTTPException, ValueError) as error:
                # It may have been carried out: the next one is not asked.
                raise SourceAwayError(f"{self._name}: {_why(error)}") from error
            finally:
                connection.close()
        raise SourceAwayError(f"{self._name}: {reason}")

    def _answer(self, connection: http.client.HTTPConnection, verb: str, path: str, *, body: bytes, kind: str) -> Any:
        headers = {"Accept": "application/json"}
        if kind:
            headers["Content-Type"] = kind
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        connection.request(verb, path, body=body or None, headers=headers)
        answer = connection.getresponse()
        content = answer.read(ANSWER_BYTES_MAX + 1)
        if len(content) > ANSWER_BYTES_MAX:
            raise ValueError("its answer is too long")
        if answer.status == http.client.NOT_FOUND:
            raise NotThereError(f"{self._name}: it does not know {path.partition('?')[0]}")
        if answer.status != http.client.OK:
            raise SourceAwayError(f"{self._name}: HTTP {answer.status}{_said(content)}")
        return json.loads(content)


class Supervisor:
    """The supervisor's socket: one JSON object a line, asked and answered once for each connection."""

    def __init__(self, path: Path | None) -> None:
        """Opens nothing."""
        self._path = path

    def ask(self, op: str, words: Mapping[str, object] | None = None, *, timeout_s: float = ASK_S) -> Mapping[str, Any]:
        """The answer to one request. Raises SourceAwayError, and SourceRefusedError with the supervisor's reason."""
        if self._path is None:
            raise SourceAwayError(f"supervisor: {_NOT_SET}")
        request = json.dumps({"op": op, **(words or {})}).encode() + b"\n"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout_s)
                connection.connect(str(self._path))
                connection.sendall(request)
                with connection.makefile("rb") as stream:
                    line = stream.readline(ANSWER_BYTES_MAX)
            answer = json.loads(line) if line else None
        except (OSError, ValueError) as error:
            raise SourceAwayError(f"supervisor: {_why(error)}") from error
        if not isinstance(answer, dict):
            raise SourceAwayError("supervisor: it has just stopped")
        if "error" in answer:
            raise SourceRefusedError(str(answer["error"]))
        return answer


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, json.JSONDecodeError):
        return "its answer is no JSON"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _said(content: bytes) -> str:
    """What an error's body says, where it is an object with one."""
    try:
        said = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {str(said)[:200]}"
