"""The servers that Weft uses, as workloads: CockroachDB, etcd, RabbitMQ, memcached, Jaeger, Prometheus, Alertmanager.

Three of each that keeps something, as in the profile `ha`. What the supervisor decided about them holds here as well,
and is taken from where it says so.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.ship import ports
from deploy.ship.addresses import Addresses, at
from deploy.ship.ours import DATABASE_NODES, DATABASE_ROOT, DATABASE_TLS
from deploy.ship.workload import NAME, SECRETS, Certificate, Image, Probe, Stage, Volume, Workload
from deploy.supervisor.desired import Desired
from deploy.supervisor.part import Kind
from deploy.supervisor.secrets import OPERATOR_EMAIL
from deploy.supervisor.servers import alertmanager, etcd, memcached, prometheus, rabbitmq
from deploy.supervisor.stack import REGISTRY

BROKERS: Final = 3
CONFIG: Final = "/etc/prometheus"
_NODE: Final = Certificate(
    "database-node", DATABASE_TLS, {"ca.crt": "ca.crt", "tls.crt": "node.crt", "tls.key": "node.key"}
)


class Servers:
    """Builds them for one desired state in one form."""

    def __init__(self, desired: Desired, addresses: Addresses, *, scrape: Mapping[str, str]) -> None:
        """`scrape`: files of Prometheus' configuration, by name; how it finds others differs between forms."""
        self._desired = desired
        self._addresses = addresses
        self._scrape = scrape

    def all(self) -> list[Workload]:
        """Those that go on, and what forms the database's cluster."""
        return [
            self._cockroach(),
            self._formed(),
            self._etcd(),
            self._rabbitmq(),
            self._memcached(),
            self._jaeger(),
            self._prometheus(),
            self._alertmanager(),
        ]

    def _cockroach(self) -> Workload:
        own, peers = self._addresses.own("cockroach"), self._addresses.members("cockroach", DATABASE_NODES)
        return Workload(
            name="cockroach",
            kind=Kind.DATABASE,
            image=Image.COCKROACH,
            command=(
                *("/cockroach/cockroach", "start", f"--certs-dir={DATABASE_TLS}", "--store=/var/lib/cockroach"),
                *(f"--advertise-addr={own}:{ports.SQL}", f"--join={','.join(at(peers, ports.SQL))}"),
                # A quarter each of what the container may have, as the server asks for.
                *("--cache=.25", "--max-sql-memory=.25", "--logtostderr=WARNING"),
            ),
            ports={"sql": ports.SQL, "http": ports.SQL_HTTP},
            size=DATABASE_NODES,
            named=True,
            # The page of health is served over TLS and asks for a name; whether the port is open tells enough here.
            ready=Probe("sql"),
            alive=Probe("sql"),
            certificates=(_NODE,),
            volumes=(Volume("data", "/var/lib/cockroach", 20), Volume("tmp", "/tmp")),
            calls={"cockroach": ("sql",)},
            cpu="1",
            memory_mb=2048,
            # It hands its leases over before it goes.
            grace_s=300,
        )

    def _formed(self) -> Workload:
        host = self._addresses.members("cockroach", DATABASE_NODES)[0]
        server = f"--certs-dir={DATABASE_TLS} --host={host}:{ports.SQL}"
        return Workload(
            name="cockroach-init",
            kind=Kind.MONITOR,
            image=Image.COCKROACH,
            # A cluster that is formed refuses to be formed again; that it answers is what counts.
            command=(
                *("sh", "-c"),
                f"until /cockroach/cockroach sql {server} --execute='SELECT 1'; do\n"
                f"  /cockroach/cockroach init {server} || sleep 1\n"
                "done",
            ),
            certificates=(DATABASE_ROOT,),
            volumes=(Volume("tmp", "/tmp"),),
            calls={"cockroach": ("sql",)},
            after=("cockroach",),
            stage=Stage.PREPARE,
        )

    def _etcd(self) -> Workload:
        own, peers = self._addresses.own("etcd"), self._addresses.members("etcd", len(REGISTRY))
        cluster = ",".join(
            f"{name}=http://{host}:{ports.ETCD_PEER}" for name, host in zip(REGISTRY, peers, strict=True)
        )
        return Workload(
            name="etcd",
            kind=Kind.ETCD,
            image=Image.ETCD,
            command=(
                "/usr/local/bin/etcd",
                f"--name={NAME}",
                "--data-dir=/var/lib/etcd/member",
                f"--listen-client-urls=http://0.0.0.0:{ports.ETCD}",
                f"--advertise-client-urls=http://{own}:{ports.ETCD}",
                f"--listen-peer-urls=http://0.0.0.0:{ports.ETCD_PEER}",
                f"--initial-advertise-peer-urls=http://{own}:{ports.ETCD_PEER}",
                f"--initial-cluster={cluster}",
                *etcd.TUNING,
            ),
            ports={"client": ports.ETCD, "peer": ports.ETCD_PEER},
            size=len(REGISTRY),
            named=True,
            # A member without a quorum is alive: ending it would take the quorum further away.
            ready=Probe("client"),
            alive=Probe("client"),
            metrics="client",
            volumes=(Volume("data", "/var/lib/etcd", 4),),
            calls={"etcd": ("peer",)},
            memory_mb=512,
        )

    def _rabbitmq(self) -> Workload:
        nodes = [f"rabbit@{host}" for host in self._addresses.members("rabbitmq", BROKERS)]
        home = "/var/lib/rabbitmq"
        cookie = f"install -m 0400 {SECRETS}/rabbitmq.cookie {home}/.erlang.cookie"
        return Workload(
            name="rabbitmq",
            kind=Kind.RABBITMQ,
            image=Image.RABBITMQ,
            # Erlang wants its cookie to be the user's own file, and secrets are files of root.
            command=("sh", "-ec", f"rm -f {home}/.erlang.cookie\n{cookie}\nexec rabbitmq-server"),
            environ={
                "HOME": home,
                "RABBITMQ_NODENAME": f"rabbit@{self._addresses.own('rabbitmq')}",
                **({"RABBITMQ_USE_LONGNAME": "true"} if "." in nodes[0] else {}),
                "RABBITMQ_CONFIG_FILES": "/nonexistent",
                "RABBITMQ_CONFIG_FILE": "/etc/weft/rabbitmq/rabbitmq.conf",
                "RABBITMQ_ENABLED_PLUGINS_FILE": "/etc/weft/rabbitmq/enabled_plugins",
                "RABBITMQ_LOGS": "-",
            },
            ports={
                "amqp": ports.AMQP,
                "epmd": ports.EPMD,
                "erlang": ports.ERLANG,
                "metrics": ports.BROKER_METRICS,
            },
            size=BROKERS,
            named=True,
            ready=Probe("amqp"),
            alive=Probe("epmd"),
            check=("rabbitmq-diagnostics", "--quiet", "check_port_connectivity"),
            metrics="metrics",
            often=False,
            secrets=("rabbitmq.cookie", "rabbitmq.definitions.json"),
            files={
                "/etc/weft/rabbitmq/rabbitmq.conf": _broker(nodes),
                "/etc/weft/rabbitmq/enabled_plugins": "[rabbitmq_prometheus].\n",
            },
            volumes=(Volume("data", home, 8), Volume("tmp", "/tmp")),
            calls={"rabbitmq": ("amqp", "epmd", "erlang")},
            memory_mb=1024,
            grace_s=60,
        )

    def _memcached(self) -> Workload:
        flags = ("-m", str(memcached.MEMORY_MB), "-c", str(memcached.CONNECTIONS_MAX), "-t", "2")
        return Workload(
            name="memcached",
            kind=Kind.MEMCACHED,
            image=Image.MEMCACHED,
            command=("memcached", "-p", str(ports.MEMCACHED), "-U", "0", *flags),
            ports={"memcached": ports.MEMCACHED},
            size=self._desired.sizes["memcached"],
            named=True,
            ready=Probe("memcached"),
            alive=Probe("memcached"),
            memory_mb=memcached.MEMORY_MB * 2,
        )

    def _jaeger(self) -> Workload:
        return Workload(
            name="jaeger",
            kind=Kind.MONITOR,
            image=Image.JAEGER,
            environ={
                "SPAN_STORAGE_TYPE": "badger",
                "BADGER_EPHEMERAL": "false",
                "BADGER_DIRECTORY_KEY": "/var/lib/jaeger/key",
                "BADGER_DIRECTORY_VALUE": "/var/lib/jaeger/value",
                "BADGER_SPAN_STORE_TTL": "72h",
                "COLLECTOR_OTLP_GRPC_HOST_PORT": f":{ports.OTLP}",
            },
            ports={"otlp": ports.OTLP, "http": ports.JAEGER, "admin": ports.JAEGER_ADMIN},
            named=True,
            ready=Probe("admin", path="/"),
            alive=Probe("admin", path="/"),
            volumes=(Volume("data", "/var/lib/jaeger", 10), Volume("tmp", "/tmp")),
            memory_mb=1024,
        )

    def _prometheus(self) -> Workload:
        return Workload(
            name="prometheus",
            kind=Kind.MONITOR,
            image=Image.PROMETHEUS,
            arguments=(
                f"--config.file={CONFIG}/prometheus.yml",
                "--storage.tsdb.path=/var/lib/prometheus",
                f"--storage.tsdb.retention.time={prometheus.RETENTION}",
                f"--web.listen-address=:{ports.PROMETHEUS}",
                "--log.level=warn",
            ),
            ports={"http": ports.PROMETHEUS},
            named=True,
            ready=Probe("http", path="/-/ready"),
            alive=Probe("http", path="/-/healthy"),
            metrics="http",
            often=False,
            files={f"{CONFIG}/{name}": text for name, text in self._scrape.items()},
            volumes=(Volume("data", "/var/lib/prometheus", 20),),
            calls={"alertmanager": ("http",)},
            memory_mb=1024,
        )

    def _alertmanager(self) -> Workload:
        smtp = self._addresses.any("mail", 1)[0]
        told = alertmanager.Receivers(
            smtp=f"{smtp}:{ports.SMTP}", mail_to=OPERATOR_EMAIL, recovery_port=None, recovery_token=""
        )
        return Workload(
            name="alertmanager",
            kind=Kind.MONITOR,
            image=Image.ALERTMANAGER,
            arguments=(
                "--config.file=/etc/alertmanager/alertmanager.yml",
                "--storage.path=/var/lib/alertmanager",
                f"--web.listen-address=:{ports.ALERTMANAGER}",
                "--cluster.listen-address=",
                "--log.level=warn",
            ),
            ports={"http": ports.ALERTMANAGER},
            named=True,
            ready=Probe("http", path="/-/ready"),
            alive=Probe("http", path="/-/healthy"),
            metrics="http",
            often=False,
            files={
                "/etc/alertmanager/alertmanager.yml": json.dumps(alertmanager.render(told, Path("/none")), indent=1)
                + "\n"
            },
            volumes=(Volume("data", "/var/lib/alertmanager", 1),),
            calls={"mail": ("smtp",)},
        )


def _broker(nodes: Sequence[str]) -> str:
    """rabbitmq.conf; users are in the definitions."""
    return (
        f"listeners.tcp.default = {ports.AMQP}\n"
        f"prometheus.tcp.port = {ports.BROKER_METRICS}\n"
        f"load_definitions = {SECRETS}/rabbitmq.definitions.json\n"
        f"{rabbitmq.TUNING}"
        f"{rabbitmq.clustered(nodes)}"
    )
