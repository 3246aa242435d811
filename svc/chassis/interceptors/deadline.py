"""Gives each call its deadline, and refuses the call whose deadline has passed while it waited for a thread."""

from collections.abc import Iterator
from contextlib import contextmanager

from svc.chassis.call import Call, Interceptor, Method, Verifier
from svc.chassis.context import Deadline
from svc.chassis.errors import DeadlineExceeded


def build(method: Method, _verifier: Verifier) -> Interceptor:
    """The client's deadline or the contract's timeout, whichever is earlier."""
    timeout_s = method.timeout_s

    @contextmanager
    def set_deadline(call: Call) -> Iterator[None]:
        left_s = timeout_s if call.time_left_s is None else min(call.time_left_s, timeout_s)
        if left_s <= 0 or not call.is_active():
            raise DeadlineExceeded("The deadline passed before the work began.", reason="DEADLINE_EXPIRED")
        call.deadline = Deadline.after(left_s)
        yield

    return set_deadline
