"""Events as columns: the schema of an event type's files follows from its contract.

    event_id, event_time, event_source, event_subject, event_actor      of the envelope
    the fields of the payload, by their names                           messages are structs, repeated ones lists

Fields may be added to a contract at any time: files of before lack them, and `conform` reads them as absent. Files of a
later release, which runs beside this one or was taken back, have fields that this one does not know; where such files
are merged, `widened` keeps them. What the contracts mark sensitive is not kept: `worker.handlers.archive.handler` has
it redacted before it comes here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final, cast

import pyarrow as pa
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from worker.delivery import Event, timestamp

_TIMESTAMP: Final = "google.protobuf.Timestamp"
_MOMENT: Final = pa.timestamp("us", tz="UTC")
_ENVELOPE: Final = (
    pa.field("event_id", pa.string(), nullable=False),
    pa.field("event_time", _MOMENT, nullable=False),
    pa.field("event_source", pa.string(), nullable=False),
    pa.field("event_subject", pa.string(), nullable=False),
    pa.field("event_actor", pa.string(), nullable=False),
)
_SCALARS: Final = {
    FieldDescriptor.CPPTYPE_BOOL: pa.bool_(),
    FieldDescriptor.CPPTYPE_DOUBLE: pa.float64(),
    FieldDescriptor.CPPTYPE_ENUM: pa.string(),
    FieldDescriptor.CPPTYPE_FLOAT: pa.float32(),
    FieldDescriptor.CPPTYPE_INT32: pa.int32(),
    FieldDescriptor.CPPTYPE_INT64: pa.int64(),
    FieldDescriptor.CPPTYPE_UINT32: pa.uint32(),
    FieldDescriptor.CPPTYPE_UINT64: pa.uint64(),
}


@cache
def schema(payload: Descriptor) -> pa.Schema:
    """The columns of an event type."""
    return pa.schema([*_ENVELOPE, *_fields(payload)])


def table(events: Sequence[Event]) -> pa.Table:
    """Events of one type as rows, in their order."""
    rows = []
    for event in events:
        row = {
            "event_id": event.id,
            "event_time": event.occur_time,
            "event_source": event.source,
            "event_subject": event.subject,
            "event_actor": event.actor,
        }
        rows.append(row | _struct(event.payload))
    return pa.Table.from_pylist(rows, schema(cast(Descriptor, events[0].payload.DESCRIPTOR)))


def widened(known: pa.Schema, found: Sequence[pa.Schema]) -> pa.Schema:
    """Those columns, and all that only files have, inside of messages as well."""
    for schema in found:
        known = pa.schema(_with_others(known, schema))
    return known


def conform(found: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Rows of a file in the wanted columns, which are all that it has or more: what was not there is absent."""
    columns = []
    for field in wanted:
        if field.name in found.column_names:
            columns.append(found.column(field.name).cast(field.type))
        else:
            columns.append(pa.chunked_array([pa.nulls(found.num_rows, field.type)]))
    return pa.Table.from_arrays(columns, schema=wanted)


def _with_others(known: Iterable[pa.Field], found: Iterable[pa.Field]) -> list[pa.Field]:
    others = {field.name: field for field in found}
    kept = [
        field.with_type(_wide(field.type, others.pop(field.name).type)) if field.name in others else field
        for field in known
    ]
    return [*kept, *(pa.field(field.name, field.type) for field in others.values())]


def _wide(known: pa.DataType, found: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(known) and pa.types.is_struct(found):
        return pa.struct(_with_others(known, found))
    if pa.types.is_list(known) and pa.types.is_list(found):
        return pa.list_(_wide(known.value_type, found.value_type))
    return known


def _fields(message: Descriptor) -> list[pa.Field]:
    return [pa.field(field.name, _type(field)) for field in message.fields]


def _type(field: FieldDescriptor) -> pa.DataType:
    single = _single(field)
    return pa.list_(single) if field.is_repeated else single


def _single(field: FieldDescriptor) -> pa.DataType:
    if field.message_type is not None:
        if field.message_type.full_name == _TIMESTAMP:
            return _MOMENT
        return pa.struct(_fields(field.message_type))
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return pa.binary() if field.type == FieldDescriptor.TYPE_BYTES else pa.string()
    return _SCALARS[field.cpp_type]


def _struct(message: Message) -> dict[str, Any]:
    return {field.name: _value(message, field) for field in cast(Descriptor, message.DESCRIPTOR).fields}


def _value(message: Message, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        return [_one(field, item) for item in value]
    if field.message_type is None:
        return _one(field, value)
    if not message.HasField(field.name):
        return None
    return timestamp(message, field.name) if field.message_type.full_name == _TIMESTAMP else _struct(value)


def _one(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Message):
        return _struct(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return str(value) if known is None else known.name
    return value
