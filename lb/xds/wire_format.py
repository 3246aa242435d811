"""Protobuf's wire format, as far as responses are put together by hand: length-delimited fields, one after the other.

A resource is serialised once; a response is its head followed by the bytes of its resources, because concatenated
fields of a protobuf message are that message.
"""

from typing import Final

#: Tags of length-delimited fields: `Any`, DiscoveryResponse.resources and Resource.resource share theirs.
_TYPE_URL: Final = b"\x0a"
_VALUE: Final = b"\x12"
_ANY: Final = b"\x12"
_RESOURCE: Final = b"\x12"
_RESOURCE_VERSION: Final = b"\x0a"
_RESOURCE_NAME: Final = b"\x1a"


def field(tag: bytes, content: bytes) -> bytes:
    """One length-delimited field."""
    size = len(content)
    if size < 0x80:
        return b"%b%c%b" % (tag, size, content)
    length = bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return b"".join((tag, length, content))


def text(tag: bytes, content: str) -> bytes:
    """One string field."""
    return field(tag, content.encode())


def packed(type_url: str, content: bytes) -> bytes:
    """A resource as the field of a DiscoveryResponse: a google.protobuf.Any."""
    return field(_ANY, text(_TYPE_URL, type_url) + field(_VALUE, content))


def named(name: str, version: str, any_field: bytes) -> bytes:
    """A resource as the field of a DeltaDiscoveryResponse; `any_field` is what `packed` made."""
    return field(_RESOURCE, text(_RESOURCE_VERSION, version) + any_field + text(_RESOURCE_NAME, name))
