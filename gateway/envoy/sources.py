"""Where resources come from: the aggregated stream to the control plane, for everything."""

from collections.abc import Mapping
from typing import Any, Final

#: Wait for the first answer without limit: a listener without routes, keys or limits must not open at all.
_UNTIL_THERE: Final = "0s"


def ads(*, wait: str | None = _UNTIL_THERE) -> Mapping[str, Any]:
    """A ConfigSource. `wait` None takes Envoy's default of 15 s."""
    return {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": wait}
