"""Which node has a key: rendezvous hashing (Thaler and Ravishankar, 1998). Pure."""

import hashlib
from collections.abc import Sequence


def choose(nodes: Sequence[str], key: str) -> str:
    """The key's node. Without a node only its own keys move, and evenly; the order of the nodes says nothing."""
    return max(nodes, key=lambda node: hashlib.blake2b(f"{node}\0{key}".encode(), digest_size=8).digest())
