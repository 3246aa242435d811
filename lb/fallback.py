"""A channel with a spare: calls take the spare until the first choice has once been ready, and never after that.

For `xds:///` channels, which know nothing before a control plane has told them, and keep what they were told for as
long as they live. The spare is opened only when it is needed, and closed when the last call on it has ended, so no call
is lost by the change. Every call decides for itself; a call that has begun stays where it is.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc
import structlog

log = structlog.get_logger(__name__)

#: How long the first call waits for the first choice. One that is told nothing at all does not fail, it waits.
PATIENCE_S: Final = 2.0


class Spare:
    """A channel that is closed when it is no longer wanted and the last call on it has ended."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self._lock = threading.Lock()
        self._calls = 0
        self._wanted = True

    def begin(self) -> bool:
        """A call begins; False where the channel is closed already, or about to be."""
        with self._lock:
            self._calls += self._wanted
            return self._wanted

    def end(self) -> None:
        """A call has ended."""
        with self._lock:
            self._calls -= 1
            idle = not self._wanted and self._calls == 0
        if idle:
            self._close()

    def retire(self) -> None:
        """It is no longer wanted."""
        with self._lock:
            wanted, self._wanted = self._wanted, False
            idle = wanted and self._calls == 0
        if idle:
            self._close()

    def _close(self) -> None:
        # Not here: a call ends in the thread that carries the channel's events, and closing waits for that one.
        threading.Thread(target=self.channel.close, name="spare-channel-closes", daemon=True).start()


class FallbackChannel(grpc.Channel):
    """Thread-safe, like every channel."""

    def __init__(
        self,
        first: grpc.Channel,
        spare: Callable[[], grpc.Channel | None],
        *,
        patience_s: float = PATIENCE_S,
        mark: Callable[[], object] = lambda: None,
    ) -> None:
        """`spare` opens the other channel; None: there is nothing to fall back to. It is asked until it has one.

        `mark`: while it is what it was, a spare that was opened is good; else the next call opens another one.
        """
        self.first = first
        self._open_spare = spare
        self._patience_s = patience_s
        self._mark = mark
        self._marked: object = None
        self._changed = threading.Condition()
        self._settled = False
        self._failed = False
        self._patient_until: float | None = None
        self._spare: Spare | None = None

    @property
    def settled(self) -> bool:
        """True once the first choice has been ready."""
        return self._settled

    def choose(self, timeout: float | None) -> Spare | None:
        """The spare that a call has to take, which must be ended with the call; None: the first choice.

        Waits until that is known, not longer than the call may take.
        """
        with self._changed:
            if self._settled:
                return None
            now = time.monotonic()
            if self._patient_until is None:
                self._patient_until = now + self._patience_s
                self.first.subscribe(self._heard, try_to_connect=True)
            until = self._patient_until if timeout is None else min(self._patient_until, now + timeout)
            self._changed.wait_for(lambda: self._settled or self._failed, max(0.0, until - now))
            if self._settled:
                return None
            mark = self._mark()
            if self._spare is not None and mark != self._marked:
                self._spare.retire()
                self._spare = None
            if self._spare is None:
                channel = self._open_spare()
                if channel is None:
                    return None
                self._spare, self._marked = Spare(channel), mark
                log.warning("channel_falls_back", failed=self._failed)
            return self._spare if self._spare.begin() else None

    def _heard(self, state: grpc.ChannelConnectivity) -> None:
        with self._changed:
            self._settled = self._settled or state is grpc.ChannelConnectivity.READY
            self._failed = self._failed or state is grpc.ChannelConnectivity.TRANSIENT_FAILURE
            self._changed.notify_all()
            spare = self._spare if self._settled else None
        if self._settled:
            self.first.unsubscribe(self._heard)
        if spare is not None:
            log.info("channel_is_back")
            spare.retire()

    def unary_unary(self, method: str, *arguments: Any, **named: Any) -> Any:
        """As every channel's."""
        return _Blocking(self, lambda channel: channel.unary_unary(method, *arguments, **named))

    def unary_stream(self, method: str, *arguments: Any, **named: Any) -> Any:
        """As every channel's."""
        return _Streaming(self, lambda channel: channel.unary_stream(method, *arguments, **named))

    def stream_unary(self, method: str, *arguments: Any, **named: Any) -> Any:
        """As every channel's."""
        return _Blocking(self, lambda channel: channel.stream_unary(method, *arguments, **named))

    def stream_stream(self, method: str, *arguments: Any, **named: Any) -> Any:
        """As every channel's."""
        return _Streaming(self, lambda channel: channel.stream_stream(method, *arguments, **named))

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:
        """Hear of the first choice's state."""
        self.first.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Hear no more of it."""
        self.first.unsubscribe(callback)

    def close(self) -> None:
        """Close both, with every call on them."""
        self.first.unsubscribe(self._heard)
        with self._changed:
            self._settled, spare = True, self._spare
            self._changed.notify_all()
        self.first.close()
        if spare is not None:
            spare.channel.close()

    def __enter__(self) -> "FallbackChannel":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Method:
    """One method on whichever channel a call takes."""

    def __init__(self, owner: FallbackChannel, make: Callable[[grpc.Channel], Any]) -> None:
        self._owner = owner
        self._make = make
        self._first = make(owner.first)

    def _begin(self, timeout: float | None) -> tuple[Any, float | None, Callable[[], None]]:
        """The callable to use, what is left of the timeout, and what to do when the call has ended."""
        if self._owner.settled:
            return self._first, timeout, _nothing
        began = time.monotonic()
        spare = self._owner.choose(timeout)
        left = None if timeout is None else max(0.0, timeout - (time.monotonic() - began))
        if spare is None:
            return self._first, left, _nothing
        return self._make(spare.channel), left, spare.end

    def _watched(self, verb: str, request: Any, timeout: float | None, **named: Any) -> Any:
        """Begin a call that outlives this one, and end it when it ends."""
        target, left, end = self._begin(timeout)
        try:
            call = getattr(target, verb)(request, timeout=left, **named)
        except BaseException:
            end()
            raise
        if not call.add_callback(end):
            end()  # it has ended already
        return call


class _Blocking(_Method):
    """A method with one response."""

    def __call__(self, request: Any, timeout: float | None = None, **named: Any) -> Any:
        with self._call(timeout) as (target, left):
            return target(request, timeout=left, **named)

    def with_call(self, request: Any, timeout: float | None = None, **named: Any) -> Any:
        """As every method's."""
        with self._call(timeout) as (target, left):
            return target.with_call(request, timeout=left, **named)

    def future(self, request: Any, timeout: float | None = None, **named: Any) -> Any:
        """As every method's."""
        return self._watched("future", request, timeout, **named)

    @contextlib.contextmanager
    def _call(self, timeout: float | None) -> Iterator[tuple[Any, float | None]]:
        target, left, end = self._begin(timeout)
        try:
            yield target, left
        finally:
            end()


class _Streaming(_Method):
    """A method with a stream of responses."""

    def __call__(self, request: Any, timeout: float | None = None, **named: Any) -> Any:
        return self._watched("__call__", request, timeout, **named)


def _nothing() -> None:
    """The first choice is not closed by its last call."""
