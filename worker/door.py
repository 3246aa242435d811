"""The door of one worker on loopback, for the operations service: depths of all queues, and their dead letters.

    GET  /depths                               messages in every queue
    GET  /letters?queue=&reason=&type=&limit=  the oldest of each queue
    GET  /letter?queue=&id=                    one, whole but for what its contract marks sensitive
    POST /replay {"queue", "ids", "reason", "type"}

Whoever asks shows the mesh's own token. Letters are looked at by one at a time: each look takes them all from the
broker for a moment. The relay has it, because it is what is nearest to the broker and needs nothing else.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import structlog

from svc.chassis.config import Address, Secrets
from svc.chassis.site import Request, Response, Site
from worker import operating
from worker.amqp import topology
from worker.amqp.depth import Depths
from worker.deadletter import Choice
from worker.errors import Outage

#: The file of the token.
TOKEN: Final = "letters.password"
BODY_BYTES_MAX: Final = 128 * 1024
LIMIT: Final = 50
LIMIT_MAX: Final = 1000
EVERYTHING: Final = 10**9
#: For the one who looks before.
TURN_S: Final = 20.0
#: Letters that somebody looks through are not counted by the broker until he lets go of them. Where there seem to be
#: fewer it is asked again after so long, and believed then.
AGAIN_S: Final = 0.2
_DEAD: Final = frozenset(queue.dead for queue in topology.work_queues())

log = structlog.get_logger()


class BadQuestionError(ValueError):
    """The question is wrong; the message says how."""


class Door:
    """A background of a worker: serves between `start` and `stop`."""

    def __init__(self, address: Address, secrets: Secrets, *, depths: Depths) -> None:
        """Opens nothing."""
        self._secrets = secrets
        self._depths = depths
        self._token = secrets.read(TOKEN)
        self._asking = threading.Lock()
        self._told: Mapping[str, int] = {}
        self._looking = threading.Lock()
        self._site = Site(address, self.answer, body_max=BODY_BYTES_MAX)

    def start(self) -> None:
        """Listen."""
        self._site.start()

    def stop(self, timeout: float) -> None:
        """Stop listening."""
        self._site.stop(timeout)
        with self._asking:
            self._depths.close()

    def alive(self) -> bool:
        """Always: nobody misses it enough to end a relay for it."""
        return True

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._site.port

    def answer(self, request: Request) -> Response:
        """What becomes of a request."""
        if not self._is_ours(request.headers.get("authorization", "")):
            return _say(HTTPStatus.UNAUTHORIZED, "say who you are: Authorization: Bearer <token>")
        parts = urlsplit(request.target)
        route = _ROUTES.get((request.verb, parts.path))
        if route is None:
            return _say(HTTPStatus.NOT_FOUND, "no such page")
        try:
            return _json(HTTPStatus.OK, route(self, _given(request, parts.query)))
        except BadQuestionError as error:
            return _say(HTTPStatus.BAD_REQUEST, str(error))
        except Outage as error:
            return _say(HTTPStatus.SERVICE_UNAVAILABLE, str(error))

    def _is_ours(self, said: str) -> bool:
        scheme, _, given = said.partition(" ")
        return scheme == "Bearer" and hmac.compare_digest(given.encode(), self._token.encode())

    def _ask_depths(self, _given: Mapping[str, Any]) -> object:
        with self._asking:
            found = self._depths.read()
            if any(found.get(queue, 0) < self._told.get(queue, 0) for queue in _DEAD):
                threading.Event().wait(AGAIN_S)
                found = self._depths.read()
            self._told = dict(found)
            return {"depths": self._told}

    def _list(self, given: Mapping[str, Any]) -> object:
        most = _number(given.get("limit", LIMIT))
        return self._look(lambda: operating.list_letters(self._secrets, _workers(given), _choice(given), most=most))

    def _show(self, given: Mapping[str, Any]) -> object:
        wanted = str(given.get("id", ""))
        return self._look(lambda: operating.show_letter(self._secrets, _workers(given), wanted, body=False))

    def _replay(self, given: Mapping[str, Any]) -> object:
        choice = _choice(given)
        log.info("letters_replayed", queue=given.get("queue", ""), ids=len(choice.ids))
        return self._look(lambda: operating.replay_letters(self._secrets, _workers(given), choice, most=EVERYTHING))

    def _look(self, look: Callable[[], operating.Answer]) -> operating.Answer:
        if not self._looking.acquire(timeout=TURN_S):
            raise Outage("somebody else is looking through the dead letters")
        try:
            return look()
        finally:
            self._looking.release()


_ROUTES: Final[Mapping[tuple[str, str], Callable[[Door, Mapping[str, Any]], object]]] = {
    ("GET", "/depths"): Door._ask_depths,
    ("GET", "/letters"): Door._list,
    ("GET", "/letter"): Door._show,
    ("POST", "/replay"): Door._replay,
}


def _given(request: Request, query: str) -> Mapping[str, Any]:
    if request.verb != "POST":
        return dict(parse_qsl(query))
    try:
        found = json.loads(request.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadQuestionError("the body is no JSON object")
    return found


def _workers(given: Mapping[str, Any]) -> Sequence[str]:
    queue = str(given.get("queue", ""))
    if not queue:
        return operating.WORKERS
    if queue not in operating.WORKERS:
        raise BadQuestionError(f"queue: there is no {queue[:64]!r}")
    return (queue,)


def _choice(given: Mapping[str, Any]) -> Choice:
    ids = given.get("ids", ())
    if not isinstance(ids, list | tuple):
        raise BadQuestionError("ids: is no list")
    return Choice(frozenset(map(str, ids)), str(given.get("reason", "")), str(given.get("type", "")))


def _number(said: Any) -> int:
    text = str(said)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LIMIT_MAX:
        raise BadQuestionError(f"limit: is no number from 1 to {LIMIT_MAX}")
    return int(text)


def _say(status: HTTPStatus, text: str) -> Response:
    return _json(status, {"error": text})


def _json(status: HTTPStatus, value: object) -> Response:
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/json"})
