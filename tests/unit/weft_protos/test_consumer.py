"""Who calls: names that are read, names that are not, and the hash of the linked contracts."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from weft_protos import consumer
from weft_protos.consumer import Consumer

HASH = "0123456789ab"


def test_a_client_that_names_itself_is_read_back() -> None:
    key, said = consumer.declare("shop-web", "1.4")

    assert "x-weft-client" == key
    assert Consumer("shop-web", "1.4", consumer.contract_hash()) == consumer.read(said, "grpc-python/1.85")
    assert re.fullmatch("[0-9a-f]{12}", consumer.contract_hash())


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("shop", Consumer("shop")),
        ("shop/2", Consumer("shop", "2")),
        (f"shop; contract={HASH}", Consumer("shop", "", HASH)),
        (f"shop/2;contract={HASH}", Consumer("shop", "2", HASH)),
    ],
)
def test_version_and_contract_may_be_left_out(declared: str, expected: Consumer) -> None:
    assert expected == consumer.read(declared, "")
    assert expected == consumer.parse(str(expected))


@pytest.mark.parametrize(
    "declared",
    [
        "",
        "Shop",
        "shop/",
        "shop web",
        "shop\r\nx: y",
        "shöp",
        "a" * 65,
        f"shop/{'1' * 33}",
        "shop; contract=XYZ",
        "shop/1\n",
    ],
)
def test_who_names_itself_wrongly_is_known_by_its_user_agent(declared: str) -> None:
    assert Consumer("user-agent:curl") == consumer.read(declared, "curl/8.5.0")
    assert Consumer("unknown") == consumer.read(declared, "")
    assert Consumer("unknown") == consumer.read(declared, "<script>")


def test_no_declared_name_looks_like_an_undeclared_one() -> None:
    for name in (consumer.OTHER, f"{consumer.AGENT}curl"):
        assert consumer.read(name, "").name == consumer.UNKNOWN
        assert Consumer(name) == consumer.parse(name)
    with pytest.raises(ValueError, match="is no consumer"):
        consumer.parse("Nobody At All")


@pytest.mark.parametrize(("name", "version"), [("Shop", ""), ("", ""), ("shop", "1 beta"), ("a" * 65, "1")])
def test_a_name_that_nobody_would_read_is_refused(name: str, version: str) -> None:
    with pytest.raises(ValueError, match="a name is"):
        consumer.declare(name, version)


def test_a_named_channel_names_every_call_and_leaves_a_name_alone() -> None:
    seen: list[tuple[str, ...]] = []

    def answer(_request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(tuple(str(value) for key, value in context.invocation_metadata() if key == consumer.HEADER))
        return b""

    def stream(request: bytes, context: grpc.ServicerContext) -> Any:
        yield answer(request, context)

    server = grpc.server(ThreadPoolExecutor(1))
    handlers = {
        "One": grpc.unary_unary_rpc_method_handler(answer),
        "Many": grpc.unary_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.Y", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as plain:
        channel: Any = consumer.named(plain, "shop", "1")
        channel.unary_unary("/x.Y/One")(b"", timeout=10)
        list(channel.unary_stream("/x.Y/Many")(b"", timeout=10))
        channel.unary_unary("/x.Y/One")(b"", timeout=10, metadata=((consumer.HEADER, "own"),))
    server.stop(None).wait()

    said = consumer.declare("shop", "1")[1]
    assert [(said,), (said,), ("own",)] == seen
