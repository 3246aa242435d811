"""Who calls: a token that is given, or a user who signs in and stays signed in.

A token is renewed before it ends, by one caller for all: while it is still good the others go on with it, afterwards
they wait for the new one. A refresh token is good once, so one whose answer was lost costs a new sign-in and no more.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from weft.identity.v1 import identity_pb2
from weft_client.kinds import DeadlineExceeded, Failure, InvalidArgument, Unauthenticated, WeftError

#: A token is renewed this long before its end, or in the last fifth of its life where that is shorter.
RENEW_BEFORE_S: Final = 60.0
#: After a renewal failed and the token was still good.
TRY_AGAIN_S: Final = 1.0

_SERVICE: Final = identity_pb2.DESCRIPTOR.services_by_name["IdentityService"]
CREATE: Final = _SERVICE.methods_by_name["CreateSession"]
REFRESH: Final = _SERVICE.methods_by_name["RefreshSession"]


@dataclass(frozen=True, slots=True)
class Held:
    """A session, and the monotonic times at which its access token is to be renewed and is over."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    name: str
    renew_at: float
    expires_at: float

    @classmethod
    def of(cls, session: identity_pb2.Session, asked_at: float) -> "Held":
        """Of an answer to what was asked then."""
        life = float(session.expires_in.ToTimedelta().total_seconds())
        early = min(RENEW_BEFORE_S, life / 5)
        end = asked_at + life
        return cls(session.access_token, session.refresh_token, session.name, end - early, end)


@dataclass(frozen=True, slots=True)
class Login:
    """With what a user signs in."""

    email: str
    password: str = field(repr=False)

    def request(self) -> identity_pb2.CreateSessionRequest:
        """The request."""
        return identity_pb2.CreateSessionRequest(email=self.email, password=self.password)


class Given:
    """A token that the program has from elsewhere, or a function that has the newest one."""

    def __init__(self, token: str | Callable[[], str]) -> None:
        self._token = token

    def token(self, left_s: float | None) -> str:
        """The token."""
        return self._token if isinstance(self._token, str) else self._token()

    def drop(self, token: str) -> bool:
        """Whether there may be another."""
        return not isinstance(self._token, str)


class _Keeping:
    """What is held of a user's session."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self.held: Held | None = None

    def drop(self, token: str) -> bool:
        """Do not use a token again that was refused; True: the next may be good."""
        held = self.held
        if held is not None and held.access == token:
            self.held = replace(held, renew_at=0.0, expires_at=0.0)
        return True

    def _is_due(self, seen: Held | None) -> bool:
        """Whether what is held is what the caller saw when it had to be renewed, or no better."""
        return self.held is None or self.held is seen or self.held.expires_at <= time.monotonic()


class SignedIn(_Keeping):
    """A user's session, for all threads."""

    def __init__(self, login: Login, send: Callable[..., Any]) -> None:
        """`send`: calls a public method, `send(descriptor, request, timeout)`."""
        super().__init__(login)
        self._send = send
        self._lock = threading.Lock()

    def token(self, left_s: float | None) -> str:
        """A token that is good. Raises WeftError where nobody gives one."""
        held, now = self.held, time.monotonic()
        if held is not None and now < held.renew_at:
            return held.access
        if held is not None and now < held.expires_at:
            if not self._lock.acquire(blocking=False):
                return held.access
        elif not self._lock.acquire(timeout=-1 if left_s is None else left_s):
            raise _late()
        try:
            if self._is_due(held):
                self.held = self._renewed(self.held, left_s)
            return self.held.access if self.held is not None else ""
        finally:
            self._lock.release()

    def _renewed(self, held: Held | None, left_s: float | None) -> Held:
        asked_at = time.monotonic()
        if held is not None and held.refresh:
            request = identity_pb2.RefreshSessionRequest(refresh_token=held.refresh)
            try:
                return Held.of(self._send(REFRESH, request, left_s), asked_at)
            except WeftError as error:
                kept = _despite(held, error, asked_at)
                if kept is not None:
                    return kept
        return Held.of(self._send(CREATE, self._login.request(), left_s), asked_at)


class AsyncSignedIn(_Keeping):
    """A user's session, for all tasks of one event loop."""

    def __init__(self, login: Login, send: Callable[..., Awaitable[Any]]) -> None:
        """`send`: calls a public method, `await send(descriptor, request, timeout)`."""
        super().__init__(login)
        self._send = send
        self._lock = asyncio.Lock()

    async def token(self, left_s: float | None) -> str:
        """A token that is good. Raises WeftError where nobody gives one."""
        held, now = self.held, time.monotonic()
        if held is not None and (now < held.renew_at or (now < held.expires_at and self._lock.locked())):
            return held.access
        try:
            async with asyncio.timeout(left_s):
                await self._lock.acquire()
        except TimeoutError:
            raise _late() from None
        try:
            if self._is_due(held):
                self.held = await self._renewed(self.held, left_s)
            return self.held.access if self.held is not None else ""
        finally:
            self._lock.release()

    async def _renewed(self, held: Held | None, left_s: float | None) -> Held:
        asked_at = time.monotonic()
        if held is not None and held.refresh:
            request = identity_pb2.RefreshSessionRequest(refresh_token=held.refresh)
            try:
                return Held.of(await self._send(REFRESH, request, left_s), asked_at)
            except WeftError as error:
                kept = _despite(held, error, asked_at)
                if kept is not None:
                    return kept
        return Held.of(await self._send(CREATE, self._login.request(), left_s), asked_at)


def _despite(held: Held, error: WeftError, asked_at: float) -> Held | None:
    """What a refresh that failed leaves: a token that is still good, for a while; None: nothing, sign in anew.

    Raises the error where somebody should wait instead.
    """
    if isinstance(error, Unauthenticated | InvalidArgument):
        return None  # the session has ended, the answer to an earlier refresh was lost, or the token is none
    if held.expires_at > time.monotonic():
        return replace(held, renew_at=min(asked_at + TRY_AGAIN_S, held.expires_at))
    raise error


def _late() -> DeadlineExceeded:
    method = f"/{_SERVICE.full_name}/{CREATE.name}"
    return DeadlineExceeded(Failure(method, "DEADLINE_EXCEEDED", "The deadline passed before there was a token."))
