"""Messages from what tests write down, their JSON form, and what one has that another has not.

Tests write dicts with the contract's field names; messages inside them are welcome. JSON here is protobuf's own with
the contract's field names: 64-bit integers are strings, bytes are base64, a Timestamp is RFC 3339.
"""

import base64
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import protovalidate
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from svc.contract_tests.errors import ContractTestError
from weft_protos import policy
from weft_protos.violations import path_of

_VALIDATOR: Final = protovalidate.Validator()
_ABSENT: Final = object()
_UNKNOWN: Final = re.compile(r'type "(?P<type>[^"]+)" has no field named "(?P<field>[^"]+)" at "(?P<place>[^"]+)"')
_CAPITAL: Final = re.compile("[A-Z]")

T = TypeVar("T")


def service_of(name: str | ServiceDescriptor) -> ServiceDescriptor:
    """The service with a full name. Raises ContractTestError."""
    __tracebackhide__ = True
    if isinstance(name, ServiceDescriptor):
        return name
    return _known(name, {service.full_name: service for service in policy.SERVICES}, "no contract has the service")


def method_of(service: ServiceDescriptor, name: str) -> MethodDescriptor:
    """The method of a service with a name. Raises ContractTestError."""
    __tracebackhide__ = True
    return _known(name, dict(service.methods_by_name), f"{service.full_name} has no method")


def _known(name: str, known: Mapping[str, T], refusal: str) -> T:
    __tracebackhide__ = True
    if name in known:
        return known[name]
    raise ContractTestError(f"{refusal} {name!r}; {_hint(name, known)}")


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}"


def _explained(error: json_format.ParseError, descriptor: Descriptor) -> str:
    """The parser's words, but for an unknown field, where it lists all that there are in another spelling."""
    unknown = _UNKNOWN.search(str(error))
    if unknown is None:
        return str(error)
    fields = descriptor.file.pool.FindMessageTypeByName(unknown["type"]).fields_by_name
    return f"{unknown['place']} has no field {unknown['field']!r}; {_hint(unknown['field'], fields)}"


def build(descriptor: Descriptor, given: Message | Mapping[str, Any], *, what: str) -> Message:
    """The message that `given` stands for; `what` names it in errors. Raises ContractTestError."""
    __tracebackhide__ = True
    if isinstance(given, Message):
        if given.DESCRIPTOR.full_name != descriptor.full_name:
            raise ContractTestError(f"{what} is a {descriptor.full_name}, not a {given.DESCRIPTOR.full_name}")
        return given
    message = GetMessageClass(descriptor)()
    try:
        json_format.ParseDict(_plain(given), message)
    except json_format.ParseError as error:
        raise ContractTestError(f"{what} is not a {descriptor.full_name}: {_explained(error, descriptor)}") from None
    return message


def refuse_invalid(message: Message, *, what: str) -> None:
    """Raise ContractTestError where a message breaks the rules of its contract."""
    __tracebackhide__ = True
    broken = [f"{path_of(one) or 'as a whole'}: {one.proto.message}" for one in _VALIDATOR.collect_violations(message)]
    if broken:
        raise ContractTestError(f"{what} breaks the contract's rules:\n" + "\n".join(f"    {line}" for line in broken))


def stated(message: Message, given: Message | Mapping[str, Any]) -> dict[str, Any]:
    """JSON of what `given` says of a message: a zero that a dict states is in it, one that is only left out is not."""
    if isinstance(given, Message):
        said: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
        return said
    chosen: dict[str, Any] = _chosen(complete(message), given)
    return chosen


def complete(message: Message) -> dict[str, Any]:
    """JSON of a message, zeros included."""
    found: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


def differences(expected: Any, actual: Any, path: str = "") -> Iterator[str]:
    """Where `actual` is not what `expected` states. What `expected` is silent about may be anything."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for key, value in expected.items():
            yield from differences(value, actual.get(key, _ABSENT), f"{path}.{key}" if path else key)
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield f"{path}: expected {len(expected)} entries, was {len(actual)}"
        for index, (one, other) in enumerate(zip(expected, actual, strict=False)):
            yield from differences(one, other, f"{path}[{index}]")
    elif expected != actual:
        yield f"{path}: expected {shown(expected)}, was {'absent' if actual is _ABSENT else shown(actual)}"


def surplus(expected: Any, actual: Any, path: str = "") -> Iterator[str]:
    """What `actual` has and `expected` is silent about."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for key, value in actual.items():
            here = f"{path}.{key}" if path else key
            if key in expected:
                yield from surplus(expected[key], value, here)
            else:
                yield f"{here}: not expected, was {shown(value)}"
    elif isinstance(expected, list) and isinstance(actual, list):
        for index, (one, other) in enumerate(zip(expected, actual, strict=False)):
            yield from surplus(one, other, f"{path}[{index}]")


def shown(value: Any) -> str:
    """A JSON value on one line."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _chosen(whole: Any, given: Any) -> Any:
    """The part of a JSON value that a test wrote down."""
    if isinstance(given, Message):
        return json_format.MessageToDict(given, preserving_proto_field_name=True)
    if isinstance(given, Mapping) and isinstance(whole, Mapping):
        # ParseDict takes lowerCamelCase as well.
        names = {key: key if key in whole else _CAPITAL.sub(r"_\g<0>", key).lower() for key in map(str, given)}
        return {
            names[str(key)]: _chosen(whole[names[str(key)]], value) for key, value in given.items() if value is not None
        }
    if isinstance(given, Sequence) and not isinstance(given, str | bytes) and isinstance(whole, list):
        return [_chosen(one, other) for one, other in zip(whole, given, strict=True)]
    return whole


def _plain(value: Any) -> Any:
    """What ParseDict takes."""
    if isinstance(value, Message):
        return json_format.MessageToDict(value, preserving_proto_field_name=True)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
