"""What the bench of the console takes for shown is what the page shows, and what it cannot time is no figure."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from bench import console_deeds, console_truth
from bench.console_deeds import Deed, Truth
from bench.console_page import Console
from bench.report import BenchError
from deploy.supervisor.messages import Process, Size, Status
from tests.fakes.console_mesh import ConsoleMesh
from tests.fakes.console_scene import Scene
from tests.waiting import eventually
from weft.operations.v1 import alerts_pb2, mesh_pb2, queues_pb2

REASON = "SMTP 550: mailbox unavailable"
STATES = {mesh_pb2.Process.STATE_READY: "ready", mesh_pb2.Process.STATE_STARTING: "starting"}


@pytest.fixture
def console(signed_in: Page) -> Console:
    return Console(signed_in)


@pytest.fixture
def scene(mesh: ConsoleMesh) -> Scene:
    return mesh.scene


def status(scene: Scene) -> Status:
    """The scene as a supervisor would tell it."""
    seen = scene.now()
    processes = (
        Process(
            *(each.name.removeprefix("processes/"), "service", each.service, each.pid, each.listen_address),
            *(STATES[each.state], each.restarts, "", ""),
        )
        for each in seen.processes
    )
    services = {each.name.removeprefix("services/"): each for each in seen.services}
    return Status(
        "http://127.0.0.1:1",
        {},
        tuple(processes),
        sizes={name: Size(each.size) for name, each in services.items()},
        rolling=tuple(name for name, each in services.items() if each.rolling),
    )


def shown(console: Console, deed: Deed) -> list[str]:
    seen = console.look()
    return [truth.name.partition(": ")[2] or truth.name for truth in deed.truths if truth.shown(seen)]


def told(answer: object, deed: Deed) -> list[str]:
    return [
        truth.name.partition(": ")[2] or truth.name
        for truth in deed.truths
        if truth.told is not None and truth.told(answer)
    ]


def nothing() -> None:
    """Nobody does it: the test does."""


def begin(console: Console, deed: Deed) -> None:
    """The page shows what is so before, and nothing of what will be."""
    console.open(deed.place)
    eventually(lambda: deed.before(console.look()))
    assert [] == shown(console, deed)


def again(scene: Scene, name: str) -> None:
    """A process that is restarted is ready."""
    scene.process(name).state = mesh_pb2.Process.STATE_READY
    scene.service(f"services/{scene.process(name).service}").ready_processes += 1


def test_a_kill_is_seen_and_so_is_who_comes_back(console: Console, scene: Scene) -> None:
    deed = console_deeds.kill(status(scene).process("orders-2"), nothing, nothing)
    begin(console, deed)
    assert [] == told(status(scene), deed)

    scene.restart("processes/orders-2")
    eventually(lambda: shown(console, deed) == ["orders-2 is killed"])
    assert [] == told(status(scene), deed)

    again(scene, "processes/orders-2")
    eventually(lambda: shown(console, deed) == ["orders-2 is killed", "orders-2 is back"])
    assert ["orders-2 is back"] == told(status(scene), deed)


def test_a_page_without_news_shows_the_death_of_whoever_brings_them_and_of_nobody_else(
    console: Console, mesh: ConsoleMesh
) -> None:
    process = status(mesh.scene).process("orders-2")
    deeds = {tells: console_deeds.kill(process, nothing, nothing, tells=tells) for tells in (True, False)}
    begin(console, deeds[True])
    mesh.stop()

    eventually(lambda: shown(console, deeds[True]) == ["orders-2 is killed"])
    assert [] == shown(console, deeds[False])
    assert not deeds[False].before(console.look())
    mesh.start()


def test_an_instance_more_and_one_less_are_seen(console: Console, scene: Scene) -> None:
    more = console_deeds.grow("orders", 3, nothing, nothing)
    less = console_deeds.shrink("orders", 3, nothing, nothing)
    begin(console, more)
    assert [] == told(status(scene), more)
    assert ["the size is wanted", "the instance is gone"] == told(status(scene), less)

    scene.scale(mesh_pb2.ScaleServiceRequest(name="services/orders", size=4))
    grown = ["the size is wanted", "the instance is there", "it is ready"]
    eventually(lambda: shown(console, more) == grown)
    assert (grown, []) == (told(status(scene), more), told(status(scene), less))
    begin(console, less)

    service = scene.service("services/orders")
    service.size = 3
    eventually(lambda: shown(console, less) == ["the size is wanted"])
    scene.mesh.processes.remove(scene.process("processes/orders-4"))
    eventually(lambda: shown(console, less) == ["the size is wanted", "the instance is gone"])


def test_a_roll_is_seen_from_its_beginning_to_its_end(console: Console, scene: Scene) -> None:
    processes = [each for each in status(scene).processes if each.service == "orders"]
    deed = console_deeds.roll(processes, nothing, nothing)
    begin(console, deed)
    service = scene.service("services/orders")

    service.rolling = True
    steps = ["it has begun"]
    eventually(lambda: shown(console, deed) == steps)
    for each in processes:
        scene.restart(f"processes/{each.name}")
        again(scene, f"processes/{each.name}")
        steps.append("an instance is replaced")
        eventually(lambda: shown(console, deed) == steps)
        assert steps == told(status(scene), deed)
    service.rolling = False
    eventually(lambda: shown(console, deed) == [*steps[1:], "it is over"])
    assert [*steps[1:], "it is over"] == told(status(scene), deed)


def test_a_dead_letter_is_seen_to_come_and_to_go(console: Console, scene: Scene) -> None:
    put, take = console_deeds.put_aside("email", REASON, nothing), console_deeds.take_away("email", REASON, nothing)
    begin(console, put)
    scene.add_letter("email", "m1", REASON)
    eventually(lambda: shown(console, put) == ["it is counted", "it is listed"])
    begin(console, take)
    scene.replay(queues_pb2.ReplayDeadLettersRequest(parent="queues/email", all=True))
    eventually(lambda: shown(console, take) == ["it is counted no more", "it is listed no more"])


def test_an_alert_is_seen_when_it_fires_and_not_before(console: Console, scene: Scene) -> None:
    fire, cease = (make("Truth", nothing, nothing) for make in (console_deeds.fire, console_deeds.cease))
    begin(console, fire)
    alert = scene.mesh.alerts.add(alert="Truth", state=alerts_pb2.Alert.STATE_PENDING, severity="info")
    eventually(lambda: console.look().row("Alerts", "Truth"))
    assert [] == shown(console, fire)
    alert.state = alerts_pb2.Alert.STATE_FIRING
    eventually(lambda: shown(console, fire) == ["it fires"])
    begin(console, cease)
    del scene.mesh.alerts[:]
    eventually(lambda: shown(console, cease) == ["it is over"])
    assert (["it fires"], ["it is over"]) == (told({"Truth"}, fire), told(set(), cease))


def test_every_truth_is_timed_from_when_it_was_told(console: Console, scene: Scene) -> None:
    def do() -> None:
        scene.restart("processes/orders-2")
        again(scene, "processes/orders-2")

    deed = console_deeds.kill(status(scene).process("orders-2"), do, lambda: status(scene))
    lags = console_truth.timed(console, deed)

    assert ["orders-2 is killed", "orders-2 is back"] == [name for name, _ in lags]
    assert all(seconds >= 0 for _, seconds in lags)


def deeds(scene: Scene) -> Iterator[tuple[str, Deed, float]]:
    """What cannot be timed: why, and how long it takes to know."""
    here, ready = "services/orders", lambda seen: seen.says("3 of 3 ready")
    never = Truth("it is seen", lambda seen: False)
    yield "the page says ['it is seen'] before", Deed(here, ready, nothing, (Truth("it is seen", ready),)), 60.0
    yield "the page never said ['it is seen']", Deed(here, ready, nothing, (never,)), 1.0
    yield "does not show what is so before", Deed(here, never.shown, nothing, (never,)), 1.0

    def grown() -> None:
        scene.scale(mesh_pb2.ScaleServiceRequest(name="services/orders", size=4))

    unheard = Truth("it is seen", lambda seen: seen.says("4 of 4 ready"), lambda _: False)
    yield "the page shows what nobody else tells", Deed(here, ready, grown, (unheard,)), 5.0


def test_what_cannot_be_timed_is_no_figure(console: Console, scene: Scene) -> None:
    for why, deed, patience_s in deeds(scene):
        with pytest.raises(BenchError) as told:
            console_truth.timed(console, deed, patience_s=patience_s)
        assert why in str(told.value)


def test_what_goes_wrong_in_a_deed_ends_the_bench(console: Console) -> None:
    def broken() -> None:
        raise BenchError("it cannot be done")

    deed = Deed("services/orders", lambda seen: seen.title == "Services", broken, (Truth("it", lambda seen: False),))
    with pytest.raises(BenchError, match="it cannot be done"):
        console_truth.timed(console, deed)


def test_the_figure_is_the_longest_of_all() -> None:
    claim = console_truth.claim("console_truth_s", [("kill", 0.5), ("roll", 1.25), ("kill", 0.75), ("roll", 0.25)])

    assert ("console_truth_s", 1.25, "s", "floor") == (claim.name, claim.figure, claim.unit, claim.verdict)
    assert {"median": 0.62, "min": 0.5, "samples": [0.5, 0.75], "max": 0.75} == claim.sides["kill"]
    assert "missed" == console_truth.claim("console_truth_s", [("kill", 2.001)]).verdict
