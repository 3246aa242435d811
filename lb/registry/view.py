"""What a directory knows of a range: lists and watch events in, records out. Pure.

Invariant: records change only by a list that etcd answered, or by an event that is newer than what is known. A list
that is older than what was seen before means that etcd lost its history; the caller is told so.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from lb.registry.etcd import Change, Listing, Record


class View:
    """Records of one range, at one revision of one cluster's history."""

    def __init__(self) -> None:
        self._records: dict[bytes, Record] = {}
        self._listed = 0
        self._cluster: int | None = None
        self.revision = 0

    @property
    def loaded(self) -> bool:
        """True once a list was adopted."""
        return self._cluster is not None

    def records(self) -> Mapping[bytes, Record]:
        """An immutable copy."""
        return MappingProxyType(dict(self._records))

    def lost_by(self, listing: Listing, *, since: int) -> bool:
        """True where the list belongs to another history than the one known up to revision `since`."""
        return self._cluster is not None and (listing.cluster != self._cluster or listing.revision < since)

    def adopt(self, listing: Listing) -> bool:
        """Take a list as the truth. Returns whether any value changed."""
        before = self._values()
        self._records = {record.key: record for record in listing.records}
        self._listed = self.revision = listing.revision
        first = self._cluster is None
        self._cluster = listing.cluster
        return first or before != self._values()

    def missed(self, listing: Listing) -> bool:
        """True where a list tells something that the watch should have told and did not."""
        if listing.revision < self.revision:
            return False  # events overtook the list; the next one will tell
        return {record.key: record for record in listing.records} != self._records

    def apply(self, changes: Sequence[Change]) -> bool:
        """Take events of the watch. Returns whether any value changed."""
        before = self._values()
        for change in changes:
            if change.revision <= self._listed:
                continue  # the list already said so
            if change.record is None:
                self._records.pop(change.key, None)
            else:
                self._records[change.key] = change.record
            self.revision = max(self.revision, change.revision)
        return before != self._values()

    def _values(self) -> dict[bytes, tuple[bytes, int]]:
        return {key: (record.value, record.lease) for key, record in self._records.items()}
