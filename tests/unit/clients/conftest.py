"""A mocked mesh for programs in other languages: every service, a few answers, one failure before each success."""

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from svc.chassis.context import CallContext
from svc.chassis.errors import DeadlineExceeded, NotFound, Unavailable
from svc.contract_tests.standing import Places, Standing
from weft.orders.v1 import orders_pb2
from weft_protos import policy

ORDER = "orders/00000000-0000-4000-8000-000000000001"


class Mesh(Standing):
    """Keeps what it was asked; the first attempt of what has a `retry` fails."""

    def __init__(self) -> None:
        super().__init__(policy.SERVICES)
        self.asked: list[tuple[str, Any]] = []
        self.tokens: Counter[str] = Counter()
        self._lock = threading.Lock()

    def answer(self, method: MethodDescriptor, request: Message, call: CallContext) -> Iterator[Message]:
        with self._lock:
            first = all(name != method.name for name, _ in self.asked)
            self.asked.append((method.name, request))
            self.tokens["" if call.principal is None else call.principal.token] += 1
        name = getattr(request, "name", "")
        if method.name == "DeleteProduct" or (first and policy.effective(method).HasField("retry")):
            raise Unavailable(reason="DRAINING")
        if name == "products/none":
            raise NotFound(reason="PRODUCT_NOT_FOUND")
        if name == "products/slow":
            while not call.deadline.expired() and call.is_active():
                threading.Event().wait(0.02)
            raise DeadlineExceeded
        if method.name == "PlaceOrder":
            return iter([orders_pb2.Order(name=ORDER)])
        if method.name == "WatchOrder":
            return iter([orders_pb2.WatchOrderResponse(order=orders_pb2.Order(revision=each)) for each in (1, 2)])
        return super().answer(method, request, call)

    def requests(self, method: str) -> list[Any]:
        return [request for name, request in self.asked if name == method]


@pytest.fixture
def mesh() -> Iterator[tuple[Mesh, Places]]:
    mesh = Mesh()
    try:
        yield mesh, mesh.start()
    finally:
        mesh.close()


#: Who calls.
GIVEN = {
    "email": "ann@example.com",
    "password": "correct horse",
    "user": "users/ann",
    "product": "mug",
    "changes": 3,
}
#: What every program says that goes through the same calls.
SAID = {
    "order": ORDER,
    "revisions": [1, 2],
    "product": "display name",
    "none": {"code": "NotFound", "reason": "PRODUCT_NOT_FOUND", "fields": []},
    "empty": {"code": "InvalidArgument", "reason": "INVALID_FIELDS", "fields": ["items"]},
    "hangs": {"code": "DeadlineExceeded", "reason": "", "fields": []},
    "once": {"code": "Unavailable", "reason": "DRAINING", "fields": []},
    "users": ["users/ann", "users/ann"],
}


def check(mesh: Mesh, said: dict[str, Any]) -> None:
    """What a program said, and what reached the mesh meanwhile."""
    # Who is first at a deadline, the client or the service, is open; the service gives a reason.
    said["hangs"]["reason"] = ""
    assert said == SAID
    assert ["PlaceOrder", "PlaceOrder"] == [name for name, _ in mesh.asked if name == "PlaceOrder"]
    assert 1 == len({request.request_id for request in mesh.requests("PlaceOrder")})
    assert mesh.requests("PlaceOrder")[0].request_id
    assert 1 == len(mesh.requests("DeleteProduct"))
    assert 1 == len(mesh.requests("CreateSession"))
    assert {"", "access token"} == set(mesh.tokens)
