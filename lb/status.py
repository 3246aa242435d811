"""What a control plane says of itself and of its clients, and what that means for a publication. Pure.

Each control plane keeps one such document in etcd, under its lease; `python -m lb proxies` reads them all. A client is
up to date when it has accepted everything that the control plane's bundle says to it.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, order=True)
class Refusal:
    """A response that a client refused; it keeps the last one it accepted."""

    type: str
    """Short name of the resource type: `Listener`."""
    version: str
    detail: str
    """The client's own words."""


@dataclass(frozen=True, slots=True, order=True)
class ClientState:
    """One process that is connected, with all its streams to this control plane."""

    node: str
    kind: str
    streams: int
    unsent: bool
    """True while a new snapshot is there that has not been compared with what the client was sent."""
    waiting: tuple[str, ...]
    """Types that were sent and neither accepted nor refused yet."""
    refusals: tuple[Refusal, ...]

    @property
    def settled(self) -> bool:
        """True when nothing is under way to the client any more."""
        return not self.unsent and not self.waiting


@dataclass(frozen=True, slots=True)
class ControlPlaneStatus:
    """One control plane's document."""

    instance: str
    bundle: str
    """SHA-256 of the manifest it serves; empty while it has none."""
    refused_bundle: str
    """SHA-256 of the published manifest, where it refused that and serves the one before on."""
    problems: tuple[str, ...]
    """Why it refused it."""
    clients: tuple[ClientState, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far a bundle has come."""

    state: Literal["accepted", "refused", "waiting"]
    clients: int
    """Connected clients that have everything the bundle says to them."""
    reasons: tuple[str, ...]
    """Who refused and why, or who is waited for; a line each."""


def encode(status: ControlPlaneStatus) -> bytes:
    """As JSON, so that etcdctl shows it."""
    return json.dumps(asdict(status), separators=(",", ":")).encode()


def decode(content: bytes) -> ControlPlaneStatus:
    """Read a document. Raises ValueError where it is none."""
    try:
        found = json.loads(content)
        return ControlPlaneStatus(
            instance=str(found["instance"]),
            bundle=str(found["bundle"]),
            refused_bundle=str(found["refused_bundle"]),
            problems=tuple(map(str, found["problems"])),
            clients=tuple(_client(each) for each in found["clients"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a control plane's status: {error!r}") from error


def judge(digest: str, statuses: Iterable[ControlPlaneStatus]) -> Verdict:
    """Whether every connected client has accepted the bundle `digest`, or anybody has refused it."""
    refused: list[str] = []
    waiting: list[str] = []
    accepted: set[tuple[str, str]] = set()
    known = tuple(statuses)
    for status in known:
        if status.refused_bundle == digest:
            refused.append(f"{status.instance} refused the bundle: {'; '.join(status.problems)}")
        elif status.bundle != digest:
            waiting.append(f"{status.instance} does not serve it yet")
            continue
        for client in status.clients if status.bundle == digest else ():
            # What an unsettled client refused may be what the new bundle replaces.
            if client.refusals and not client.unsent:
                refused += [f"{client.node} refused {each.type}: {each.detail}" for each in client.refusals]
            elif client.settled:
                accepted.add((client.kind, client.node))
            else:
                waiting.append(f"{client.node} has not answered {status.instance} yet")
    if not known:
        waiting.append("no control plane has reported")
    state: Literal["accepted", "refused", "waiting"] = "refused" if refused else "waiting" if waiting else "accepted"
    return Verdict(state, len(accepted), tuple(dict.fromkeys(refused or waiting)))


def _client(found: Any) -> ClientState:
    return ClientState(
        node=str(found["node"]),
        kind=str(found["kind"]),
        streams=int(found["streams"]),
        unsent=bool(found["unsent"]),
        waiting=tuple(map(str, found["waiting"])),
        refusals=tuple(
            Refusal(str(each["type"]), str(each["version"]), str(each["detail"])) for each in found["refusals"]
        ),
    )
