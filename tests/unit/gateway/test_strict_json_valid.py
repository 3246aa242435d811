"""Whatever a protobuf library writes as JSON for a valid message, the strict check takes."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.envoy import json_schema
from gateway.envoy.filters import strict_json
from gateway.policy import PolicySet

from .conftest import TESTDATA
from .script_run import EnvoySays, run_script

#: Messages in each other; the bound of the check itself is tried elsewhere.
DEPTH_MAX = 3
BATCH = 40

_STRINGS = st.text(st.characters(codec="utf-8"), max_size=12)
#: Field masks are only valid where their names survive camelCase and back.
_NAMES = st.from_regex(r"[a-z]{1,8}(_[a-z]{1,8}){0,2}", fullmatch=True)
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats(-1e15, 1e15) | _STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_STRINGS, inner, max_size=3),
    max_leaves=6,
)
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
}
#: Well-known types, as the JSON that they are made of.
_WELL_KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "Timestamp": st.datetimes().map(lambda time: f"{time.isoformat()}Z"),
    "Duration": st.decimals(-315_576_000_000, 315_576_000_000, places=9).map(lambda seconds: f"{seconds:f}s"),
    "FieldMask": st.lists(_NAMES, max_size=3).map(lambda names: ",".join(map(_camel, names))),
    "Struct": st.dictionaries(_STRINGS, _JSON, max_size=3),
    "ListValue": st.lists(_JSON, max_size=3),
    "Value": _JSON,
    "Any": st.builds(
        lambda text: {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text}, _STRINGS
    ),
}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


@st.composite
def messages(draw: Any, descriptor: Descriptor, pool: DescriptorPool, depth: int = 0) -> Message:
    """Any message of a type; at most one field of each oneof is set, as in every message."""
    message = GetMessageClass(descriptor)()
    package, _, name = descriptor.full_name.rpartition(".")
    if package == "google.protobuf" and name in _WELL_KNOWN:
        json_format.ParseDict(draw(_WELL_KNOWN[name]), message, descriptor_pool=pool)
        return message
    for field in descriptor.fields:
        if depth < DEPTH_MAX and draw(st.booleans()):
            _fill(draw, message, field, pool, depth)
    return message


def _fill(draw: Any, message: Any, field: FieldDescriptor, pool: DescriptorPool, depth: int) -> None:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        value = kind.fields_by_name["value"]
        for key in draw(st.lists(_scalars(kind.fields_by_name["key"]), max_size=2)):
            if value.message_type is None:
                getattr(message, field.name)[key] = draw(_scalars(value))
            else:
                getattr(message, field.name)[key].CopyFrom(draw(messages(value.message_type, pool, depth + 1)))
    elif kind is not None:
        many = draw(st.lists(messages(kind, pool, depth + 1), max_size=2)) if field.is_repeated else None
        if many is not None:
            getattr(message, field.name).extend(many)
        else:
            getattr(message, field.name).CopyFrom(draw(messages(kind, pool, depth + 1)))
    elif field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(_scalars(field), max_size=3)))
    else:
        setattr(message, field.name, draw(_scalars(field)))


def _scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.cpp_type in _INTEGERS:
        return _INTEGERS[field.cpp_type]
    if field.enum_type is not None:
        known = st.sampled_from([value.number for value in field.enum_type.values])
        # NullValue has one value and one form; of the others a newer client may know more than the gateway.
        return known if field.enum_type.name == "NullValue" else known | st.integers(-(2**31), 2**31 - 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=8)
    return {
        FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
        FieldDescriptor.CPPTYPE_STRING: _STRINGS,
        FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
        FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    }[field.cpp_type]


@st.composite
def sent(draw: Any, bodies: dict[str, Descriptor], pool: DescriptorPool) -> tuple[str, str]:
    """A binding, and a body for it as some client might print it."""
    binding = draw(st.sampled_from(sorted(bodies)))
    message = draw(messages(bodies[binding], pool))
    text = json_format.MessageToJson(
        message,
        preserving_proto_field_name=draw(st.booleans()),
        use_integers_for_enums=draw(st.booleans()),
        always_print_fields_with_no_presence=draw(st.booleans()),
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 2])),
        descriptor_pool=pool,
    )
    return binding, text


def _bodies(policies: PolicySet) -> tuple[dict[str, Descriptor], DescriptorPool]:
    """The message in the body of each binding that has one."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(policies.descriptors).file:
        pool.Add(file)
    found: dict[str, Descriptor] = {}
    for rpc in policies.rpcs:
        request = pool.FindServiceByName(rpc.method.service).methods_by_name[rpc.method.name].input_type
        for binding in rpc.method.bindings:
            field = request.fields_by_name.get(binding.body)
            if binding.body == "*":
                found[json_schema.key(rpc, binding)] = request
            elif field is not None and field.message_type is not None and not field.is_repeated:
                found[json_schema.key(rpc, binding)] = field.message_type
    return found, pool


@pytest.mark.parametrize("contract", ["real", "bodies.proto"])
# Not shrunk: that takes minutes of Envoy's starts, and the refusal names the field anyway.
@settings(max_examples=12, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(data=st.data())
def test_the_json_form_of_every_message_passes(
    contract: str,
    data: st.DataObject,
    envoy_says: EnvoySays,
    policies: PolicySet,
    plant: Callable[[str], PolicySet],
) -> None:
    # Many bodies in one run: starting Envoy costs more than checking them.
    chosen = policies if contract == "real" else plant((TESTDATA / contract).read_text())
    batch = data.draw(st.lists(sent(*_bodies(chosen)), min_size=1, max_size=BATCH))
    cases: list[dict[str, Any]] = [
        {
            "name": str(number),
            "route": {"json_body": binding},
            "headers": {"content-type": "application/json"},
            "body": text.encode().decode("latin-1"),
        }
        for number, (binding, text) in enumerate(batch)
    ]

    report = run_script(envoy_says, strict_json.build(chosen), "envoy_on_request", cases)

    said = [found.get("respond body") for found in report.values()]
    assert [(None, text) for _, text in batch] == [(one, text) for one, (_, text) in zip(said, batch, strict=True)]
