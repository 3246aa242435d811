"""Where parts listen in containers: each has an address of its own, so a kind of port has one number everywhere."""

from typing import Final

GRPC: Final = 7000
METRICS: Final = 7100
PAGES: Final = 7200
LETTERS: Final = 7300
EDGE: Final = 8443
ETCD: Final = 2379
ETCD_PEER: Final = 2380
SQL: Final = 26257
SQL_HTTP: Final = 8080
AMQP: Final = 5672
EPMD: Final = 4369
ERLANG: Final = 25672
BROKER_METRICS: Final = 15692
MEMCACHED: Final = 11211
OTLP: Final = 4317
JAEGER: Final = 16686
JAEGER_ADMIN: Final = 14269
PROMETHEUS: Final = 9090
ALERTMANAGER: Final = 9093
SMTP: Final = 2525
MAILBOX: Final = 8025
