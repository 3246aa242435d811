"""What a directory knows of a range: lists and watch events in, records out. Pure.

Invariant: records change only by a list that etcd answered, or by an event that is newer than what is known. A list
that is older than what was seen before means that etcd lost its history; the caller is told so.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from lb.registry.etcd import Change, Listing, News, Record


class View:
    """Records of one range, at one revision of one cluster's history."""

    def __init__(self) -> None:
        self._records: dict[bytes, Record] = {}
        self._proxy = MappingProxyType(self._records)
        self._listed = 0
        self._cluster: int | None = None
        self._term: int | None = None
        self.revision = 0

    @property
    def loaded(self) -> bool:
        """True once a list was adopted."""
        return self._cluster is not None

    def records(self) -> Mapping[bytes, Record]:
        """What is known now. Changes with the view: read it before the next list or event."""
        return self._proxy

    def lost_by(self, answer: Listing | News, *, since: int) -> bool:
        """True where the answer belongs to another history than the one known up to revision `since`."""
        return self._cluster is not None and (answer.cluster != self._cluster or answer.revision < since)

    def elected(self, term: int) -> bool:
        """True where this is not the leader's term known last; from now on it is."""
        before, self._term = self._term, term
        return before not in (None, term)

    def adopt(self, listing: Listing) -> bool:
        """Take a list as the truth. Returns whether any value changed."""
        first = self._cluster is None
        before = {key: (record.value, record.lease) for key, record in self._records.items()}
        after = {record.key: (record.value, record.lease) for record in listing.records}
        self._records.clear()
        self._records.update((record.key, record) for record in listing.records)
        self._listed = self.revision = listing.revision
        self._cluster = listing.cluster
        return first or before != after

    def agrees(self, news: News) -> bool:
        """True where nothing was missed: then what is known holds at the answer's revision."""
        if news.changed or news.count != len(self._records):
            return False
        self.revision = max(self.revision, news.revision)
        return True

    def apply(self, changes: Sequence[Change]) -> bool:
        """Take events of the watch. Returns whether any value changed."""
        changed = False
        for change in changes:
            if change.revision <= self._listed:
                continue  # the list already said so
            before = self._records.get(change.key)
            if change.record is None:
                self._records.pop(change.key, None)
                changed |= before is not None
            else:
                self._records[change.key] = change.record
                after = change.record
                changed |= before is None or (before.value, before.lease) != (after.value, after.lease)
            self.revision = max(self.revision, change.revision)
        return changed
