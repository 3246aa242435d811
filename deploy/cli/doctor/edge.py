"""Whether callers get in: gateways, certificate, keys; and whether those who watch see it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from deploy.cli.doctor.finding import Finding, Group

EDGE: Final = Group("edge")
WATCHING: Final = Group("watching")
#: It is renewed ten days before its end.
RENEWED: Final = timedelta(days=9)
ENDING: Final = timedelta(days=2)
#: These are renewed twelve hours before theirs.
IDENTITIES_RENEWED: Final = timedelta(hours=11)
_SHOWN_MAX: Final = 5


def certificate(expires: datetime, *, now: datetime, own: bool) -> Finding:
    """`own`: the user brings it, and has to renew it."""
    left = expires - now
    told = f"until {expires:%Y-%m-%d}"
    hint = "put a new pair into WEFT_TLS_CERT and WEFT_TLS_KEY" if own else "`weft certificates renew`"
    if left <= timedelta():
        return EDGE.fail("certificate", f"ended {expires:%Y-%m-%d}", hint)
    if left < ENDING:
        return EDGE.fail("certificate", f"{told}, which is in {left.total_seconds() / 3600:.0f} h", hint)
    return EDGE.warn("certificate", told, hint) if left < RENEWED else EDGE.ok("certificate", told)


def identities(expires: datetime, *, now: datetime) -> Finding:
    """Of the mesh's own parts, where hops are encrypted: when the first of their certificates ends."""
    left, hint = expires - now, "`weft certificates renew --workloads`; `weft logs supervisor` says why it did not"
    told = f"until {expires:%Y-%m-%d %H:%M} UTC"
    if left <= timedelta():
        return EDGE.fail("identities", f"ended {expires:%Y-%m-%d %H:%M} UTC", hint)
    return EDGE.fail("identities", told, hint) if left < IDENTITIES_RENEWED else EDGE.ok("identities", told)


def keys(signing: Sequence[bool]) -> Finding:
    """`signing`: of each key that signs or verifies tokens, whether it signs."""
    hint = "`weft keys list` shows them, `weft logs identity` says what it does about it"
    if not signing:
        return EDGE.fail("signing keys", "there are none", hint)
    if sum(signing) != 1:
        return EDGE.fail("signing keys", f"{sum(signing)} sign, not one", hint)
    return EDGE.ok("signing keys", f"{len(signing)}, one of them signs")


def alerts(firing: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """As Alertmanager says: labels and annotations of each."""
    for each in firing[:_SHOWN_MAX]:
        labels, notes = each["labels"], each.get("annotations", {})
        runbook = notes.get("runbook_url", "")
        serious = labels.get("severity") == "page"
        make = WATCHING.fail if serious else WATCHING.warn
        yield make(labels["alertname"], notes.get("summary", ""), runbook or "`weft status` shows its page")
    if len(firing) > _SHOWN_MAX:
        yield WATCHING.warn("alerts", f"{len(firing) - _SHOWN_MAX} more fire", "the page `alerts` of `weft status`")
    if not firing:
        yield WATCHING.ok("alerts", "none fires")


def targets(found: Sequence[Mapping[str, Any]]) -> Finding:
    """What Prometheus scrapes, as it says itself."""
    down = sorted(each["labels"].get("instance", "?") for each in found if each["health"] == "down")
    if down:
        shown = ", ".join(down[:_SHOWN_MAX])
        return WATCHING.warn("metrics", f"{shown} cannot be scraped", f"`weft logs {down[0]}` says why")
    return WATCHING.ok("metrics", f"{len(found)} parts are scraped")
