import threading

import pytest

from svc.chassis.single_flight import SingleFlight


def start(flights: SingleFlight[str], release: threading.Event, result: str) -> threading.Thread:
    """A load that is under way until it is released."""
    under_way = threading.Event()

    def load() -> str:
        under_way.set()
        release.wait(5)
        if result == "fails":
            raise ConnectionError
        return result

    def run() -> None:
        try:
            flights.run("key", load)
        except ConnectionError:
            assert result == "fails"

    thread = threading.Thread(target=run)
    thread.start()
    assert under_way.wait(5)
    return thread


def test_one_after_another_each_loads() -> None:
    flights: SingleFlight[str] = SingleFlight(wait_s=5)

    assert ["a", "b"] == [flights.run("key", lambda: "a"), flights.run("key", lambda: "b")]


def test_who_waits_too_long_loads_alone() -> None:
    flights: SingleFlight[str] = SingleFlight(wait_s=0.01)
    release = threading.Event()
    leader = start(flights, release, "first")

    assert "own" == flights.run("key", lambda: "own")
    release.set()
    leader.join(5)


def test_nobody_joins_a_forgotten_load() -> None:
    flights: SingleFlight[str] = SingleFlight(wait_s=5)
    release = threading.Event()
    leader = start(flights, release, "before the write")

    flights.forget("key")

    assert "after the write" == flights.run("key", lambda: "after the write")
    release.set()
    leader.join(5)


def test_keys_do_not_wait_for_each_other() -> None:
    flights: SingleFlight[str] = SingleFlight(wait_s=5)
    release = threading.Event()
    leader = start(flights, release, "slow")

    assert "quick" == flights.run("other", lambda: "quick")
    release.set()
    leader.join(5)


def test_a_failed_load_fails_nobody_else() -> None:
    flights: SingleFlight[str] = SingleFlight(wait_s=5)
    release = threading.Event()
    leader = start(flights, release, "fails")
    results: list[str] = []
    follower = threading.Thread(target=lambda: results.append(flights.run("key", lambda: "own")))
    follower.start()
    release.set()
    leader.join(5)
    follower.join(5)

    assert ["own"] == results


def test_the_one_who_loads_sees_its_own_error() -> None:
    flights: SingleFlight[str] = SingleFlight(wait_s=5)

    def fail() -> str:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        flights.run("key", fail)

    assert "next" == flights.run("key", lambda: "next")
