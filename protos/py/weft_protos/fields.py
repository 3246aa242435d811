"""What a contract says of a field beside its type."""

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor

from buf.validate import validate_pb2
from buf.validate.validate_pb2 import FieldRules


def rules_of(field: FieldDescriptor) -> FieldRules:
    """The field's protovalidate rules."""
    found: FieldRules = field.GetOptions().Extensions[validate_pb2.field]
    return found


def behaviour_of(field: FieldDescriptor) -> frozenset[int]:
    """The field's `google.api.field_behavior` (AIP-203)."""
    return frozenset(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])
