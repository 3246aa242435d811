"""The threads of unary calls, and who gets one: a pool that serves by criticality, and refuses what it cannot serve.

gRPC hands each call to the pool that its behaviour names (`experimental_thread_pool`) and asks of that pool nothing but
`submit` and its type. `lane` gives one pool for each class of calls; all of them share the threads, and `admission`
decides. A refused call runs in threads kept for that, where `refuses` is true, and has only to say so.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Final

from svc.chassis import metrics
from svc.chassis.admission import Admission
from svc.chassis.clock import SystemClock
from svc.chassis.criticality import Criticality
from svc.chassis.load import Meter

#: The longest that any contract lets a unary call take.
LONGEST_S: Final = 30.0
#: What a call may need beyond its deadline: a commit that is under way, a rollback, a thread that got no processor.
OVERDUE_S: Final = 2.0
#: A refusal takes a fraction of a millisecond; the second thread is for one that waits for its caller's bytes.
REFUSERS: Final = 2
_NEVER: Final = float("inf")


class _Work:
    """One call: gRPC's function and what it is told of its end."""

    __slots__ = ("_arguments", "_function", "future", "hurried", "until")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self.until = _deadline(arguments)
        self.hurried = False
        self.future: Future[Any] = Future()

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._function(*self._arguments))
        except BaseException as error:  # noqa: BLE001 - handed on
            # As the standard library's pool does: the error is the future's, and the thread lives on.
            self.future.set_exception(error)


class _Lane(ThreadPoolExecutor):
    """The pool of one class. It has no threads of its own."""

    def __init__(self, level: Criticality, take: Callable[[Criticality, _Work], None]) -> None:
        super().__init__(max_workers=1)
        self._level = level
        self._take = take

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        """Have it served, or refused."""
        work = _Work(fn, args)
        self._take(self._level, work)
        return work.future


def _deadline(arguments: tuple[Any, ...]) -> float:
    """When the caller stops waiting, on the monotonic clock. gRPC's arguments begin with its handler and the event."""
    at: float | None = arguments[1].call_details.deadline if len(arguments) > 1 else None
    return float("inf") if at is None else time.monotonic() + at - SystemClock().now().timestamp()


class Workers:
    """A fixed number of threads for calls of every class."""

    def __init__(self, threads: int, *, places: int, name: str, meter: Meter) -> None:
        """At most `places` calls wait for a thread. `name` begins the threads' names. Nothing runs until `start`.

        `meter` is told of every call that is let in, and of its end.
        """
        self._meter = meter
        self._admission: Admission[_Work] = Admission(threads=threads, places=places)
        self._lock = threading.Lock()
        self._closed = False
        # One token for each call that was let in, and for each thread at the end.
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._lanes = {level: _Lane(level, self._offer) for level in Criticality}
        self._here = threading.local()
        self._refusers = ThreadPoolExecutor(
            REFUSERS, thread_name_prefix=f"{name}-refuse", initializer=self._mark_refuser
        )
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), name=f"{name}-rpc-{number}", daemon=True)
            for number in range(threads)
        ]
        # By thread: when the call it is at must have ended. Each is written by its thread alone.
        self._over_at = [_NEVER] * threads
        metrics.RPC_THREADS.set(threads)
        metrics.RPC_WAITING.set_function(lambda: self.waiting)

    def start(self) -> None:
        """Begin to serve."""
        for thread in self._threads:
            thread.start()

    def lane(self, level: Criticality) -> ThreadPoolExecutor:
        """The pool to give to behaviours of that class."""
        return self._lanes[level]

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        with self._lock:
            return self._admission.waiting

    @property
    def refuses(self) -> bool:
        """Whether the calling thread has a call only in order to refuse it."""
        return getattr(self._here, "refuses", False)

    @property
    def hurried(self) -> bool:
        """Whether it refuses that call for its caller's own deadline alone."""
        return getattr(self._here, "hurried", False)

    def turn(self) -> bool:
        """Whether calls are still served: some thread runs that has not been at one call for longer than any may take.

        Every wait of a call ends by its deadline, also where what it waits for is dead; so threads that have all missed
        theirs are not slow but stuck, and no call will be served until the process is replaced.
        """
        now = time.monotonic()
        if self._closed or self._threads[0].ident is None:
            return True  # it begins, or ends
        return any(
            thread.is_alive() and over_at > now for thread, over_at in zip(self._threads, self._over_at, strict=True)
        )

    def shutdown(self) -> None:
        """Begin nothing any more, forget whoever waits, let the threads end with the call they are at."""
        with self._lock:
            self._closed = True
            left = self._admission.drain()
        for work in left:
            work.future.cancel()
        for _ in self._threads:
            self._tokens.put(None)
        self._refusers.shutdown(wait=False, cancel_futures=True)

    def _mark_refuser(self) -> None:
        self._here.refuses = True

    def _refuse(self, work: _Work) -> None:
        self._here.hurried = work.hurried
        work.run()

    def _offer(self, level: Criticality, work: _Work) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("the server has stopped")
            now = time.monotonic()
            refused = self._admission.offer(work, level, now=now, until=work.until)
            work.hurried = refused == [work] and self._admission.hurried(level, now=now, until=work.until)
        if work not in refused:
            self._meter.arrived()
            self._tokens.put(None)
        for each in refused:
            if each is not work:
                self._meter.left()
            self._refusers.submit(self._refuse, each)

    def _serve(self, number: int) -> None:
        while True:
            self._tokens.get()
            began = time.monotonic()
            with self._lock:
                work, late = self._admission.take(now=began)
                closed = self._closed
            if closed:
                return
            for each in late:
                self._meter.left()
                self._refusers.submit(self._refuse, each)
            if work is None:
                continue
            self._over_at[number] = min(work.until, began + LONGEST_S) + OVERDUE_S
            work.run()
            self._over_at[number] = _NEVER
            seconds = time.monotonic() - began
            metrics.RPC_BUSY.inc(seconds)
            self._meter.left()
            with self._lock:
                self._admission.served(seconds)
            del work
