"""Methods that the contracts offer to language models: what each is called, what it takes, what it may do.

A tool is a method with `mcp` in its policy. Everything a model is told follows from the contract.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from weft_protos import comments, json_schema, naming, policy


@dataclass(frozen=True, slots=True)
class Tool:
    """One method, as a model sees it."""

    name: str
    """`orders_place_order`"""
    description: str
    schema: Mapping[str, Any]
    """JSON Schema of the arguments."""
    reads: bool
    """It changes nothing."""
    destroys: bool
    """It may change or remove what is there already, and not only add to it."""
    repeatable: bool
    """Calling it twice with the same arguments is the same as calling it once."""
    method: MethodDescriptor


@cache
def every() -> Mapping[str, Tool]:
    """The tools of the linked contracts, by name."""
    found = [
        _tool(method)
        for service in policy.SERVICES
        for method in service.methods
        if policy.effective(method).HasField("mcp")
    ]
    return {tool.name: tool for tool in found}


def _tool(method: MethodDescriptor) -> Tool:
    rules, options = policy.effective(method), method.GetOptions()
    service = method.containing_service
    level = options.idempotency_level
    verb, custom = _http(options)
    reads = level == MethodOptions.NO_SIDE_EFFECTS or verb == "get"
    return Tool(
        name=f"{naming.stem(service.file.package, service.name)}_{naming.snake(method.name)}",
        description=rules.mcp.description or comments.method(method) or method.name,
        schema=json_schema.of(method.input_type),
        reads=reads,
        # AIP-136: a custom verb acts on what is there; a plain POST adds to a collection (AIP-133).
        destroys=not reads and (verb != "post" or custom),
        repeatable=reads or level == MethodOptions.IDEMPOTENT,
        method=method,
    )


def _http(options: MethodOptions) -> tuple[str, bool]:
    """The verb of its JSON form, and whether its path ends with a verb of its own."""
    rule = options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern") or ""
    path = getattr(rule, verb) if verb and verb != "custom" else ""
    return verb, ":" in path.rpartition("}")[2].rpartition("/")[2]
