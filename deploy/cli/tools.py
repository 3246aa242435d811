"""The verb `weft mcp`: methods of the contracts as tools for language models (Model Context Protocol)."""

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import exits
from deploy.supervisor.config import Settings
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from weft_client import AsyncWeft

#: What the tools are called at the services.
CLIENT = "weft-mcp"

User = Annotated[str, typer.Option(help="E-mail address of the user to act for; the mesh's operator where absent.")]
PasswordFile = Annotated[Path | None, typer.Option(help="File with the user's password.", metavar="FILE")]
TokenFile = Annotated[Path | None, typer.Option(help="File with an access token, read for each call.", metavar="FILE")]
Address = Annotated[str, typer.Option(help="The gateway, host:port or https://host:port; this mesh's where absent.")]
Http = Annotated[
    int | None, typer.Option(min=0, max=65535, metavar="PORT", help="Streamable HTTP on this port, not stdio; 0: any.")
]


def mcp(
    user: User = "",
    password_file: PasswordFile = None,
    token_file: TokenFile = None,
    *,
    address: Address = "",
    http: Http = None,
) -> None:
    """Offer methods of the contracts as tools to language models, over standard input and output.

    Offered is what says `mcp` in its policy. A tool is called through the gateway with the user's token, scopes and
    limits. With --http each request brings its own token (`authorization: Bearer ...`), and nobody is signed in.

    Example: weft mcp --user ann@example.com --password-file ann.password
    """
    # Only this verb pays for loading the protocol.
    from deploy.mcp import serving

    if bool(user) != (password_file is not None):
        exits.fail(exits.USAGE, "--user and --password-file go together")
    if (user or http is not None) and token_file is not None:
        exits.fail(exits.USAGE, "--token-file goes neither with --user nor with --http")
    if user and http is not None:
        exits.fail(exits.USAGE, "with --http each request brings its own token: leave out --user")
    try:
        weft = _client(address, (user, password_file), serving.bearer if http is not None else token_file)
        if http is None:
            asyncio.run(serving.stdio(weft))
        else:
            asyncio.run(serving.http(weft, http, on_start=_say))
    except (OSError, ValueError) as error:
        exits.fail(exits.USAGE, str(error))


def _client(address: str, login: tuple[str, Path | None], token: Path | Callable[[], str] | None) -> AsyncWeft:
    """A client of the gateway for whoever is to be acted for. Raises OSError, ValueError, NotRunningError."""
    layout, ca = Layout(Settings.from_environ().data), None
    if not address:
        address = Mesh(layout.root).gateway
        ca = layout.authority if address.startswith("https://") else None
    if token is not None:
        read = partial(_secret, token) if isinstance(token, Path) else token
        read()  # a file that is not there is told now, not to a model
        return AsyncWeft(address, token=read, ca=ca, client=CLIENT)
    user, password = login
    if password is None:
        user, password = _secret(layout.secrets / "operator.email"), layout.secrets / "operator.password"
    return AsyncWeft(address, user=user, password=_secret(password), ca=ca, client=CLIENT)


def _secret(file: Path) -> str:
    """The one line of a file. Raises OSError, ValueError."""
    text = file.read_text().strip()
    if not text:
        raise ValueError(f"{file} is empty")
    return text


def _say(url: str) -> None:
    print(f"tools are served at {url}", file=sys.stderr)
