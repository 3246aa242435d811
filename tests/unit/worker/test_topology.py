"""Queues and bindings as the contracts ask for them."""

import pytest

from weft_protos import policy
from worker.amqp.topology import routing_keys, work_queue, work_queues
from worker.retry import ladder


def test_each_worker_that_an_event_names_has_a_queue_and_those_of_all_events_have_one_anyway() -> None:
    named = {queue for event in policy.EVENTS for queue in (policy.event_policy(event) or event).queues}

    assert sorted(f"weft.{worker}" for worker in {"archive", "audit"} | named) == [
        queue.name for queue in work_queues()
    ]


@pytest.mark.parametrize("worker", ["archive", "audit"])
def test_archive_and_audit_are_bound_to_everything(worker: str) -> None:
    assert ("#",) == work_queue(worker).routing_keys


def test_a_queue_is_bound_to_the_events_that_name_it() -> None:
    assert (
        "identity.user.created",
        "orders.order.cancelled",
        "orders.order.placed",
    ) == work_queue("email").routing_keys


def test_every_event_has_its_own_routing_key() -> None:
    keys = routing_keys()

    assert {event.full_name for event in policy.EVENTS} == set(keys)
    assert len(keys) == len(set(keys.values()))


@pytest.mark.parametrize("queue", [queue for work in work_queues() for queue in work.queues()], ids=lambda q: q.name)
def test_every_queue_survives_a_broker_and_is_bounded(queue: object) -> None:
    arguments = queue.arguments

    assert "quorum" == arguments["x-queue-type"]
    assert ("reject-publish", True) == (arguments["x-overflow"], "x-max-length" in arguments)
    # At-least-once is what keeps a message between two queues, and RabbitMQ gives it only with reject-publish.
    assert ("x-dead-letter-exchange" in arguments) == ("at-least-once" == arguments.get("x-dead-letter-strategy"))


def test_each_pause_of_a_contract_has_a_queue_that_gives_back_after_it() -> None:
    work = work_queue("email")
    by_name = {queue.name: queue.arguments for queue in work.queues()}

    assert (1.0, 2.0, 5.0, 10.0) == work.pauses
    assert {f"weft.email.retry.{pause:g}s": round(pause * 1000) for pause in work.pauses} == {
        name: by_name[name]["x-message-ttl"] for name in work.retries
    }
    assert {"weft.email"} == {by_name[name]["x-dead-letter-routing-key"] for name in work.retries}
    assert set(work.names) == set(by_name)


def test_a_worker_whose_events_say_nothing_waits_the_usual() -> None:
    events = [event for event in policy.EVENTS if event.name == "StockDepleted"]

    assert (2.0,) == work_queue("audit", events).pauses


def test_every_event_can_wait_as_long_as_its_ladder_says() -> None:
    for event in policy.EVENTS:
        said = policy.event_policy(event)
        for worker in ("audit", *said.queues):
            assert set(ladder(event.full_name)) <= set(work_queue(worker).pauses), (event.full_name, worker)


def test_crashes_lead_to_the_dead_letters_and_those_lead_nowhere() -> None:
    by_name = {queue.name: queue.arguments for queue in work_queue("email").queues()}

    assert "weft.email.dead" == by_name["weft.email"]["x-dead-letter-routing-key"]
    assert "x-dead-letter-exchange" not in by_name["weft.email.dead"]
