"""Layout of everything below `/weft` in etcd, and the codec of endpoints. Pure.

Instances, control planes and the publishing commands all take their keys from here. An entry is used only if key and
value say the same and the endpoint is one a client may be sent to; anything else is refused with a reason.
"""

import re
from datetime import UTC
from typing import Final

from google.protobuf import json_format

from lb.endpoint import Endpoint, ServiceName
from lb.errors import EntryRefusedError
from weft.mesh.v1 import registry_pb2

ENDPOINTS: Final = b"/weft/endpoints/"
DOCUMENTS: Final = b"/weft/documents/"
BLOBS: Final = b"/weft/xds/blob/"
CURRENT: Final = b"/weft/xds/current"
HISTORY: Final = b"/weft/xds/history/"

CONTROL_PLANES: Final = b"/weft/status/control-plane/"
LEFT: Final = b"/weft/left/"

#: The gateways' own cluster, kept by the control planes they are connected to.
EDGE: Final = ServiceName("edge")

_ENDPOINT_BYTES_MAX: Final = 4096
#: As much of a key as a log line shows.
_SHOWN_MAX: Final = 200
_DOCUMENT_NAME: Final = re.compile(r"[a-z][a-z0-9.-]{0,62}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_HISTORY_DIGITS: Final = 10


def endpoint_key(service: str, instance: str) -> bytes:
    """Key under which an instance announces itself."""
    return ENDPOINTS + f"{service}/{instance}".encode()


def left_key(service: str, instance: str, control_plane: str = "") -> bytes:
    """Key of a control plane's answer to an instance's goodbye: its clients do not have it any more.

    Without a control plane: what the keys of all answers begin with.
    """
    return LEFT + f"{service}/{instance}/{control_plane}".encode()


def document_key(name: str) -> bytes:
    """Key of a published document. Raises ValueError."""
    if not _DOCUMENT_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a document name")
    return DOCUMENTS + name.encode()


def status_key(instance: str) -> bytes:
    """Key of a control plane's status document."""
    return CONTROL_PLANES + instance.encode()


def blob_key(digest: str) -> bytes:
    """Key of a content-addressed piece. Raises ValueError."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is not a SHA-256 in hexadecimal")
    return BLOBS + digest.encode()


def history_key(number: int) -> bytes:
    """Key of one entry of the history of published manifests."""
    return HISTORY + str(number).zfill(_HISTORY_DIGITS).encode()


def history_number(key: bytes) -> int:
    """Number of a history entry; -1 where the key is none."""
    digits = key.removeprefix(HISTORY)
    return int(digits) if digits.isdigit() else -1


def encode(endpoint: Endpoint) -> bytes:
    """Value of an endpoint: ProtoJSON, so that etcdctl shows it."""
    message = registry_pb2.Endpoint(
        service=endpoint.service,
        instance=endpoint.instance,
        address=endpoint.address,
        port=endpoint.port,
        version=endpoint.version,
        zone=endpoint.zone,
        lane=endpoint.lane,
        leaving=endpoint.leaving,
    )
    if endpoint.start_time is not None:
        message.start_time.FromDatetime(endpoint.start_time.astimezone(UTC))
    text = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)
    return text.encode()


def shown(key: bytes) -> str:
    """A key as logs show it: whoever wrote it chose its length and its bytes."""
    return key[:_SHOWN_MAX].decode(errors="replace")


def says_goodbye(value: bytes) -> bool:
    """Whether an endpoint's value says that the instance leaves. False for what is no endpoint."""
    message = _said(value)
    return message is not None and bool(message.leaving)


def takes_over(value: bytes) -> bool:
    """Whether an endpoint's value is that of an instance that others' calls can go to: of no lane, and not leaving."""
    message = _said(value)
    return message is None or not (message.leaving or message.lane)


def _said(value: bytes) -> registry_pb2.Endpoint | None:
    message = registry_pb2.Endpoint()
    try:
        json_format.Parse(value[:_ENDPOINT_BYTES_MAX].decode(), message, ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, RecursionError):
        return None
    return message


def decode(key: bytes, value: bytes, *, lease: int) -> Endpoint:
    """Read one registry entry. Raises EntryRefusedError: nothing of a refused entry may be used."""
    if lease == 0:
        raise EntryRefusedError("no_lease", f"{key!r} would never expire")
    if len(value) > _ENDPOINT_BYTES_MAX:
        raise EntryRefusedError("too_large", f"{key!r} holds {len(value)} bytes")
    message = registry_pb2.Endpoint()
    try:
        # An instance of a later version may say more than this one understands.
        json_format.Parse(value.decode(), message, ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise EntryRefusedError("not_an_endpoint", f"{key!r}: {error.__class__.__name__}") from error
    if key != endpoint_key(message.service, message.instance):
        raise EntryRefusedError("key_differs", f"{key!r} holds {message.service!r}/{message.instance!r}")
    try:
        start = message.start_time.ToDatetime(UTC) if message.HasField("start_time") else None
        return Endpoint(
            service=ServiceName(message.service),
            instance=message.instance,
            address=message.address,
            port=message.port,
            version=message.version,
            start_time=start,
            zone=message.zone,
            lane=message.lane,
            leaving=message.leaving,
        )
    except (ValueError, OverflowError) as error:
        raise EntryRefusedError("bad_value", f"{key!r}: {error}") from error
