"""What is put under load beside go-control-plane is the same on both sides, and counted rightly."""

import re
from pathlib import Path

import pytest

from bench import control_plane, control_plane_server, go_toolchain
from bench.report import BenchError
from lb.xds.bundle import parse
from lb.xds.feed import Feed
from lb.xds.types import EDS, Kind
from weft_protos.xds import message_class


def test_our_endpoints_are_those_of_the_go_program() -> None:
    source = (control_plane.GO / "serve.go").read_text()
    feed = Feed()
    members = [control_plane_server.endpoint(300, number) for number in range(3)]
    members[0] = control_plane_server.moved(300, 7)
    feed.set_endpoints(members)
    feed.set_bundle(parse(*control_plane_server.manifest_of(control_plane_server.clusters(1))))
    served = feed.snapshot(Kind.GRPC)
    assert served is not None
    content = served.of(EDS).resources["service-300"].content
    assignment = message_class("envoy.config.endpoint.v3.ClusterLoadAssignment").FromString(content)
    sockets = [each.endpoint.address.socket_address for each in assignment.endpoints[0].lb_endpoints]  # type: ignore[attr-defined]

    assert [("10.1.44.2", 8080), ("10.1.44.3", 8080), ("10.255.255.254", 10_007)] == [
        (each.address, each.port_value) for each in sockets
    ]
    assert '"10.%d.%d.%d", index>>8, index&255, number+1), uint32(8080)' in source
    assert 'member("10.255.255.254", uint32(10000+port))' in source
    assert re.search(r'Sprintf\("service-%d", index\)', source)


def test_a_percentile_is_a_sample_that_so_many_do_not_exceed() -> None:
    samples = [float(number) for number in range(1, 101)]

    assert [99.0, 50.0, 100.0] == [control_plane.percentile(samples, share) for share in (0.99, 0.5, 1.0)]
    assert 3.0 == control_plane.percentile([3.0], 0.99)


def test_the_peak_of_memory_is_read_in_megabytes() -> None:
    assert 75.0 == control_plane.parse_peak("Name:\tpython\nVmPeak:\t  99999 kB\nVmHWM:\t   76800 kB\nVmRSS:\t 1 kB\n")


def test_a_go_program_that_cannot_be_built_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module broken\n\ngo 1.26\n")
    (tmp_path / "go.sum").write_text("")
    (tmp_path / "main.go").write_text("package main\n\nfunc main() { missing() }\n")

    with pytest.raises(BenchError, match="undefined: missing"):
        go_toolchain.built(tmp_path)
    assert not list((Path(control_plane.ROOT) / "build" / "go").glob(f"{tmp_path.name}-*"))
