"""Errors of the balancer. The type is the decision: what may be tried again, and what must be refused.

LbError
├── SettingsError             the environment or an argument is wrong: nothing was started
├── EtcdError
│   ├── EtcdUnavailableError  try again, on the next endpoint
│   ├── EtcdRefusedError      etcd answered no (credentials, permission, argument)
│   ├── LeaseLostError        the lease is gone: take a new one
│   └── RevisionCompactedError  the watch fell behind: list again
├── EntryRefusedError         one registry entry is not what its key says: ignored and counted
├── BundleRefusedError        compiled resources are damaged or name what is not there
├── SnapshotRefusedError      a snapshot would not be complete: the last good one keeps serving
└── ProtocolError             an xDS client broke the protocol: its stream ends
"""

from collections.abc import Sequence


class LbError(Exception):
    """Root of everything this package raises on purpose."""


class SettingsError(LbError):
    """A setting is missing or wrong; the message says which and what to do."""


class EtcdError(LbError):
    """etcd did not do what was asked."""


class EtcdUnavailableError(EtcdError):
    """etcd did not answer, or not in time."""


class EtcdRefusedError(EtcdError):
    """etcd answered that it will not."""


class LeaseLostError(EtcdError):
    """The lease does not exist (any more)."""


class RevisionCompactedError(EtcdError):
    """The revision a watch asked for has been compacted away."""


class EntryRefusedError(LbError):
    """A registry entry that must not be used. `reason` is one of a small set of words, fit for a metric label."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class BundleRefusedError(LbError):
    """A compiled bundle that must not be published or served. `problems` holds all of them, not only the first."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class SnapshotRefusedError(LbError):
    """A snapshot that names resources it does not hold. `problems` holds all of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class ProtocolError(LbError):
    """An xDS client sent what the protocol does not allow."""
