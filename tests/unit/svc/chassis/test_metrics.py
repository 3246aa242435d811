"""The names that dashboards and alerts are written against."""

from prometheus_client import Counter, Gauge, Histogram

from svc.chassis import metrics

NAMES = {
    "weft_rpc_requests_total": ("service", "method", "code"),
    "weft_rpc_duration_seconds": ("service", "method"),
    "weft_rpc_refusals_total": ("service", "method", "reason"),
    "weft_rpc_in_flight": ("service",),
    "weft_rpc_shed_total": ("service", "criticality"),
    "weft_rpc_threads": (),
    "weft_rpc_busy_seconds_total": (),
    "weft_rpc_waiting": (),
    "weft_dependency_up": ("dependency",),
    "weft_cache_requests_total": ("entry", "result"),
    "weft_cache_fills_total": ("entry", "result"),
    "weft_cache_owed": ("node",),
    "weft_cache_flushes_total": ("node",),
    "weft_db_transactions_total": ("database", "outcome"),
    "weft_db_retries_total": ("database",),
    "weft_db_replica_reads_total": ("database", "outcome"),
    "weft_db_swept_rows_total": ("database", "table"),
    "weft_outbox_pending": ("database",),
    "weft_outbox_oldest_seconds": ("database",),
    "weft_outbox_published_total": ("type",),
    "weft_outbox_swept_total": ("type",),
    "weft_messages_returned_total": (),
    "weft_events_handled_total": ("queue", "type", "outcome"),
    "weft_queue_depth": ("queue",),
    "weft_reports_total": ("kind", "outcome"),
    "weft_registration_state": ("service", "instance"),
    "weft_lease_renewals_total": ("outcome",),
    "weft_unexpected_errors_total": ("place",),
}


def test_every_metric_has_its_name_and_labels() -> None:
    declared = [one for one in vars(metrics).values() if isinstance(one, Counter | Gauge | Histogram)]
    named = {one._name + ("_total" if isinstance(one, Counter) else ""): tuple(one._labelnames) for one in declared}

    assert NAMES == named
