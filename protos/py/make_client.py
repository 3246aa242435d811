"""Writes the generated half of `weft_client` from the contracts: typed services, and an exception for each reason.

`generate.py` calls it with the descriptor set. What a method does (its deadline, its repetitions) is not written down
here: the client reads it from the same contracts when it is loaded.
"""

import keyword
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from google.api import field_behavior_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

from weft_protos import naming, policy
from weft_protos.declared import ANY_CALL

_MARK: Final = "Generated from the contracts by `make gen`; never edited."
_WIDTH: Final = 112
_OWN: Final = "weft/"
#: The client fills it in (AIP-155).
_REQUEST_ID: Final = "request_id"
_SCALARS: Final[Mapping[int, str]] = {
    FieldDescriptorProto.TYPE_STRING: "str",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_DOUBLE: "float",
    FieldDescriptorProto.TYPE_FLOAT: "float",
    # By number, or by name as in JSON.
    FieldDescriptorProto.TYPE_ENUM: "int | str",
}
#: What a service cannot be called: a client has it already.
_CLIENT: Final = frozenset({"call", "close", "services", "sign_out"})
#: What an argument cannot be called.
_TAKEN: Final = frozenset({*keyword.kwlist, "self", "timeout"})
#: Messages that Python has a type of its own for.
_KNOWN: Final[Mapping[str, tuple[str, str]]] = {
    ".google.protobuf.FieldMask": ("Sequence[str]", "from collections.abc import Sequence"),
    ".google.protobuf.Timestamp": ("datetime", "from datetime import datetime"),
    ".google.protobuf.Duration": ("timedelta", "from datetime import timedelta"),
}


class UnsupportedError(Exception):
    """A contract has what the client cannot offer; the text names it."""


@dataclass(frozen=True)
class _Types:
    """Where the messages of all files are, in Python."""

    modules: dict[str, str]
    """`.weft.catalog.v1.Product` -> `weft.catalog.v1.catalog_pb2`"""
    names: dict[str, str]
    """`.weft.orders.v1.Order.State` -> `Order.State`"""
    messages: dict[str, DescriptorProto]
    comments: dict[str, str]
    """By message, or by message and field."""

    @classmethod
    def of(cls, files: Iterable[FileDescriptorProto]) -> "_Types":
        found = cls({}, {}, {}, {})
        for file in files:
            comments = _comments(file)
            for index, message in enumerate(file.message_type):
                found._add(file, message, (), (4, index), comments)
        return found

    def _add(
        self,
        file: FileDescriptorProto,
        message: DescriptorProto,
        above: tuple[str, ...],
        path: tuple[int, ...],
        comments: Mapping[tuple[int, ...], str],
    ) -> None:
        name = f".{file.package}.{'.'.join((*above, message.name))}"
        self.modules[name] = file.name.removesuffix(".proto").replace("/", ".") + "_pb2"
        self.names[name] = ".".join((*above, message.name))
        self.messages[name] = message
        for index, one in enumerate(message.field):
            self.comments[f"{name}.{one.name}"] = comments.get((*path, 2, index), "")
        for index, nested in enumerate(message.nested_type):
            self._add(file, nested, (*above, message.name), (*path, 3, index), comments)


@dataclass
class _Module:
    """One Python file while it is written."""

    imports: set[str] = field(default_factory=set)
    _aliases: dict[str, str] = field(default_factory=dict)

    def message(self, name: str, types: _Types) -> str:
        """How a message is called in this file."""
        package, _, last = types.modules[name].rpartition(".")
        module = types.modules[name]
        if module not in self._aliases:
            alias = last if last not in self._aliases.values() else module.replace(".", "_")
            self._aliases[module] = alias
            self.imports.add(f"from {package} import {last}" + (f" as {alias}" if alias != last else ""))
        return f"{self._aliases[module]}.{types.names[name]}"


def write(descriptors: Path, folder: Path) -> None:
    """Write the package `gen` of the client to `folder`. Raises UnsupportedError."""
    files = FileDescriptorSet.FromString(descriptors.read_bytes()).file
    types = _Types.of(files)
    own = [file for file in files if file.name.startswith(_OWN)]
    folder.mkdir(parents=True, exist_ok=True)
    exceptions = _Exceptions.of(own)
    pages = {"__init__": f'"""{_MARK}"""\n', "errors": exceptions.text()}
    services: list[tuple[str, str]] = []
    for file in own:
        for index, service in enumerate(file.service):
            stem = naming.stem(file.package, service.name)
            if stem in pages or stem in _CLIENT:
                raise UnsupportedError(f"{file.package}.{service.name}: {stem} is something else on clients already")
            services.append((stem, naming.camel(stem)))
            pages[stem] = _service(file, index, types, exceptions)
    pages["services"] = _services(sorted(services))
    for name, text in pages.items():
        (folder / f"{name}.py").write_text(text)


def _comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    return {
        tuple(at.path): " ".join(at.leading_comments.split())
        for at in file.source_code_info.location
        if at.leading_comments
    }


def _docstring(lines: Iterable[str], *, indent: int) -> str:
    """A docstring of paragraphs and lists, each wrapped."""
    margin = " " * indent
    wrapped = [
        piece
        for line in lines
        for piece in (
            textwrap.wrap(line, _WIDTH - indent, subsequent_indent="    " if ":" in line[:40] else "") or [""]
        )
    ]
    text = f"\n{margin}".join(wrapped).replace("\\", "\\\\").replace('"""', "'''")
    text = re.sub(r"\n +\n", "\n\n", text)
    ending = f"\n{margin}" if len(wrapped) > 1 else ""
    return f'{margin}"""{text}{ending}"""'


@dataclass(frozen=True)
class _Exceptions:
    """The exception for each code and reason."""

    named: Mapping[tuple[str, str], str]
    said: Mapping[tuple[str, str], str]
    """When each is given, as the contracts say it."""

    @classmethod
    def of(cls, files: Iterable[FileDescriptorProto]) -> "_Exceptions":
        said: dict[tuple[str, str], dict[str, None]] = {}
        for file in files:
            for service in file.service:
                for method in service.method:
                    for error in policy.merge(service.options, method.options).errors:
                        said.setdefault((error.code, error.reason), {})[error.comment] = None
        for code, reasons in ANY_CALL.items():
            for reason in sorted(reasons):
                said.setdefault((code, reason), {})
        codes = Counter(reason for _, reason in said)
        named = {}
        for code, reason in sorted(said):
            if reason == code:
                continue  # the class of the code says it all
            shared = codes[reason] > 1
            named[code, reason] = naming.camel(reason) + (naming.camel(code) if shared else "")
        return cls(named, {key: "; ".join(filter(None, comments)) for key, comments in said.items()})

    def text(self) -> str:
        lines = [f'"""{_MARK}"""', "", "from collections.abc import Mapping", "from typing import Final", ""]
        bases = sorted({naming.camel(code) for code, _ in self.named} | {"WeftError"})
        lines += ["from weft_client.kinds import (", *(f"    {base}," for base in bases), ")", "", ""]
        shared = Counter(reason for _, reason in self.named)
        for reason in sorted(name for name, count in shared.items() if count > 1):
            lines += [f"class {naming.camel(reason)}(WeftError):", f'    """{reason}, whatever the code."""', "", ""]
        for (code, reason), name in self.named.items():
            above = f"{naming.camel(reason)}, {naming.camel(code)}" if shared[reason] > 1 else naming.camel(code)
            comment = self.said[code, reason]
            ending = f": {comment}" if comment else ""
            lines += [f"class {name}({above}):", _docstring([f"{code} {reason}{ending}."], indent=4), "", ""]
        lines.append("#: By code and reason.")
        lines.append("BY_REASON: Final[Mapping[tuple[str, str], type[WeftError]]] = {")
        lines += [f'    ("{code}", "{reason}"): {name},' for (code, reason), name in self.named.items()]
        return "\n".join([*lines, "}", ""])


def _service(file: FileDescriptorProto, index: int, types: _Types, exceptions: _Exceptions) -> str:
    service, comments, module = file.service[index], _comments(file), _Module()
    stem = naming.stem(file.package, service.name)
    own = file.name.removesuffix(".proto").replace("/", ".") + "_pb2"
    package, _, last = own.rpartition(".")
    module.imports.update({f"from {package} import {last}", "from weft_client.calls import AsyncCalls, Calls, bound"})
    module._aliases[own] = last
    blocks = []
    for asynchronous in (False, True):
        calls, prefix = ("AsyncCalls", "Async") if asynchronous else ("Calls", "")
        lines = [
            f"class {prefix}{naming.camel(stem)}:",
            _docstring([comments.get((6, index), service.name)], indent=4),
            "",
            f"    def __init__(self, calls: {calls}) -> None:",
            f'        self._calls = bound(calls, {last}.DESCRIPTOR.services_by_name["{service.name}"])',
        ]
        for number, method in enumerate(service.method):
            comment = comments.get((6, index, 2, number), "")
            lines += ["", *_method(service, method, comment, _Writing(types, exceptions, module, asynchronous))]
        blocks.append("\n".join(lines))
    head = [f'"""{service.name}. {_MARK}"""', "", *sorted(module.imports)]
    return "\n".join(head) + "\n\n\n" + "\n\n\n".join(blocks) + "\n"


@dataclass(frozen=True)
class _Writing:
    types: _Types
    exceptions: _Exceptions
    module: _Module
    asynchronous: bool


def _method(
    service: ServiceDescriptorProto, method: MethodDescriptorProto, comment: str, writing: _Writing
) -> Iterator[str]:
    if method.client_streaming:
        raise UnsupportedError(f"{service.name}.{method.name} streams its requests, which no client of Weft does")
    types, module = writing.types, writing.module
    fields = types.messages[method.input_type].field
    required = [one for one in fields if _is_required(one)]
    others = [one for one in fields if not _is_required(one)]
    arguments = ["self", *(f"{_argument(one.name)}: {_type(one, method.input_type, writing)}" for one in required), "*"]
    arguments += [f"{_argument(one.name)}: {_type(one, method.input_type, writing)} | None = None" for one in others]
    arguments.append("timeout: float | None = None")
    answer = module.message(method.output_type, types)
    kind, await_ = "", "await " if writing.asynchronous else ""
    if method.server_streaming:
        kind, await_ = ("AsyncIterator" if writing.asynchronous else "Iterator"), ""
        module.imports.add(f"from collections.abc import {kind}")
        answer = f"{kind}[{answer}]"
    start = "async def" if await_ else "def"
    yield f"    {start} {naming.snake(method.name)}("
    yield from (f"        {argument}," for argument in arguments)
    yield f"    ) -> {answer}:"
    errors = policy.merge(service.options, method.options).errors
    raised = [
        f"{writing.exceptions.named.get((error.code, error.reason), naming.camel(error.code))}: {error.comment}"
        for error in errors
    ]
    lines = [comment or method.name, ""]
    lines += [
        f"{_argument(one.name)}: {types.comments[f'{method.input_type}.{one.name}']}" for one in (*required, *others)
    ]
    lines.append("timeout: seconds for the whole call, repetitions included; the contract's where it is not said")
    lines += ["", "Raises:", *(f"    {line}" for line in raised)] if raised else []
    yield _docstring(lines, indent=8)
    given = ", ".join(f'"{one.name}": {_argument(one.name)}' for one in fields)
    send = "stream" if method.server_streaming else "call"
    yield f"        fields = {{{given}}}"
    yield f'        answer: {answer} = {await_}self._calls.{send}("{method.name}", fields, timeout=timeout)'
    yield "        return answer"


def _argument(name: str) -> str:
    return f"{name}_" if name in _TAKEN else name


def _is_required(one: FieldDescriptorProto) -> bool:
    behaviour = one.options.Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviour and one.name != _REQUEST_ID


def _type(one: FieldDescriptorProto, holder: str, writing: _Writing) -> str:
    """The Python type of an argument."""
    imports = writing.module.imports
    if one.type == FieldDescriptorProto.TYPE_MESSAGE:
        message = writing.types.messages[one.type_name]
        if message.options.map_entry:
            imports.add("from collections.abc import Mapping")
            key, value = (_type(part, one.type_name, writing) for part in message.field)
            return f"Mapping[{key}, {value}]"
        plain = writing.module.message(one.type_name, writing.types)
        if one.type_name in _KNOWN:
            known, needed = _KNOWN[one.type_name]
            imports.add(needed)
            plain = f"{plain} | {known}"
        else:
            imports.update({"from collections.abc import Mapping", "from typing import Any"})
            plain = f"{plain} | Mapping[str, Any]"
    else:
        plain = _SCALARS.get(one.type, "int")
    if one.label == FieldDescriptorProto.LABEL_REPEATED:
        imports.add("from collections.abc import Sequence")
        return f"Sequence[{plain}]"
    return plain


def _services(services: list[tuple[str, str]]) -> str:
    lines = [f'"""{_MARK}"""', "", "from weft_client.calls import AsyncCalls, Calls"]
    lines += [f"from weft_client.gen.{stem} import Async{name}, {name}" for stem, name in services]
    for prefix in ("", "Async"):
        lines += ["", "", f"class {prefix}Services:", '    """Every service of the contracts."""', ""]
        lines.append(f"    def __init__(self, calls: {prefix}Calls) -> None:")
        lines += [f"        self.{stem} = {prefix}{name}(calls)" for stem, name in services]
    return "\n".join([*lines, ""])
