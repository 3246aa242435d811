"""What tests of the cache keep in it, and who asks for it."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from svc.chassis.cache.entry import Codec, Entry, slot_of
from svc.chassis.cache.store import Cache
from svc.chassis.context import CallContext, Deadline, Principal
from weft_protos.caching import Cached, Template

KEY = b"k" * 32
TTL_S = 30
METHOD = "weft.test.v1.Test.Get"
CODEC: Codec[str] = Codec(str.encode, bytes.decode)
#: Tests run on machines that are busy; a node that is late must not look like one that is gone.
PATIENT_S = 5.0


def said(
    method: str = METHOD,
    *,
    ttl_s: float = TTL_S,
    negative_ttl_s: float = 0,
    shared: bool = True,
    schema: bytes = b"1",
) -> Cached:
    """What a contract says."""
    return Cached(
        method, ttl_s, negative_ttl_s, Template.of("{name}"), frozenset({"test"}), shared, frozenset(), schema
    )


def call(key: str = "22423", *, subject: str = "ann", within_s: float = 30) -> CallContext:
    """Somebody asks."""
    principal = Principal(subject=subject, scopes=frozenset(), session="s", actor=None, token="t")
    return CallContext("/m", principal, Deadline.after(within_s), b"", lambda: True, cache_key=key)


class Source:
    """The database behind the cache: says its value and counts who asked."""

    def __init__(self, value: str = "mug") -> None:
        self.value = value
        self.loads = 0

    def __call__(self) -> str:
        self.loads += 1
        return self.value


class Process:
    """A cache as one process has it, with one method kept in it."""

    def __init__(self, cache: Cache, kept: Cached) -> None:
        self.cache = cache
        self.said = kept
        self.entry: Entry[str] = cache.open(kept, CODEC)

    def get(self, key: str, load: object, *, subject: str = "ann", max_age_s: float = float("inf")) -> str:
        return self.entry.get_or_load(call(key, subject=subject), load, max_age_s=max_age_s)  # type: ignore[arg-type]

    def forget(self, *keys: str) -> bool:
        return self.cache.forget([self.said.method], keys)

    def slot(self, key: str) -> str:
        return slot_of(self.said.method, key)


@contextmanager
def processes() -> Iterator["Opener"]:
    """Opens processes, and closes them at the end."""
    with contextlib.ExitStack() as stack:
        yield Opener(stack)


class Opener:
    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def __call__(
        self,
        *addresses: tuple[str, int],
        kept: Cached | None = None,
        key: bytes = KEY,
        answer_s: float = PATIENT_S,
    ) -> Process:
        cache = Cache(addresses, key=key, answer_s=answer_s)
        self._stack.callback(cache.close)
        return Process(cache, kept or said())
