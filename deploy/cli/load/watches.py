"""Streams that stay open during a load: each watches an order, and is opened again when its instance goes.

That a stream still carries something is proven at the end: each order is taken back, and each stream must tell so.
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

import grpc

from deploy.cli.gateway_client import SignInError, describe
from deploy.cli.load.shop import Shop, User
from deploy.cli.load.tally import Tally
from deploy.cli.load.traffic import Where
from weft.orders.v1 import orders_pb2, orders_pb2_grpc

WATCHES: Final = 4
METHOD: Final = "WatchOrder"
#: Between two attempts to open a stream again.
PAUSE_S: Final = 0.1
#: A stream that is away for longer is a failure.
AWAY_MAX_S: Final = 10.0
#: How long the last change may take to arrive.
LAST_S: Final = 10.0
#: Codes of a stream that was cut. An instance that drains says UNAVAILABLE; what dies says nothing, and gRPC makes of
#: the lost connection or the reset stream one of these.
CUT: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


class _Watch(threading.Thread):
    """One stream for as long as the load lasts."""

    def __init__(self, where: Where, shop: Shop, user: User, tally: Tally) -> None:
        super().__init__(name=f"load-watch-{user.id}", daemon=True)
        self.user = user
        self.order = user.orders[0]
        self.messages = 0
        self.ended: Counter[str] = Counter()
        self.longest_away_s = 0.0
        self.told_of_the_end = threading.Event()
        self._where = where
        self._shop = shop
        self._tally = tally
        self._connection = where.channel()
        self._stopping = threading.Event()
        self._revision = 0
        self._away_since: float | None = time.monotonic()
        self._failed = False
        self._call: Any = None

    def run(self) -> None:
        stub = orders_pb2_grpc.OrderServiceStub(self._connection)
        while not self._stopping.is_set():
            request = orders_pb2.WatchOrderRequest(name=self.order)
            self._call = stub.WatchOrder(request, metadata=self._where.metadata(self.user))
            try:
                for answer in self._call:
                    self._told(answer.order)
                # It would look complete to its reader, who would not open it again.
                reason = "the stream ended without an error"
                self.ended["OK"] += 1
                self._tally.refused(METHOD, reason)
            except grpc.RpcError as error:
                if self._stopping.is_set():
                    return
                reason = describe(error)
                self.ended[error.code().name] += 1
                if error.code() not in CUT:
                    self._tally.refused(METHOD, reason)
                    return
            self._away(reason)
            self._stopping.wait(PAUSE_S)

    def finish(self) -> None:
        """End it; a failure is counted where it is away, or did not tell of the last change."""
        self._stopping.set()
        if not self.told_of_the_end.is_set() and not self._failed:
            self._tally.refused(METHOD, f"a stream did not tell within {LAST_S:.0f} s that its order was taken back")
        if self._call is not None:
            self._call.cancel()
        self.join()
        self._connection.close()

    def _told(self, order: orders_pb2.Order) -> None:
        now = time.monotonic()
        self.messages += 1
        if order.revision < self._revision:
            self._tally.refused(METHOD, f"revision {order.revision} after {self._revision}")
        self._revision = max(self._revision, order.revision)
        if self._away_since is not None:
            self.longest_away_s = max(self.longest_away_s, now - self._away_since)
            self._tally.succeeded(METHOD, due=self._away_since, now=now)
            self._away_since = None
        if order.state == orders_pb2.Order.STATE_CANCELLED:
            self.told_of_the_end.set()

    def _away(self, reason: str) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        elif now - self._away_since > AWAY_MAX_S and not self._failed:
            self._failed = True
            self._tally.refused(METHOD, f"away for more than {AWAY_MAX_S:.0f} s: {reason}")


class Watches:
    """Some streams for as long as the context lasts."""

    def __init__(self, where: Where, shop: Shop, tally: Tally) -> None:
        self._shop = shop
        self._tally = tally
        self._watches = [_Watch(where, shop, user, tally) for user in shop.users[:WATCHES]]

    def __enter__(self) -> "Watches":
        for watch in self._watches:
            watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + LAST_S
        for watch in self._watches:
            self._take_back(watch)
        for watch in self._watches:
            watch.told_of_the_end.wait(max(0.0, deadline - time.monotonic()))
        for watch in self._watches:
            watch.finish()

    def result(self) -> Mapping[str, Any]:
        """What the streams met, for machines."""
        ended: Counter[str] = Counter()
        for watch in self._watches:
            ended += watch.ended
        return {
            "open": len(self._watches),
            "messages": sum(watch.messages for watch in self._watches),
            "resumed": sum(ended.values()),
            "ended": dict(sorted(ended.items())),
            "longest_away_s": round(max((watch.longest_away_s for watch in self._watches), default=0.0), 3),
        }

    def _take_back(self, watch: _Watch) -> None:
        stub = orders_pb2_grpc.OrderServiceStub(self._shop.client.channel(watch.user.id))
        request = orders_pb2.CancelOrderRequest(name=watch.order, request_id=str(uuid.uuid4()))
        try:
            order = self._shop.client.call(stub.CancelOrder, request, user=watch.user.id)
        except grpc.RpcError as error:
            self._tally.refused("CancelOrder", describe(error))
        except SignInError as error:
            self._tally.refused("CancelOrder", str(error))
        else:
            self._shop.taken_back(order)
