"""The graph of parts: order, closure, and the ranks in which parts stop."""

from pathlib import Path

import pytest

from deploy.supervisor import graph
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.part import Command, Kind, Server, Task
from deploy.supervisor.probe import Answer


class AlwaysReady:
    """A probe that needs no server."""

    async def check(self) -> Answer:
        return Answer.READY

    async def close(self) -> None:
        return None


def task(name: str, *after: str) -> Task:
    return Task(name=name, run=Command(("/bin/true",), {}, Path("/")), after=after)


def server(name: str, kind: Kind, *, stops_last: bool = False) -> Server:
    command = Command(("/bin/true",), {}, Path("/"))
    return Server(name, kind, name, command, AlwaysReady(), (1,), stops_last=stops_last)


def test_a_part_stands_behind_what_it_needs() -> None:
    names = [part.name for part in graph.ordered([task("c", "b"), task("b", "a"), task("a")])]

    assert ["a", "b", "c"] == names


def test_parts_that_need_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="need each other"):
        graph.ordered([task("a", "b"), task("b", "a")])


def test_a_need_nobody_fills_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown"):
        graph.ordered([task("a", "ghost")])


def test_two_parts_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="share a name"):
        graph.ordered([task("a"), task("a")])


def test_the_closure_holds_what_is_named_and_what_that_needs() -> None:
    parts = [task("a"), task("b", "a"), task("c", "b"), task("d")]

    assert ["a", "b"] == [part.name for part in graph.closure(parts, ["b"])]


def test_the_closure_of_nothing_is_everything() -> None:
    parts = (task("a"), task("b"))

    assert parts == graph.closure(parts, [])


def test_the_closure_of_an_unknown_name_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no part is called z; known are a, b"):
        graph.closure([task("a"), task("b")], ["z"])


def test_gateways_stop_before_services_before_workers_before_control_planes_before_servers() -> None:
    servers = [
        server("etcd-1", Kind.ETCD),
        server("epmd", Kind.RABBITMQ, stops_last=True),
        server("rabbitmq-1", Kind.RABBITMQ),
        server("control-plane-1", Kind.CONTROL_PLANE),
        server("relay-1", Kind.WORKER),
        server("orders-1", Kind.SERVICE),
        server("orders-2", Kind.SERVICE),
        server("gateway-1", Kind.GATEWAY),
    ]

    ranks = [[part.name for part in rank] for rank in graph.stop_ranks(servers)]

    assert [
        ["gateway-1"],
        ["orders-1", "orders-2"],
        ["relay-1"],
        ["control-plane-1"],
        ["rabbitmq-1"],
        ["etcd-1"],
        ["epmd"],
    ] == ranks


def test_every_kind_has_a_rank() -> None:
    for kind in Kind:
        assert graph.stop_rank(server("x", kind)) >= 0
