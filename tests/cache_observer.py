"""An observer of the cache that shares no code with it: it reads the nodes and the table, and says what does not agree.

It knows how a slot is named and how a value is sealed from their description alone, asks the nodes as anybody on the
machine can, and compares what it finds with the rows. A change and the end of what it makes outdated are two moments,
so an entry is only accused when it was found older than the row twice, further apart than a healthy mesh needs.

Used by tests against a running mesh; `Observer.look` costs a round trip for each row and node.
"""

import contextlib
import hashlib
import hmac
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import DescriptorProto
from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheUnexpectedCloseError

from weft.catalog.v1 import catalog_pb2

METHOD = "weft.catalog.v1.CatalogService.GetProduct"
ANSWER_S = 1.0
_AWAY = (OSError, MemcacheUnexpectedCloseError)
HEADER = struct.Struct(">BIIq")
MAC_BYTES = 32
ABSENT = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One entry that is not what the row says."""

    node: str
    key: str
    says: str
    """`version 17`, `absent`, or `foreign`: nothing that the mesh has written."""
    row: str


Rows = Callable[[], Mapping[str, int]]
"""Every key with the version of its row."""


class Observer:
    """Looks again and again; `findings` are those that were there twice in a row."""

    def __init__(
        self,
        nodes: Sequence[tuple[str, int]],
        rows: Rows,
        *,
        secret: bytes,
        method: str = METHOD,
        schema: str = "",
    ) -> None:
        """`secret`: what `cache.key` holds; `schema`: digest of the answer's form, by default that of a product."""
        self._nodes = list(nodes)
        self._rows = rows
        self._key = hmac.digest(secret, b"weft cache value", "sha256")
        self._method = method
        self._schema = schema or digest_of(catalog_pb2.Product.DESCRIPTOR)
        self._suspected: set[Finding] = set()
        self._keys: set[str] = set()
        self.seen = 0
        """Entries that were looked at: an observer that has seen none has shown nothing."""

    def look(self) -> list[Finding]:
        """Compare once; those that were found before as well, with the very same row, are returned."""
        # The nodes first: a row that changes in between makes an entry look too old, never too new.
        self._keys |= set(self._rows())
        entries = self.entries(sorted(self._keys))
        rows = self._rows()
        found = set()
        for node, key, says in entries:
            self.seen += 1
            row = f"version {rows[key]}" if key in rows else "absent"
            if says != row:
                found.add(Finding(node, key, says, row))
        accused = sorted(found & self._suspected, key=lambda each: (each.node, each.key))
        self._suspected = found
        return accused

    def entries(self, keys: Sequence[str]) -> list[tuple[str, str, str]]:
        """Node, key and what lies there, of each of these that any node has."""
        return list(self._found(keys))

    def _found(self, keys: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        for host, port in self._nodes:
            # A node that is away, or goes while it is asked, holds nothing that anybody reads.
            with contextlib.suppress(*_AWAY), contextlib.closing(Client((host, port), timeout=ANSWER_S)) as client:
                for key in keys:
                    value = client.get(self.slot(key))
                    if value:
                        yield f"{host}:{port}", key, self._read(self.slot(key), value)

    def slot(self, key: str) -> str:
        """What a node calls an entry."""
        return f"{self._method}:{hashlib.blake2b(key.encode(), digest_size=20).hexdigest()}"

    def _read(self, slot: str, raw: bytes) -> str:
        mac, content = raw[:MAC_BYTES], raw[MAC_BYTES:]
        where = f"{slot}\n{self._schema}\n".encode()
        expected = hmac.digest(self._key, len(where).to_bytes(4, "big") + where + content, "sha256")
        if not hmac.compare_digest(mac, expected):
            return "foreign"
        kind, _, _, version = HEADER.unpack_from(content)
        return "absent" if kind == ABSENT else f"version {version}"


def products(url: str) -> Rows:
    """The catalog's table, as `Observer` wants it: name and microseconds of the last change."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)  # nothing is left open
    query = sa.text("SELECT id, (extract(epoch FROM update_time) * 1000000)::bigint AS version FROM products")

    def read() -> Mapping[str, int]:
        with engine.connect() as connection:
            return {f"products/{row.id}": row.version for row in connection.execute(query)}

    return read


def digest_of(message: Descriptor) -> str:
    """Digest of a message type and of all types inside of it, depth first from the last field."""
    digest = hashlib.blake2b(digest_size=16)
    seen: set[str] = set()
    pending = [message]
    while pending:
        here = pending.pop()
        if here.full_name not in seen:
            seen.add(here.full_name)
            said = DescriptorProto()
            here.CopyToProto(said)
            digest.update(here.full_name.encode() + said.SerializeToString(deterministic=True))
            pending += [field.message_type for field in here.fields if field.message_type is not None]
    return digest.hexdigest()
