"""Documents in etcd, read or replaced once by a command; processes that go by them follow them."""

from collections.abc import Mapping
from typing import Final

from lb.errors import EtcdUnavailableError
from lb.registry.etcd import Client, Expect, KeyRange, Put
from lb.registry.keys import DOCUMENTS, document_key

#: Writers that race for a document: the loser looks again so many times.
_CAS_ATTEMPTS: Final = 5


async def documents(client: Client, prefix: str) -> Mapping[str, bytes]:
    """Every document whose name begins with that, by name. Raises ValueError where no name can begin so."""
    found = (await client.list(KeyRange.prefix(document_key(prefix)))).records
    return {record.key.removeprefix(DOCUMENTS).decode(): record.value for record in found}


async def replace(client: Client, name: str, value: bytes) -> bool:
    """Put a document in the place of what is there; whether that was another. Raises ValueError and EtcdError."""
    key = document_key(name)
    for _ in range(_CAS_ATTEMPTS):
        current = await client.get(key)
        if current is not None and current.value == value:
            return False
        if await client.commit([Expect(key, current.mod_revision if current else 0)], [Put(key, value)]):
            return True
    raise EtcdUnavailableError(f"others keep replacing the document {name}; try again")
