"""Notes which events a worker consumes, for whoever wants to change them: `weft contracts check` names the worker.

Which queues an event goes to stands in its contract; what is noted is that somebody takes it from there, with which
contract, and when last.
"""

import threading
from collections.abc import Sequence
from typing import Final

from svc.chassis.clock import SystemClock
from svc.chassis.consumers import Flushing, Recorder, document
from svc.chassis.resources import Resources
from weft_protos import consumer
from worker.delivery import Event
from worker.runner import Handler

#: Documents that are seen at once are told in the order in which they were watched, and this one is there from the
#: mesh's first moments: once it was told, so was the worker's own.
_LATER: Final = "jwks"


class Noting:
    """A handler's handler: whatever has taken effect is noted."""

    def __init__(self, handler: Handler, recorder: Recorder, *, who: str) -> None:
        self._handler = handler
        self._recorder = recorder
        self._who = who

    def handle(self, events: Sequence[Event]) -> None:
        """As the handler does; raises what it raises, and then nothing is noted."""
        self._handler.handle(events)
        self._recorder.took((event.type for event in events), self._who)

    def abandon(self, event: Event) -> None:
        """As the handler does."""
        self._handler.abandon(event)


def noting(resources: Resources, worker: str, handler: Handler, events: Sequence[str]) -> Noting:
    """The handler of a kind of worker (`email`) that consumes these events; notes are published while it runs."""
    name = f"{worker}-worker"
    sample = resources.settings.process.consumer_sample
    recorder = Recorder(name, one_in=sample, clock=SystemClock(), since=events)
    seen, agent, notes = threading.Event(), resources.agent, document(name)
    agent.watch(notes, recorder.learn)
    agent.watch(_LATER, lambda _: seen.set())

    def publish(content: bytes) -> None:
        # Before the registry was seen it would take the place of what is there. The recorder says it again.
        if seen.is_set():
            agent.publish(notes, content)

    flushing = Flushing(recorder, publish)
    resources.add_background("consumers", flushing.start, flushing.stop)
    return Noting(handler, recorder, who=consumer.declare(name)[1])
