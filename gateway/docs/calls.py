"""One example request as commands that can be pasted into a shell: gRPC, gRPC-web and JSON. Pure."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from google.protobuf import json_format
from google.protobuf.message import Message

from gateway.contract import Binding
from gateway.policy import Rpc

#: Where the local profile listens.
GATEWAY: Final = "http://127.0.0.1:8080"
#: Printed between double quotes, so that the shell fills it in: no token stands in a page.
_TOKEN: Final = '-H "authorization: Bearer $TOKEN"'
_VARIABLE: Final = re.compile(r"\{([^}=]+)(?:=[^}]*)?\}")


@dataclass(frozen=True, slots=True)
class Example:
    """One command."""

    protocol: str
    command: str
    body: str
    """The JSON document in it; empty where there is none."""


def examples(rpc: Rpc, request: Message, file: str) -> tuple[Example, ...]:
    """The same call in every protocol; `file` is the contract's, as contracts import it."""
    body = json.dumps(json_format.MessageToDict(request), ensure_ascii=False)
    url = f"{GATEWAY}/{rpc.name}"
    token = () if rpc.policy.public else (_TOKEN,)
    data = f"-d {shlex.quote(body)}"
    h2 = "--http2-prior-knowledge"
    curl = ("buf curl --schema .", f"--protocol grpc {h2}", *token, data, url)
    roots = "-import-path protos -import-path protos/third_party"
    host = GATEWAY.removeprefix("http://")
    grpcurl = (f"grpcurl -plaintext {roots} -proto {file}", *token, data, host, rpc.name)
    web = ("buf curl --schema .", "--protocol grpcweb", *token, data, url)
    found = [
        Example("gRPC, buf", _lines(curl), body),
        Example("gRPC, grpcurl", _lines(grpcurl), body),
        Example("gRPC-web, buf", _lines(web), body),
    ]
    return (*found, *(_json(binding, request, token) for binding in rpc.method.bindings))


def _json(binding: Binding, request: Message, token: tuple[str, ...]) -> Example:
    said: dict[str, Any] = json_format.MessageToDict(request, preserving_proto_field_name=True)
    path = _VARIABLE.sub(lambda match: quote(str(_taken(said, match[1].split("."))), safe="/"), binding.template)
    body = ""
    if binding.body == "*":
        body, said = json.dumps(_spelt(request, said), ensure_ascii=False), {}
    elif binding.body:
        inside = getattr(request, binding.body)
        body = json.dumps(_spelt(inside, said.pop(binding.body, {})), ensure_ascii=False)
    query = urlencode(list(_query(said)))
    url = shlex.quote(f"{GATEWAY}{path}{'?' if query else ''}{query}")
    data = ("-H 'content-type: application/json'", f"-d {shlex.quote(body)}") if body else ()
    verb = "" if binding.verb == ("POST" if body else "GET") else f" -X {binding.verb}"
    return Example("JSON, curl", _lines((f"curl{verb}", *token, *data, url)), body)


def _taken(said: dict[str, Any], path: list[str]) -> Any:
    """Take the value out: what travels in the path travels nowhere else."""
    *holders, leaf = path
    for holder in holders:
        said = said.get(holder, {})
    return said.pop(leaf, "")


def _spelt(request: Message, said: Mapping[str, Any]) -> Any:
    """The rest of the request as ProtoJSON spells it."""
    rest = type(request)()
    json_format.ParseDict(dict(said), rest)
    return json_format.MessageToDict(rest)


def _query(said: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in said.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                yield from _query(each, f"{above}{name}.")
            else:
                yield f"{above}{name}", str(each).lower() if isinstance(each, bool) else str(each)


def _lines(parts: tuple[str, ...]) -> str:
    return " \\\n  ".join(parts)
