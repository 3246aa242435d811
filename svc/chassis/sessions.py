"""What each call is promised of its reads, and what it tells the next one: sessions opened and read tokens made.

Used by `server`, around every handler.
"""

from collections.abc import Iterable

from google.protobuf.descriptor import ServiceDescriptor

from svc.chassis.call import Call, Method
from svc.chassis.consistency import Level, ReadTokens, Session
from weft_protos import read_token


class Sessions:
    """Opens the session of each call, and makes a read token of what the call has written."""

    def __init__(self, tokens: ReadTokens | None, services: Iterable[ServiceDescriptor]) -> None:
        """`tokens`: None where there is no key to sign them with."""
        self._tokens = tokens
        found = (Method.of(method, instance="") for descriptor in services for method in descriptor.methods)
        # Where every answer is the leader's, nobody has a use for a token.
        self._tracks = tokens is not None and any(method.consistency.level is not Level.STRONG for method in found)

    def open(self, call: Call) -> Session:
        """What a call is promised."""
        token = call.header(read_token.HEADER)
        return Session(
            call.method.consistency,
            home=call.method.owner,
            token=token,
            seen=self._tokens.decode(token) if self._tokens is not None else None,
            tracks=self._tracks,
        )

    def token(self, session: Session) -> str:
        """What its answer brings along; empty where it has written nothing."""
        marks = session.marks
        return self._tokens.encode(marks) if marks is not None and self._tokens is not None else ""
