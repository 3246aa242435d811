"""Who wants to hear of which resource: an index by type and name, so that a change finds its subscribers at once."""

from collections.abc import Callable, Iterable

from lb.xds.conversation import WILDCARD
from lb.xds.snapshot import Changes

#: Told of names of one type that have changed.
Told = Callable[[str, Iterable[str]], None]


class Subscribers:
    """All streams of one kind of client. All methods belong to one event loop."""

    def __init__(self) -> None:
        self._watches: set[Subscriber] = set()
        self._by_name: dict[str, dict[str, set[Subscriber]]] = {}

    def open(self, told: Told) -> "Subscriber":
        """A stream began; `told` hears of what it adds to its watch, and with no names once there is a snapshot."""
        watch = Subscriber(self, told)
        self._watches.add(watch)
        return watch

    def close(self, watch: "Subscriber") -> None:
        """The stream has ended."""
        self._watches.discard(watch)
        for type_url, names in watch.names.items():
            self.unregister(watch, type_url, names)

    def tell(self, changes: Changes) -> None:
        """Tell whoever wants to know of changes, each stream once for each type."""
        for type_url, names in changes.items():
            by_name = self._by_name.get(type_url)
            if by_name is None:
                continue
            everything = by_name.get(WILDCARD, set())
            touched: dict[Subscriber, list[str]] = {}
            for name in names:
                for watch in by_name.get(name, ()):
                    if watch not in everything:
                        touched.setdefault(watch, []).append(name)
            for watch in everything:
                watch.told(type_url, names)
            for watch, found in touched.items():
                watch.told(type_url, found)

    def tell_all(self) -> None:
        """Have every stream look at what there is: something is served for the first time."""
        for watch in self._watches:
            watch.told("", ())

    def register(self, watch: "Subscriber", type_url: str, names: Iterable[str]) -> None:
        """Tell this stream of these names from now on."""
        by_name = self._by_name.setdefault(type_url, {})
        for name in names:
            by_name.setdefault(name, set()).add(watch)

    def unregister(self, watch: "Subscriber", type_url: str, names: Iterable[str]) -> None:
        """Tell this stream no more of these names."""
        by_name = self._by_name.get(type_url, {})
        for name in names:
            found = by_name.get(name)
            if found is not None:
                found.discard(watch)
                if not found:
                    del by_name[name]


class Subscriber:
    """The names one stream wants to hear of."""

    __slots__ = ("_of", "names", "told")

    def __init__(self, of: Subscribers, told: Told) -> None:
        self._of = of
        self.told = told
        self.names: dict[str, set[str]] = {}

    def add(self, type_url: str, names: Iterable[str]) -> None:
        """Hear of these from now on."""
        names = set(names)
        self.names.setdefault(type_url, set()).update(names)
        self._of.register(self, type_url, names)

    def remove(self, type_url: str, names: Iterable[str]) -> None:
        """Hear no more of these."""
        names = set(names)
        self.names.get(type_url, set()).difference_update(names)
        self._of.unregister(self, type_url, names)
