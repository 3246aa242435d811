"""Documents in etcd, read once by a command; processes that go by them follow them with an `Agent`."""

from collections.abc import Mapping

from lb.registry.etcd import Client, KeyRange
from lb.registry.keys import DOCUMENTS, document_key


async def documents(client: Client, prefix: str) -> Mapping[str, bytes]:
    """Every document whose name begins with that, by name. Raises ValueError where no name can begin so."""
    found = (await client.list(KeyRange.prefix(document_key(prefix)))).records
    return {record.key.removeprefix(DOCUMENTS).decode(): record.value for record in found}
