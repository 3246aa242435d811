"""The details of a client's call with one more entry: what an interceptor hands on that adds metadata."""

from typing import Any, NamedTuple


class _Details(NamedTuple):
    """What gRPC asks of a call's details."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


def with_entry(details: Any, key: str, value: str) -> Any:
    """The same details with this entry; as they are where the caller has given one of that key."""
    metadata = list(details.metadata or ())
    if all(each != key for each, _ in metadata):
        metadata.append((key, value))
    return _Details(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready, details.compression
    )
