"""The daemon keeps certificates good while the mesh runs, whatever happens to the user's files."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.supervisor import certificate, upkeep, workload_certificates
from deploy.supervisor.edge_certificate import EdgeCertificate, Given
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.layout import Layout
from deploy.supervisor.upkeep import Upkeep
from deploy.supervisor.workload_certificates import WorkloadCertificates
from weft_protos import identity

NOW = datetime(2026, 6, 1, tzinfo=UTC)
AUTHORITY = certificate.make_authority(now=NOW)
DEADLINE_S = 30.0
ORDERS = identity.service("orders")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOOKED_AT_EVERY_S", 0.01)


async def keeping(
    layout: Layout, given: Given | None, clock: Clock, *steps: Callable[[Path], Callable[[], bool]]
) -> None:
    """Run the daemon's upkeep; each step changes something and returns what must become true of it."""
    kept = EdgeCertificate(layout, given)
    mesh = Upkeep(kept, WorkloadCertificates(layout, (ORDERS,)), clock)
    mesh.begin()
    task = asyncio.create_task(mesh.run())
    async with asyncio.timeout(DEADLINE_S):
        for step in steps:
            done = step(kept.certificate)
            while not done():
                assert not task.done()
                await asyncio.sleep(0.01)
    task.cancel()


def test_a_certificate_is_renewed_while_the_mesh_runs(layout: Layout) -> None:
    clock = Clock()

    def later(shown: Path) -> Callable[[], bool]:
        before = shown.read_text()
        clock.now += certificate.VALID - certificate.RENEW_BEFORE + timedelta(minutes=1)
        return lambda: shown.read_text() != before

    asyncio.run(keeping(layout, None, clock, later, later))


def test_the_users_new_files_are_taken_over_and_bad_ones_are_not(layout: Layout, folder: Path) -> None:
    given = Given(folder / "own.crt", folder / "own.key")

    def put(name: str) -> str:
        pair = AUTHORITY.issue((name,), (), now=NOW)
        given.certificate.write_text(pair.certificate)
        layout.write(given.key, pair.key, None)
        return pair.certificate

    def good(shown: Path) -> Callable[[], bool]:
        fresh = put("shop.example")
        return lambda: shown.read_text() == fresh

    def bad(shown: Path) -> Callable[[], bool]:
        before, looks = shown.read_text(), iter(range(20))
        given.certificate.write_text("broken")

        def looked_at_often() -> bool:
            assert before == shown.read_text()
            return next(looks, None) is None

        return looked_at_often

    put("shop.example")
    asyncio.run(keeping(layout, given, Clock(), good, bad, good))


def test_the_parts_get_new_certificates_when_half_of_the_time_has_passed_whatever_becomes_of_the_users_files(
    layout: Layout, folder: Path
) -> None:
    given, clock = Given(folder / "own.crt", folder / "own.key"), Clock()
    pair = AUTHORITY.issue(("shop.example",), (), now=NOW)
    given.certificate.write_text(pair.certificate)
    layout.write(given.key, pair.key, None)
    shown = WorkloadCertificates(layout, (ORDERS,)).folder(ORDERS) / identity.CERTIFICATE

    def later(_: Path) -> Callable[[], bool]:
        before = shown.read_text()
        given.certificate.write_text("broken")
        clock.now += workload_certificates.VALID / 2
        return lambda: shown.read_text() != before

    asyncio.run(keeping(layout, given, clock, later, later))


def test_a_renewal_that_is_asked_for_says_what_is_shown_now_or_why_not(layout: Layout, folder: Path) -> None:
    mesh = Upkeep(EdgeCertificate(layout, None), WorkloadCertificates(layout, (ORDERS,)), lambda: NOW)
    expires = {"edge": NOW + certificate.VALID, "parts": NOW + workload_certificates.VALID}

    assert {"changed": True, "names": ("localhost",), "expires": expires["edge"].isoformat()} == mesh.renew()
    expected = {"changed": True, "names": [ORDERS.uri], "expires": expires["parts"].isoformat()}
    assert expected == mesh.renew_workloads()

    without = Upkeep(EdgeCertificate(layout, Given(folder / "no.crt", folder / "no.key")), None, lambda: NOW)
    with pytest.raises(RefusedError, match=r"WEFT_TLS_CERT=.*No such file"):
        without.renew()
    with pytest.raises(RefusedError, match=r"hops of this mesh are in clear.*WEFT_MTLS=on weft up"):
        without.renew_workloads()
