"""Those who call while a mesh is hurt: customers, somebody who may not, and one who looks at the endpoints.

Each customer orders, takes back and reads in turn, and repeats under the same key what it has no answer to. All that
happens goes into the history, before it is sent and when it is answered.
"""

import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

import grpc

from deploy.supervisor.errors import SupervisorError
from deploy.supervisor.messages import Status
from lb.xds.types import EDS
from svc.chassis.clock import SystemClock
from tests.chaos.check import REFUSALS
from tests.chaos.history import Pending, Recorder
from tests.integration.shop import Customer, Shop, place_request, quantities, request_id, send
from tests.unit.lb.ads import Ads, answer_of, request
from weft.orders.v1 import orders_pb2, orders_pb2_grpc
from weft_protos.xds import message_class

CALLERS: Final = 6
PRODUCTS: Final = 4
STOCK: Final = 1_000_000
#: Between two operations of one caller, in seconds; before a repetition; and until it gives up.
PACE_S: Final = 0.15
PAUSE_S: Final = 0.3
PATIENCE_S: Final = 40.0
INTRUSIONS_S: Final = 0.25
LOOKS_S: Final = 0.5
#: A customer is followed by another before its token runs out.
CUSTOMER_S: Final = 240.0
#: Instances that were ready for so long are registered, and every control plane has heard of them.
STEADY_S: Final = 10.0

#: Codes that say that nothing happened, whatever was sent before.
REFUSED: Final = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE", *REFUSALS})

_ASSIGNMENT: Final = message_class("envoy.config.endpoint.v3.ClusterLoadAssignment")


class Workload:
    """Everybody who calls. `start` returns when each customer was answered, `stop` when the last call has ended."""

    def __init__(self, shop: Shop, recorder: Recorder, *, seed: int) -> None:
        self.customers: list[Customer] = []
        self.products: list[str] = []
        self._shop, self._recorder = shop, recorder
        self._random = Random(seed)
        self._stopping, self._lock = threading.Event(), threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for _ in range(PRODUCTS):
            product = self._shop.product(stock=STOCK)
            self.products.append(product)
            self._recorder.begin("open", product=product, quantity=STOCK).ok()
        for _ in range(CALLERS):
            caller = _Caller(self, self._shop, self._recorder, Random(self._random.random()))
            caller.place()
            self._go(caller.run)
        self._go(Intruder(self._shop, self._recorder).run)
        self._go(Watcher(self._shop, self._recorder).run)

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def newcomer(self) -> Customer:
        """Somebody new, signed in. Raises RpcError."""
        with self._lock:
            customer = self._shop.customer()
            self.customers.append(customer)
            return customer

    def pause(self, seconds: float) -> bool:
        """Wait; true where it is over."""
        return self._stopping.wait(seconds)

    def _go(self, work: Callable[[Callable[[float], bool]], None]) -> None:
        thread = threading.Thread(target=work, args=[self.pause])
        self._threads.append(thread)
        thread.start()


class _Caller:
    """One customer after another."""

    def __init__(self, workload: Workload, shop: Shop, recorder: Recorder, random: Random) -> None:
        self._workload, self._shop, self._recorder, self._random = workload, shop, recorder, random
        self._customer = workload.newcomer()
        self._since = time.monotonic()
        self._standing: dict[str, dict[str, int]] = {}

    def run(self, pause: Callable[[float], bool]) -> None:
        while not pause(PACE_S):
            if time.monotonic() - self._since > CUSTOMER_S and not self._renew():
                continue
            draw = self._random.random()
            if draw < 0.5 or not self._standing:
                self.place()
            elif draw < 0.7:
                self._cancel()
            else:
                self._read()

    def place(self) -> None:
        """Order one or two products, until somebody says what came of it."""
        chosen = self._random.sample(self._workload.products, self._random.randint(1, 2))
        items, key = {product: self._random.randint(1, 3) for product in chosen}, request_id()
        customer = self._customer

        def call(pending: Pending) -> None:
            order = send(self._shop.orders.PlaceOrder, place_request(items, key=key), customer)
            pending.ok(order=order.name)
            self._standing[order.name] = items

        self._repeat(call, lambda: self._recorder.begin("place", customer=customer.id, key=key, items=items))

    def _cancel(self) -> None:
        order = self._random.choice(list(self._standing))
        product = self._random.choice(list(self._standing[order]))
        customer, items, key = self._customer, {product: 1}, request_id()
        message = orders_pb2.CancelOrderRequest(name=order, items=quantities(items), request_id=key)

        def call(pending: Pending) -> None:
            send(self._shop.orders.CancelOrder, message, customer)
            pending.ok()

        asked = {"customer": customer.id, "key": key, "order": order, "items": items}
        self._repeat(call, lambda: self._recorder.begin("cancel", **asked))

    def _read(self) -> None:
        order, customer = self._random.choice(list(self._standing)), self._customer
        pending = self._recorder.begin("read", customer=customer.id, order=order)
        try:
            send(self._shop.orders.GetOrder, orders_pb2.GetOrderRequest(name=order), customer)
            pending.ok()
        except grpc.RpcError as error:
            (pending.fail if error.code().name == "NOT_FOUND" else pending.info)(code=error.code().name)

    def _repeat(self, call: Callable[[Pending], None], begin: Callable[[], Pending]) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while True:
            pending = begin()
            try:
                call(pending)
            except grpc.RpcError as error:
                code = error.code().name
                if code in REFUSED:
                    pending.fail(code=code)
                    return
                pending.info(code=code)
                if time.monotonic() > give_up or self._workload.pause(PAUSE_S):
                    return
            else:
                return

    def _renew(self) -> bool:
        try:
            self._customer = self._workload.newcomer()
        except grpc.RpcError:
            return False
        self._since, self._standing = time.monotonic(), {}
        return True


class Intruder:
    """Orders without the right to, through the gateway and straight at an instance."""

    def __init__(self, shop: Shop, recorder: Recorder) -> None:
        self._recorder = recorder
        instance = next(process for process in shop.mesh.status().processes if process.service == "orders")
        self._channel = grpc.insecure_channel(instance.address)
        foreign = shop.operator.sign_in("catalog.read").access_token
        self._ways = itertools.cycle(
            [
                (f"{how} {where}", stub, metadata)
                for where, stub in (
                    ("through the gateway", shop.orders),
                    ("straight at an instance", orders_pb2_grpc.OrderServiceStub(self._channel)),
                )
                for how, metadata in (
                    ("without a token", ()),
                    ("with a token of nobody's", (("authorization", f"Bearer {foreign[:-6]}AAAAAA"),)),
                    ("without the scope", (("authorization", f"Bearer {foreign}"),)),
                )
            ]
        )

    def run(self, pause: Callable[[float], bool]) -> None:
        while not pause(INTRUSIONS_S):
            how, stub, metadata = next(self._ways)
            pending = self._recorder.begin("intrude", how=how)
            try:
                stub.PlaceOrder(place_request({"p-none": 1}), metadata=metadata, timeout=PATIENCE_S)
                pending.ok()
            except grpc.RpcError as error:
                (pending.fail if error.code().name in REFUSED else pending.info)(code=error.code().name)
        self._channel.close()


class Watcher:
    """Asks the control planes in turn how many endpoints each service has; of those that had an instance all along."""

    def __init__(self, shop: Shop, recorder: Recorder) -> None:
        self._mesh, self._recorder = shop.mesh, recorder
        self._control_planes = itertools.cycle(
            [process.address for process in self._mesh.status().processes if process.kind == "control-plane"]
        )

    def run(self, pause: Callable[[float], bool]) -> None:
        while not pause(LOOKS_S):
            pending = self._recorder.begin("look")
            try:
                before = steady(self._mesh.status())
                seen = told(next(self._control_planes), before)
                after = steady(self._mesh.status())
            except (grpc.RpcError, StopIteration, SupervisorError) as error:
                pending.info(why=type(error).__name__)
                continue
            pending.ok(services={service: count for service, count in seen.items() if service in after})


def steady(status: Status) -> list[str]:
    """Services of which an instance has been ready for so long that everybody knows of it."""
    now = SystemClock().now().astimezone(UTC)
    return sorted(
        {
            process.service
            for process in status.processes
            if process.kind == "service"
            and process.state == "ready"
            and (now - datetime.fromisoformat(process.since)).total_seconds() > STEADY_S
        }
    )


def told(control_plane: str, services: list[str]) -> dict[str, int]:
    """Endpoints of each service, as a client of gRPC is told. Raises RpcError or StopIteration."""
    if not services:
        return {}
    ads = Ads(control_plane)
    try:
        asked = request(EDS, *services, kind="grpc", node="chaos")
        answer = answer_of(next(ads.open(asked)))
    finally:
        ads.close()
    assignments: list[Any] = [_ASSIGNMENT.FromString(packed.value) for packed in answer.resources]
    return {each.cluster_name: sum(len(locality.lb_endpoints) for locality in each.endpoints) for each in assignments}
