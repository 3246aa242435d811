"""Every metric of services and workers, declared once: name, help, labels, unit.

The control plane has its own. `lifecycle` exposes them on WEFT_METRICS_PORT. Labels take values from contracts
and configuration only, never from a request, so that the number of series is bounded.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# Seconds. From a cache hit to the longest timeout a contract names.
_CALL_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

RPC_REQUESTS: Final = Counter(
    "weft_rpc_requests_total",
    "Calls that ended, by status code. `method` is `weft.orders.v1.OrderService/PlaceOrder`.",
    ["service", "method", "code"],
)
RPC_DURATION: Final = Histogram(
    "weft_rpc_duration_seconds",
    "Time from the first to the last interceptor; a stream counts as a whole.",
    ["service", "method"],
    buckets=_CALL_SECONDS,
)
RPC_REFUSALS: Final = Counter(
    "weft_rpc_refusals_total",
    "Calls that were refused, by the reason of their google.rpc.ErrorInfo, once at each hop it came through.",
    ["service", "method", "reason"],
)
RPC_IN_FLIGHT: Final = Gauge("weft_rpc_in_flight", "Calls that are being served now.", ["service"])
RPC_SHED: Final = Counter(
    "weft_rpc_shed_total",
    "Calls refused because there was too much to do; `criticality` is sheddable, default or critical.",
    ["service", "criticality"],
)

RPC_THREADS: Final = Gauge("weft_rpc_threads", "Threads that serve unary calls.")
RPC_BUSY: Final = Counter("weft_rpc_busy_seconds_total", "Seconds that these threads have been busy, all together.")
RPC_WAITING: Final = Gauge("weft_rpc_waiting", "Unary calls that wait for one of them.")
DEPENDENCY_UP: Final = Gauge(
    "weft_dependency_up",
    "1 while what the process depends on answers it. Its readiness does not follow.",
    ["dependency"],
)

CACHE_REQUESTS: Final = Counter(
    "weft_cache_requests_total",
    "Look-ups in the cache, by method; `result` is hit, miss, stale (older than the call wants it), foreign (damaged, "
    "or of another form or subject) or error (the node is away). All but a hit are served like a miss.",
    ["entry", "result"],
)
CACHE_FILLS: Final = Counter(
    "weft_cache_fills_total",
    "Answers that were to be kept, by method; `result` is stored or refused (forgotten meanwhile, or the node away).",
    ["entry", "result"],
)
CACHE_OWED: Final = Gauge("weft_cache_owed", "Keys that a node of the cache is still to forget.", ["node"])
CACHE_FLUSHES: Final = Counter(
    "weft_cache_flushes_total", "Times a node had to forget everything: it was away for too many changes.", ["node"]
)

DB_TRANSACTIONS: Final = Counter(
    "weft_db_transactions_total", "Transactions that ended, by outcome.", ["database", "outcome"]
)
DB_RETRIES: Final = Counter(
    "weft_db_retries_total", "Transactions run once more after a serialization failure or deadlock.", ["database"]
)

DB_REPLICA_READS: Final = Counter(
    "weft_db_replica_reads_total",
    "Reads that a replica was asked for; `outcome` is answered, behind (too old for the call) or away.",
    ["database", "outcome"],
)
DB_SWEPT: Final = Counter(
    "weft_db_swept_rows_total", "Rows deleted because their time was over.", ["database", "table"]
)

OUTBOX_PENDING: Final = Gauge("weft_outbox_pending", "Outbox rows not yet published.", ["database"])
OUTBOX_OLDEST: Final = Gauge(
    "weft_outbox_oldest_seconds", "Age of the oldest outbox row not yet published; 0 with none.", ["database"]
)
OUTBOX_PUBLISHED: Final = Counter("weft_outbox_published_total", "Events confirmed by the broker.", ["type"])
OUTBOX_SWEPT: Final = Counter("weft_outbox_swept_total", "Published events whose retention is over, deleted.", ["type"])
MESSAGES_RETURNED: Final = Counter("weft_messages_returned_total", "Messages that no queue took, sent back.")

EVENTS_HANDLED: Final = Counter(
    "weft_events_handled_total", "Deliveries that ended, by outcome.", ["queue", "type", "outcome"]
)
QUEUE_DEPTH: Final = Gauge("weft_queue_depth", "Messages in the queue.", ["queue"])

REPORTS: Final = Counter(
    "weft_reports_total", "Reports that a worker took, by what became of them.", ["kind", "outcome"]
)

REGISTRATION_STATE: Final = Gauge(
    "weft_registration_state", "1 while the instance is registered under a live lease.", ["service", "instance"]
)
LEASE_RENEWALS: Final = Counter(
    "weft_lease_renewals_total", "Keep-alives of the instance's lease, by outcome.", ["outcome"]
)

UNEXPECTED_ERRORS: Final = Counter(
    "weft_unexpected_errors_total",
    "Exceptions nobody foresaw, by the place that caught them; each is in the log with its stack.",
    ["place"],
)
