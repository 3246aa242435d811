"""A caller of shipping in Python, in a process of its own: gRPC reads its bootstrap once in a process.

It knows the contract by the descriptor set in argv alone, and takes the orders that `cmd/caller` takes.
"""

import json
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from lb import channel

GET_RATE = "weft.shipping.v1.ShippingService/GetRate"
PACE_S = 0.02
CALL_S = 10.0
FAILURES_MAX = 20


class ShippingCaller:
    """Calls once, or on and on."""

    def __init__(self, contracts: Path) -> None:
        pool = DescriptorPool()
        for file in FileDescriptorSet.FromString(contracts.read_bytes()).file:
            pool.Add(file)
        method = pool.FindServiceByName(GET_RATE.split("/")[0]).FindMethodByName(GET_RATE.split("/")[1])
        self._request: Any = GetMessageClass(method.input_type)
        self._channel = channel.open("shipping")
        self._send: Any = self._channel.unary_unary(
            f"/{GET_RATE}",
            request_serializer=self._request.SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        self._stopping, self._lock = threading.Event(), threading.Lock()
        self._threads: list[threading.Thread] = []
        self._calls, self._failed = 0, list[str]()
        self._peers = Counter[str]()

    def call(self, order: dict[str, Any]) -> dict[str, str]:
        metadata = [("authorization", f"Bearer {order['token']}")] if order["token"] else []
        if order.get("traceparent"):
            metadata.append(("traceparent", order["traceparent"]))
        try:
            rate = self._send(self._request(name=order["product"]), metadata=metadata, timeout=CALL_S)
        except grpc.RpcError as error:
            return {"code": error.code().name, "message": error.details() or "", "peer": "", "name": ""}
        return {"code": "OK", "message": "", "peer": rate.served_by, "name": rate.name}

    def start(self, order: dict[str, Any]) -> None:
        self._threads = [threading.Thread(target=self._loop, args=[order]) for _ in range(order["callers"])]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def report(self) -> dict[str, Any]:
        with self._lock:
            said = self._failed[:FAILURES_MAX]
            return {"calls": self._calls, "failed": len(self._failed), "said": said, "peers": dict(self._peers)}

    def close(self) -> None:
        self.stop()
        self._channel.close()

    def _loop(self, order: dict[str, Any]) -> None:
        while not self._stopping.wait(PACE_S):
            answer = self.call(order)
            with self._lock:
                self._calls += 1
                if answer["code"] == "OK":
                    self._peers[answer["peer"]] += 1
                else:
                    self._failed.append(f"{answer['code']}: {answer['message']}")


def main() -> None:
    caller = ShippingCaller(Path(sys.argv[1]))
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "call":
            print(json.dumps(caller.call(order)), flush=True)
            continue
        if order["do"] == "start":
            caller.start(order)
        elif order["do"] == "stop":
            caller.stop()
        print(json.dumps(caller.report()), flush=True)
    caller.close()


main()
