"""Names and labels that objects know each other by."""

from collections.abc import Mapping
from typing import Any, Final

from deploy.ship.scraping import KIND, OFTEN, PART, SCRAPE, SELDOM
from deploy.ship.workload import Workload

NAMESPACE: Final = "weft"
SECRET: Final = "weft-secrets"
STAGE: Final = "weft.dev/stage"


def metadata(one: Workload, **more: Any) -> Mapping[str, Any]:
    """Of an object that belongs to a workload."""
    return {"name": one.name, "namespace": NAMESPACE, "labels": labels(one), **more}


def labels(one: Workload) -> Mapping[str, str]:
    """What a workload's objects and pods bear."""
    found = {"app.kubernetes.io/part-of": "weft", PART: one.name, KIND: one.kind.value}
    if one.stage:
        found[STAGE] = one.stage.value
    if one.metrics:
        found[SCRAPE] = OFTEN if one.often else SELDOM
    return found


def selector(name: str) -> Mapping[str, Any]:
    """The pods of a workload."""
    return {"matchLabels": {PART: name}}
