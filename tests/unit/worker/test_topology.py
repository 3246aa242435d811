"""Queues and bindings as the contracts ask for them."""

import pytest

from weft_protos import policy
from worker.amqp.topology import routing_keys, work_queue, work_queues


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


def test_the_retry_queue_gives_back_after_two_seconds_and_crashes_lead_to_the_dead_letters() -> None:
    work = work_queue("email")
    by_name = {queue.name: queue.arguments for queue in work.queues()}

    assert ("weft.email", 2000) == (
        by_name["weft.email.retry"]["x-dead-letter-routing-key"],
        by_name["weft.email.retry"]["x-message-ttl"],
    )
    assert "weft.email.dead" == by_name["weft.email"]["x-dead-letter-routing-key"]
    assert "x-dead-letter-exchange" not in by_name["weft.email.dead"]
    assert set(work.names) == set(by_name)
