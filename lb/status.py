"""What a control plane says of itself and of its clients, and what that means for a publication. Pure.

Each control plane keeps one such document in etcd, under its lease; `python -m lb proxies` reads them all. A client is
up to date when it has accepted everything that the control plane's bundle says to it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
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
    agent: str = ""
    """Its software and version, in its own words: `envoy 1.40.0`."""
    bundle: str = ""
    """SHA-256 of the last manifest of which it has accepted everything; empty while there is none."""
    since: str = ""
    """Since when something is under way to it (RFC 3339); empty: nothing is."""

    @property
    def settled(self) -> bool:
        """True when nothing is under way to the client any more."""
        return not self.unsent and not self.waiting

    @property
    def state(self) -> Literal["SYNCED", "STALE", "NACKED"]:
        """Whether it has what there is for it, is behind, or has refused it."""
        if self.refusals:
            return "NACKED"
        return "SYNCED" if self.settled else "STALE"

    def age_s(self, now: datetime) -> float:
        """For how many seconds it has been behind; 0 where it is not."""
        return max(0.0, (now - datetime.fromisoformat(self.since)).total_seconds()) if self.since else 0.0


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


def rows(statuses: Iterable[ControlPlaneStatus], now: datetime) -> list[dict[str, Any]]:
    """Every client at every control plane that it is connected to, those in trouble first."""
    found = [
        {
            "node": client.node,
            "kind": client.kind,
            "agent": client.agent,
            "control_plane": status.instance,
            "version": client.bundle,
            "state": client.state,
            "age_s": round(client.age_s(now), 1),
            "waiting": list(client.waiting),
            "refusals": [asdict(each) for each in client.refusals],
            "streams": client.streams,
        }
        for status in statuses
        for client in status.clients
    ]
    order = ("NACKED", "STALE", "SYNCED")
    return sorted(found, key=lambda row: (order.index(str(row["state"])), str(row["node"]), str(row["control_plane"])))


def document(statuses: Sequence[ControlPlaneStatus], now: datetime) -> dict[str, Any]:
    """What `python -m lb proxies --json` prints: every control plane, and every client at each of them."""
    control_planes = [
        {
            "instance": status.instance,
            "version": status.bundle,
            "refused_version": status.refused_bundle,
            "problems": list(status.problems),
        }
        for status in statuses
    ]
    return {"control_planes": control_planes, "clients": rows(statuses, now)}


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
        agent=str(found.get("agent", "")),
        bundle=str(found.get("bundle", "")),
        since=_moment(str(found.get("since", ""))),
    )


def _moment(text: str) -> str:
    """A moment with its zone, or nothing. Raises ValueError."""
    if text and datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return text
