"""What Prometheus says of its alerts, in the contract's words. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from svc.operations import mesh
from weft.operations.v1 import alerts_pb2

#: The gravest first; what is none of these comes last.
SEVERITIES: Final = ("page", "ticket", "info")
_STATES: Final = {"pending": alerts_pb2.Alert.STATE_PENDING, "firing": alerts_pb2.Alert.STATE_FIRING}


def parse(answer: Any) -> tuple[alerts_pb2.Alert, ...]:
    """The alerts in an answer of `/api/v1/alerts`. Raises ValueError where it is none."""
    try:
        found = [_alert(said) for said in answer["data"]["alerts"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not an answer of Prometheus") from error
    return tuple(sorted(found, key=_rank))


def _alert(said: Mapping[str, Any]) -> alerts_pb2.Alert:
    labels = {str(name): str(value) for name, value in said["labels"].items()}
    words = {str(name): str(value) for name, value in said["annotations"].items()}
    return alerts_pb2.Alert(
        alert=labels.pop("alertname", ""),
        state=_STATES.get(str(said["state"]), alerts_pb2.Alert.STATE_UNSPECIFIED),
        severity=labels.pop("severity", ""),
        summary=words.get("summary", ""),
        description=words.get("description", ""),
        labels=labels,
        runbook=words.get("runbook_url", ""),
        start_time=mesh.stamp(str(said.get("activeAt", ""))),
        service=labels.get("service", ""),
        process=labels.get("instance", ""),
    )


def _rank(alert: alerts_pb2.Alert) -> tuple[bool, int, str, tuple[tuple[str, str], ...]]:
    severity = SEVERITIES.index(alert.severity) if alert.severity in SEVERITIES else len(SEVERITIES)
    pending = alert.state != alerts_pb2.Alert.STATE_FIRING
    return pending, severity, alert.alert, tuple(sorted(alert.labels.items()))
