"""Ports: kept over restarts, replaced when taken, free ones for tests."""

import random
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.supervisor.errors import ConfigError
from deploy.supervisor.ports import FREE_FIRST, FREE_LAST, Ports, is_free


def everything_free(_: int) -> bool:
    return True


def test_ports_come_from_the_base_on_and_never_twice(tmp_path: Path) -> None:
    ports = Ports(tmp_path / "ports.json", base=21000, is_free=everything_free)

    assert [21000, 21001, 21000] == [ports.get("a"), ports.get("b"), ports.get("a")]


def test_a_part_keeps_its_port_over_restarts(tmp_path: Path) -> None:
    first = Ports(tmp_path / "ports.json", base=21000, is_free=everything_free)
    first.get("a")
    kept = first.get("b")
    first.save()

    assert kept == Ports(tmp_path / "ports.json", base=21000, is_free=everything_free).get("b")


def test_a_part_that_is_not_asked_for_keeps_its_port_too(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    whole = Ports(path, base=21000, is_free=everything_free)
    kept = whole.get("a")
    whole.save()
    partial = Ports(path, base=21000, is_free=everything_free)
    other = partial.get("b")
    partial.save()

    assert kept != other
    assert kept == Ports(path, base=21000, is_free=everything_free).get("a")


def test_a_stored_port_that_somebody_took_meanwhile_is_replaced(tmp_path: Path) -> None:
    first = Ports(tmp_path / "ports.json", base=21000, is_free=everything_free)
    first.get("a")
    first.save()

    assert 21001 == Ports(tmp_path / "ports.json", base=21000, is_free=lambda port: port != 21000).get("a")


def test_a_fixed_port_that_is_taken_names_its_owner_and_the_variable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ports = Ports(tmp_path / "ports.json", base=21000)

        with pytest.raises(ConfigError, match=rf"port {port} is taken by .*\(pid \d+\).*set WEFT_X"):
            ports.fixed("gateway", port, variable="WEFT_X")


def test_no_port_left_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="WEFT_PORT_BASE"):
        Ports(tmp_path / "ports.json", base=21000, is_free=lambda _: False).get("a")


def test_free_mode_stays_out_of_the_ephemeral_range(tmp_path: Path) -> None:
    ports = Ports(tmp_path / "ports.json", base=21000, rng=random.Random(1), is_free=everything_free)
    given = {ports.get(str(number)) for number in range(50)}

    assert 50 == len(given)
    assert all(FREE_FIRST <= port < FREE_LAST for port in given)
    ports.close()


def test_meshes_that_start_at_the_same_moment_have_no_port_in_common(tmp_path: Path) -> None:
    # None of them listens on anything it was given: a broker takes ten seconds until it does.
    meshes = [Ports(tmp_path / f"{n}.json", base=21000, rng=random.Random(7)) for n in range(3)]
    given = [mesh.get(str(number)) for number in range(60) for mesh in meshes]

    assert len(given) == len(set(given))
    for mesh in meshes:
        mesh.close()


def test_a_mesh_in_free_mode_has_its_block_again_after_a_restart(tmp_path: Path) -> None:
    first = Ports(tmp_path / "ports.json", base=21000, rng=random.Random(1))
    a = first.get("a")
    first.save()
    first.close()

    again = Ports(tmp_path / "ports.json", base=21000, rng=random.Random(2))
    assert (a, a + 1) == (again.get("a"), again.get("b"))
    again.close()


def test_a_mesh_that_finds_every_block_taken_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.supervisor.ports.FREE_FIRST", FREE_LAST - 400)
    first, second = (Ports(tmp_path / name, base=21000, rng=random.Random(1)) for name in ("a", "b"))
    first.get("a")

    with pytest.raises(ConfigError, match="stop one of them"):
        second.get("a")
    first.close()


DAMAGED = ['{"a": 2', '["a"]', '{"a": "x"}', "null", "\N{BYTE ORDER MARK}{}"]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_as_good_as_none_where_nothing_runs(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)

    assert 21000 == Ports(tmp_path / "ports.json", base=21000, is_free=everything_free).get("a")


@pytest.mark.parametrize("text", [*DAMAGED, None])
def test_without_the_file_what_runs_is_not_given_other_ports(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ports.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ConfigError, match=r"ports\.json cannot be read .*`weft down`"):
        Ports(path, base=21000, is_free=everything_free, kept={21000})


def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    first = Ports(path, base=21000, is_free=everything_free)
    first.get("a")
    first.save()
    before = path.read_text()
    first.get("b")

    with full_disk(), pytest.raises(OSError, match="File too large"):
        first.save()

    assert before == path.read_text()
    first.save()
    assert 21001 == Ports(path, base=1, is_free=everything_free).get("b")


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_somebody_listens_on_is_not_free(address: str) -> None:
    with socket.create_server((address, 0)) as listener:
        assert not is_free(listener.getsockname()[1])


def test_a_port_shared_by_so_reuseport_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as listener:
        assert not is_free(listener.getsockname()[1])


def test_ports_that_the_meshs_own_processes_have_stay_theirs(tmp_path: Path) -> None:
    first = Ports(tmp_path / "ports.json", base=21000, is_free=everything_free)
    first.get("a")
    first.save()

    kept = Ports(tmp_path / "ports.json", base=21000, is_free=lambda port: port != 21000, kept={21000})
    same = Ports(tmp_path / "ports.json", base=1, is_free=lambda _: False, kept={21000})

    assert (21000, 21001) == (kept.get("a"), kept.get("b"))
    assert 21000 == same.fixed("g", 21000, variable="V")


def test_names_that_have_gone_give_their_ports_back_the_oldest_first_when_none_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.supervisor.ports.BLOCK", 4)
    ports = Ports(tmp_path / "ports.json", base=21000, is_free=everything_free)
    stable = ports.get("stable")
    for lane in ("one", "two", "three", "four", "five"):
        ports.begin()
        assert stable == ports.get("stable")
        ports.get(lane)
        ports.save()
        ports.settle(ports.asked())

    assert [21001, 21002, 21003] == [ports.get(lane) for lane in ("four", "five", "three")]
    again = Ports(tmp_path / "ports.json", base=21000, is_free=everything_free)
    assert [21003, 21001] == [again.get("three"), again.get("six")]


def test_a_port_that_is_in_use_is_not_taken_from_who_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.supervisor.ports.BLOCK", 2)
    ports = Ports(tmp_path / "ports.json", base=21000, is_free=everything_free)
    ports.get("runs")
    ports.get("runs-too")
    ports.settle(ports.asked())
    ports.begin()
    ports.get("runs")  # what is wanted from now on does without the other, which still runs

    with pytest.raises(ConfigError, match="no port is free"):
        ports.get("new")

    ports.settle(ports.asked())
    assert 21001 == ports.get("new")


@pytest.mark.parametrize(("base", "free"), [(21000, set()), (22000, {21000})])
def test_what_has_gone_gives_back_nothing_that_somebody_took_or_that_is_outside_of_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: int, free: set[int]
) -> None:
    monkeypatch.setattr("deploy.supervisor.ports.BLOCK", 1)
    first = Ports(tmp_path / "ports.json", base=21000, is_free=everything_free)
    first.get("gone")
    first.save()
    others = Ports(tmp_path / "ports.json", base=base, is_free=lambda port: port in free)

    with pytest.raises(ConfigError, match="no port is free"):
        others.get("new")
