"""What an instance says of its load: what a call costs here, whatever makes it dear."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.message import Message

from gateway.envoy.filters import header_strip
from svc.chassis import load
from svc.chassis.context import CallContext
from svc.chassis.load import Meter
from tests.raw_call import trailers
from tests.unit.svc.chassis.instance import GET_STOCK, Instance, eventually
from weft.orders.v1 import inventory_pb2
from weft_protos.xds import message_class

STOCK = inventory_pb2.GetStockRequest(name="stock/a").SerializeToString()


class Machine:
    """Time and CPU as a test says."""

    def __init__(self, threads: int = 10, cores: float = 1.0) -> None:
        self.now = self.cpu_s = 0.0
        self.cores = cores
        self.meter = Meter(threads, clock=lambda: self.now, cpu_s=lambda: self.cpu_s, allowed=lambda: self.cores)

    def calls(self, count: int, *, each_s: float, cpu_s: float = 0.0) -> None:
        """Calls, one after the other."""
        for _ in range(count):
            self.meter.arrived()
            self.now += each_s
            self.cpu_s += cpu_s
            self.meter.left()

    def report(self) -> "Report":
        self.meter.sample()
        return Report(self.meter.report)


class Report:
    """A report as clients read it."""

    def __init__(self, serialized: bytes) -> None:
        said = message_class("xds.data.orca.v3.OrcaLoadReport").FromString(serialized)
        self.utilization: float = said.application_utilization  # type: ignore[attr-defined]
        self.cpu: float = said.cpu_utilization  # type: ignore[attr-defined]
        self.rate: float = said.rps_fractional  # type: ignore[attr-defined]

    @property
    def weight(self) -> float:
        """The share of calls that gRFC A58 gives it, before all shares are added up."""
        return self.rate / self.utilization


def test_before_the_first_call_there_is_nothing_to_say() -> None:
    machine = Machine()
    machine.now = 1.0
    machine.meter.sample()

    assert b"" == machine.meter.report


def test_calls_fill_the_house_by_the_time_they_are_inside() -> None:
    machine = Machine(threads=10)
    machine.calls(10, each_s=0.1)

    report = machine.report()

    assert pytest.approx(10.0) == report.rate
    assert pytest.approx(0.1) == report.utilization


def test_calls_that_wait_count_as_much_as_those_that_are_served() -> None:
    machine = Machine(threads=1)
    for _ in range(3):
        machine.meter.arrived()
    machine.now = 1.0
    machine.meter.left()

    assert pytest.approx(3.0) == machine.report().utilization


def test_an_instance_whose_calls_take_ten_times_as_long_gets_a_tenth() -> None:
    quick, slow = Machine(), Machine()
    quick.calls(100, each_s=0.01)
    slow.calls(10, each_s=0.1)

    assert pytest.approx(10.0) == quick.report().weight / slow.report().weight


def test_how_many_calls_an_instance_gets_does_not_change_what_one_costs() -> None:
    many, few = Machine(), Machine()
    many.calls(50, each_s=0.02)
    few.calls(2, each_s=0.02)
    few.now = 1.0

    assert pytest.approx(many.report().weight) == few.report().weight


def test_cpu_counts_against_the_quota() -> None:
    whole, part = Machine(cores=1.0), Machine(cores=0.05)
    for machine in (whole, part):
        machine.calls(10, each_s=0.001, cpu_s=0.001)
        machine.now = 1.0

    assert pytest.approx(0.01) == whole.report().cpu
    assert pytest.approx(0.2) == part.report().cpu
    assert pytest.approx(0.2) == part.report().utilization


def test_what_an_instance_uses_by_itself_does_not_make_its_calls_dear() -> None:
    busy, idle = Machine(), Machine()
    for machine in (busy, idle):
        machine.cpu_s = load.IDLE / 2
        machine.calls(1, each_s=0.02)
    idle.now = busy.now = 1.0

    assert pytest.approx(busy.report().weight) == idle.report().weight


def test_a_process_that_is_kept_from_running_is_dear() -> None:
    free, stopped = Machine(), Machine()
    for machine in (free, stopped):
        machine.calls(10, each_s=0.02)
        machine.now = 1.0
    stopped.meter.late(0.9)

    assert free.report().weight > 10 * stopped.report().weight


def test_being_a_little_late_is_nothing() -> None:
    machine = Machine()
    machine.calls(1, each_s=1.0)
    machine.meter.late(load.LATE_S / 2)

    assert 0.0 == machine.report().cpu


def test_the_past_fades() -> None:
    machine = Machine(threads=1)
    machine.calls(1, each_s=1.0)
    full = machine.report().utilization
    for _ in range(10):
        machine.now += load.MEMORY_S
        machine.meter.sample()
    machine.calls(1, each_s=0.01)

    assert machine.report().utilization < full / 100


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/weft", {"weft/cpu.max": "5000 100000"}, 0.05),
        ("0::/weft", {"weft/cpu.max": "max 100000"}, 1.0),
        ("0::/weft", {"weft/cpu.max": "400000 100000"}, 1.0),
        ("0::/weft", {}, 1.0),
        ("0::/weft", {"weft/cpu.max": "?"}, 1.0),
        ("2:cpu:/weft", {"cpu/weft/cpu.cfs_quota_us": "50000", "cpu/weft/cpu.cfs_period_us": "100000"}, 0.5),
        ("2:cpu:/weft", {"cpu/weft/cpu.cfs_quota_us": "-1", "cpu/weft/cpu.cfs_period_us": "100000"}, 1.0),
        (
            "2:cpu,cpuacct:/\n1:name=systemd:/a:b",
            {"cpu,cpuacct/cpu.cfs_quota_us": "20000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            0.2,
        ),
    ],
)
def test_the_quota_is_that_of_the_process_own_cgroup(
    tmp_path: Path, membership: str, files: dict[str, str], cores: float
) -> None:
    (tmp_path / "cgroup").write_text(f"{membership}\n")
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    assert cores == load.cores(proc=tmp_path, cgroups=tmp_path / "groups")


def test_without_cgroups_one_core_is_there() -> None:
    assert 1.0 == load.cores(proc=Path("/nowhere"))


@pytest.fixture
def instance() -> Iterator[Instance]:
    found = Instance()
    yield found
    found.close()


def said(instance: Instance, body: bytes) -> dict[str, str]:
    token = ("authorization", f"Bearer {instance.issuer.token()}")
    return trailers(f"127.0.0.1:{instance.port}", GET_STOCK, body, token)


@pytest.mark.parametrize(("body", "status"), [(STOCK, "0"), (b"\xff", "3")], ids=["answer", "refusal"])
def test_every_unary_answer_carries_the_report(instance: Instance, body: bytes, status: str) -> None:
    def handle(_request: Message, _call: CallContext) -> Message:
        return inventory_pb2.Stock()

    instance.behaviour.do = handle
    assert eventually(lambda: load.TRAILER in said(instance, body))

    answer = said(instance, body)

    assert status == answer["grpc-status"]
    assert Report(base64.b64decode(answer[load.TRAILER] + "==")).weight > 0


def test_the_trailer_has_one_name_where_it_is_written_and_where_it_is_taken_away() -> None:
    assert load.TRAILER == header_strip.LOAD_REPORT
