"""Counts the refusals of the gateway itself, by reason and method, among Envoy's own metrics.

Prometheus reads them as `envoy_weft_refusals_total{reason,method}`. Both labels are words of the scripts and the
contracts, never of a caller, so there are no more series than these have pairs. Envoy calls its stats logger unfit for
untrusted traffic because labels may be taken from requests; none is here.
"""

from typing import Any, Final

from gateway.envoy import access_log, names
from weft_protos.xds import envoy

#: Envoy puts its own name in front. It would rather be told by `stats_scope`, which the descriptors do not have yet,
#: and says so in its log.
PREFIX: Final = "weft"
COUNTER: Final = "refusals_total"


def build() -> dict[str, Any]:
    """The access logger. Of a call that went well it looks at the status alone."""
    labels = {
        "reason": f"%DYNAMIC_METADATA({names.REFUSAL}:reason)%",
        # Empty on a path that no contract knows.
        "method": f"%METADATA(ROUTE:{names.LUA_METADATA}:method)%",
    }
    tags = [{"name": name, "value_format": value} for name, value in labels.items()]
    config = envoy(
        "extensions.access_loggers.stats.v3.Config",
        stat_prefix=PREFIX,
        counters=[{"stat": {"name": COUNTER, "tags": tags}, "value_fixed": 1}],
    )
    return {"name": "envoy.access_loggers.stats", "filter": _refused(), "typed_config": config}


def _refused() -> dict[str, Any]:
    reason = {"filter": names.REFUSAL, "path": [{"key": "reason"}], "value": {"present_match": True}}
    noted = {"metadata_filter": {"matcher": reason, "match_if_key_not_found": False}}
    return {"and_filter": {"filters": [access_log.went_wrong(), noted]}}
