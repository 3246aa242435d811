"""The client: `Weft` for threads, `AsyncWeft` for tasks. Both have a property for each service of the contracts."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from google.protobuf.message import Message

from weft_client.calls import AsyncCalls, Calls, method_named
from weft_client.channels import Target
from weft_client.gen.services import AsyncServices, Services
from weft_client.session import AsyncSignedIn, Given, Login, SignedIn
from weft_protos import consumer

__version__: Final = "0.1.0"
#: What a program is called at the services that does not say who it is.
CLIENT: Final = f"weft-client/{__version__}"

Token = str | Callable[[], str]


class _Caller:
    """Who calls, and where: what `Weft` and `AsyncWeft` are told."""

    def __init__(
        self, address: str, *, user: str | None, password: str | None, token: Token | None, ca: str | Path | None
    ) -> None:
        if (user is None) != (password is None):
            raise ValueError("user and password go together")
        if user is not None and token is not None:
            raise ValueError("say a user with a password, or a token, not both")
        self.target = Target.of(address, ca)
        if (user or token) and not self.target.secure and not self.target.is_loopback:
            raise ValueError(f"{address!r} would be told a secret in clear: write https://{self.target.name}")
        self.login = None if user is None or password is None else Login(user, password)
        self.given = None if token is None else Given(token)


def _declared(client: str) -> tuple[str, str]:
    name, _, version = client.partition("/")
    return consumer.declare(name, version)


class Weft(Services):
    """A client of the gateway. Thread-safe; one for each program and user is enough.

    with Weft("localhost:8080", user="ann@example.com", password=password) as weft:
        mug = weft.catalog.get_product("products/mug")
    """

    def __init__(
        self,
        address: str = "localhost:8080",
        *,
        user: str | None = None,
        password: str | None = None,
        token: Token | None = None,
        ca: str | Path | None = None,
        client: str = CLIENT,
    ) -> None:
        """Opens nothing: the first call connects, and signs in where it has to.

        `address`: `host:port` in clear, or `https://host:port`; `ca`: a file of certificates to trust, PEM.
        `user`: an e-mail address. `token`: an access token instead, or a function that has the newest one.
        `client`: what the program is called at the services, `name/version`.
        Raises ValueError for what cannot be, among it a secret in clear to another machine.
        """
        caller = _Caller(address, user=user, password=password, token=token, ca=ca)
        self._calls = Calls(caller.target.open(), _declared(client))
        self._session = None if caller.login is None else SignedIn(caller.login, self._calls.send)
        self._calls.tokens = self._session or caller.given
        super().__init__(self._calls)

    def call(self, method: str, request: Message, *, timeout: float | None = None) -> Any:
        """Call a unary method by its full name, `weft.catalog.v1.CatalogService.GetProduct`. Raises WeftError."""
        return self._calls.send(method_named(method), request, timeout)

    def sign_out(self) -> None:
        """End the session at the mesh; the next call signs in anew. Nothing is done where there is none."""
        if self._session is not None and self._session.held is not None:
            self.identity.delete_session(self._session.held.name)
            self._session.held = None

    def close(self) -> None:
        """Close the connection; the session goes on until it ends by itself."""
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncWeft(AsyncServices):
    """A client of the gateway for the tasks of one event loop.

    async with AsyncWeft("localhost:8080", user="ann@example.com", password=password) as weft:
        mug = await weft.catalog.get_product("products/mug")
    """

    def __init__(
        self,
        address: str = "localhost:8080",
        *,
        user: str | None = None,
        password: str | None = None,
        token: Token | None = None,
        ca: str | Path | None = None,
        client: str = CLIENT,
    ) -> None:
        """As `Weft`."""
        caller = _Caller(address, user=user, password=password, token=token, ca=ca)
        self._calls = AsyncCalls(caller.target.open_async, _declared(client))
        self._session = None if caller.login is None else AsyncSignedIn(caller.login, self._calls.send)
        self._calls.tokens = self._session or caller.given
        super().__init__(self._calls)

    async def call(self, method: str, request: Message, *, timeout: float | None = None) -> Any:
        """Call a unary method by its full name, `weft.catalog.v1.CatalogService.GetProduct`. Raises WeftError."""
        return await self._calls.send(method_named(method), request, timeout)

    async def sign_out(self) -> None:
        """End the session at the mesh; the next call signs in anew. Nothing is done where there is none."""
        if self._session is not None and self._session.held is not None:
            await self.identity.delete_session(self._session.held.name)
            self._session.held = None

    async def close(self) -> None:
        """Close the connection; the session goes on until it ends by itself."""
        await self._calls.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
