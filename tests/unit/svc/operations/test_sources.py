"""Whoever is asked may be away, slow, odd or refuse: each is told apart, in words for people."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from svc.chassis.config import Address
from svc.operations.sources import Http, NotThereError, SourceAwayError, SourceRefusedError, Supervisor
from tests.fakes.operations import Supervised, Told
from tests.waiting import free_port


@pytest.fixture
def told() -> Iterator[Told]:
    with Told().serving() as server:
        yield server


def nobody() -> Address:
    return Address("127.0.0.1", free_port())


def test_an_answer_is_what_was_said(told: Told) -> None:
    told.answers["/letters"] = {"letters": []}

    found = Http("it", [told.address], token="t").get("/letters", {"queue": "", "reason": "a b&c", "limit": 5})

    assert {"letters": []} == found
    assert [("/letters", {"reason": "a b&c", "limit": "5"})] == told.asked
    assert "Bearer t" == told.headers[0]["authorization"]


def test_a_form_and_an_object_are_sent_as_such(told: Told) -> None:
    told.answers = {"/query": {}, "/replay": {}}
    http = Http("it", [told.address])

    http.post("/query", {"query": "a + b"})
    http.post_json("/replay", {"ids": ["a"]})

    assert [b"query=a+%2B+b", b'{"ids": ["a"]}'] == told.sent
    assert ["application/x-www-form-urlencoded", "application/json"] == [one["content-type"] for one in told.headers]
    assert "authorization" not in told.headers[0]


def test_of_several_the_first_that_listens_is_asked(told: Told) -> None:
    told.answers["/depths"] = {"depths": {}}

    assert {"depths": {}} == Http("it", [nobody(), told.address]).get("/depths")


def test_who_is_not_named_or_does_not_listen_is_away() -> None:
    with pytest.raises(SourceAwayError, match="it: nobody has said where it is"):
        Http("it", []).get("/")
    with pytest.raises(SourceAwayError, match="it: nobody listens there"):
        Http("it", [nobody()]).get("/")


def test_who_does_not_answer_in_time_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address("127.0.0.1", silent.getsockname()[1])
        with pytest.raises(SourceAwayError, match="it: no answer in time"):
            Http("it", [address]).get("/", timeout_s=0.05)


def test_what_is_not_there_is_told_from_what_is_away(told: Told) -> None:
    with pytest.raises(NotThereError, match=r"it: it does not know /x$"):
        Http("it", [told.address]).get("/x", {"secret": "s"})


def test_an_error_is_passed_on_with_its_reason(told: Told) -> None:
    told.status, told.answers["/x"] = 503, {"error": "the broker does not answer"}

    with pytest.raises(SourceAwayError, match="it: HTTP 503: the broker does not answer"):
        Http("it", [told.address]).get("/x")


@pytest.mark.parametrize("content", [b"", b"<html>", b'{"open'])
def test_what_is_no_json_is_no_answer(told: Told, content: bytes) -> None:
    told.answers["/x"] = content

    with pytest.raises(SourceAwayError, match="it: its answer is no JSON"):
        Http("it", [told.address]).get("/x")


def test_a_supervisor_does_and_tells(tmp_path: Path) -> None:
    with Supervised(tmp_path / "s.sock").serving() as supervised:
        supervised.answers["kill"] = {"name": "orders-1", "pid": 7}

        assert {"name": "orders-1", "pid": 7} == Supervisor(supervised.path).ask("kill", {"name": "orders-1"})
        assert [{"op": "kill", "name": "orders-1"}] == supervised.asked
        with pytest.raises(SourceRefusedError, match="no operation is called fly"):
            Supervisor(supervised.path).ask("fly")


def test_a_supervisor_that_is_not_there_is_away(tmp_path: Path) -> None:
    with pytest.raises(SourceAwayError, match="supervisor: nobody listens there"):
        Supervisor(tmp_path / "s.sock").ask("status")
    with pytest.raises(SourceAwayError, match="supervisor: nobody has said where it is"):
        Supervisor(None).ask("status")
