"""Serves the contracts' tools by the Model Context Protocol: over standard input and output, or over HTTP.

Nothing is decided here. A call is the client's own call of the method: the gateway judges token, scope, limit and
request, and whatever it refuses is the tool's answer, in words and as data.
"""

import importlib.metadata
import json
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

import uvicorn
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from starlette.requests import Request

from weft_client import AsyncWeft, WeftError
from weft_protos import tools

NAME: Final = "weft"
INSTRUCTIONS: Final = (
    "Each tool is a method of a mesh of services, called with the rights and limits of the signed-in user. A refusal "
    "says why, which fields are wrong, and when to try again; repeat a call only after that time. Lists come in pages: "
    "pass next_page_token as page_token for the next one."
)

#: The token that the request at hand has brought.
_bearer: ContextVar[str] = ContextVar("weft_mcp_bearer", default="")


def bearer() -> str:
    """The token of whoever asks; empty where none came along."""
    return _bearer.get()


def listed() -> list[Tool]:
    """The tools, as they are told."""
    return [
        Tool(
            name=tool.name,
            description=tool.description,
            input_schema=dict(tool.schema),
            annotations=ToolAnnotations(
                read_only_hint=tool.reads,
                destructive_hint=tool.destroys,
                idempotent_hint=tool.repeatable,
                open_world_hint=False,
            ),
        )
        for tool in tools.every().values()
    ]


def server(weft: AsyncWeft) -> Server:
    """The server of one client."""

    async def list_tools(_: ServerRequestContext, __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=listed())

    async def call_tool(context: ServerRequestContext, params: CallToolRequestParams) -> CallToolResult:
        kept = _bearer.set(_token_of(context.request))
        try:
            return await _called(weft, params)
        finally:
            _bearer.reset(kept)

    return Server(
        NAME,
        version=importlib.metadata.version("weft"),
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def stdio(weft: AsyncWeft) -> None:
    """Serve whoever started this process, until standard input ends."""
    serving = server(weft)
    async with weft, stdio_server() as (read, write):
        await serving.run(read, write, serving.create_initialization_options())


async def http(weft: AsyncWeft, port: int, *, on_start: Callable[[str], None]) -> None:
    """Serve Streamable HTTP on loopback until interrupted; `on_start` is told the address. Raises OSError."""
    app = server(weft).streamable_http_app(stateless_http=True, json_response=True)
    with socket.create_server(("127.0.0.1", port)) as listening:
        on_start(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp")
        async with weft:
            await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listening])


async def _called(weft: AsyncWeft, params: CallToolRequestParams) -> CallToolResult:
    tool = tools.every().get(params.name)
    if tool is None:
        return _refused(f"there is no tool {params.name!r}", {"code": "UNIMPLEMENTED"})
    request = GetMessageClass(tool.method.input_type)()
    try:
        json_format.ParseDict(params.arguments or {}, request)
    except json_format.ParseError as error:
        return _refused(f"INVALID_ARGUMENT: {error}", {"code": "INVALID_ARGUMENT"})
    try:
        answer: Message = await weft.call(tool.method.full_name, request)
    except WeftError as error:
        return _failed(error)
    except (OSError, ValueError):
        # The token's file is gone, or empty; which file that is, is not for a model.
        return _refused("UNAUTHENTICATED: there is no token any more", {"code": "UNAUTHENTICATED"})
    # Zeros included: a stock of 0 is an answer.
    said = json_format.MessageToDict(
        answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return CallToolResult(content=[TextContent(text=json.dumps(said, ensure_ascii=False))], structured_content=said)


def _failed(error: WeftError) -> CallToolResult:
    """A refusal in words a model can go by, and as data."""
    failure = error.failure
    data: dict[str, Any] = {"code": failure.code, "reason": failure.reason, "trace_id": failure.trace_id}
    data["violations"] = [
        *(each._asdict() for each in failure.field_violations),
        *(each._asdict() for each in failure.state_violations),
        *(each._asdict() for each in failure.limit_violations),
    ]
    words = str(error)
    if failure.retry_after is not None:
        data["retry_after_s"] = failure.retry_after
        words += f"; try again in {failure.retry_after:g} s"
    return _refused(words, {key: value for key, value in data.items() if value})


def _refused(words: str, data: dict[str, Any]) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=words)], structured_content=data, is_error=True)


def _token_of(request: Any) -> str:
    said = request.headers.get("authorization", "") if isinstance(request, Request) else ""
    scheme, _, token = said.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
