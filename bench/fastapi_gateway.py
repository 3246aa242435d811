"""The gateway a Python team would write instead: FastAPI on uvicorn, PyJWT, pydantic, a gRPC client.

Written as well as one writes it: uvloop and httptools, one channel, no access log. It has neither limits nor spans.
With --remember it does not verify a token again that it has verified, which few such gateways do, but Envoy does.
Started by bench/json_gateway.py.
"""

import argparse
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import jwt
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from google.protobuf import json_format
from pydantic import BaseModel, ConfigDict, Field

from weft.catalog.v1.catalog_pb2 import GetProductRequest, Product
from weft.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from weft.orders.v1.orders_pb2 import Order, PlaceOrderRequest
from weft.orders.v1.orders_pb2_grpc import OrderServiceStub

REMEMBERED: Final = 2000
TIMEOUT_S: Final = 5.0
_STATUSES: Final = {
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAVAILABLE: 503,
}


class Tokens:
    """Verifies access tokens; `remembered` is how many it does not verify again."""

    def __init__(self, keys: str, remembered: int) -> None:
        self._remembered = remembered
        self._keys = {key.key_id: key for key in jwt.PyJWKSet.from_json(keys).keys}
        self._passed: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def claims(self, authorization: str, now: float) -> dict[str, Any]:
        """The claims of a bearer token. Raises HTTPException."""
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer":
            raise HTTPException(401, "no bearer token")
        known = self._passed.get(token)
        if known is not None and now < known["exp"]:
            return known
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
            found: dict[str, Any] = jwt.decode(
                token, key.key, ["ES256"], audience="weft", issuer="weft-identity", options={"require": ["exp", "sub"]}
            )
        except (jwt.InvalidTokenError, KeyError) as error:
            raise HTTPException(401, "the token is not valid") from error
        self._passed[token] = found
        if len(self._passed) > self._remembered:
            self._passed.popitem(last=False)
        return found


class Item(BaseModel):
    """One product of an order."""

    model_config = ConfigDict(extra="forbid")

    product_id: Annotated[str, Field(alias="productId", max_length=63)]
    quantity: Annotated[int, Field(ge=1, le=1_000_000)]


class NewOrder(BaseModel):
    """Body of POST /v1/orders."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[Item], Field(min_length=1, max_length=500)]
    request_id: Annotated[str, Field(alias="requestId", pattern=r"^[0-9a-f-]{36}$")]


class Gateway:
    """The handlers, over one channel to the backend."""

    def __init__(self, tokens: Tokens, backend: str) -> None:
        self._tokens = tokens
        self._backend = backend
        self._catalog: Any = None
        self._orders: Any = None

    async def connect(self) -> None:
        """Open the channel; it belongs to the server's event loop."""
        channel = grpc.aio.insecure_channel(self._backend)
        self._catalog, self._orders = CatalogServiceStub(channel), OrderServiceStub(channel)

    def needs(self, scope: str) -> Any:
        """A dependency that lets a request pass only with a scope."""

        async def check(request: Request) -> str:
            claims = self._tokens.claims(request.headers.get("authorization", ""), time.time())  # noqa: TID251
            if scope not in claims.get("scope", "").split():
                raise HTTPException(403, f"the scope {scope} is missing")
            authorization: str = request.headers["authorization"]
            return authorization

        return Depends(check)

    async def get_product(self, product: str, authorization: str) -> JSONResponse:
        """GET /v1/products/{product}."""
        request = GetProductRequest(name=f"products/{product}")
        return await self._call(self._catalog.GetProduct, request, authorization)

    async def place_order(self, order: NewOrder, authorization: str) -> JSONResponse:
        """POST /v1/orders."""
        request = PlaceOrderRequest(request_id=order.request_id)
        for item in order.items:
            request.items.add(product_id=item.product_id, quantity=item.quantity)
        return await self._call(self._orders.PlaceOrder, request, authorization)

    async def _call(self, method: Any, request: Any, authorization: str) -> JSONResponse:
        try:
            answer: Product | Order = await method(
                request, timeout=TIMEOUT_S, metadata=(("authorization", authorization),)
            )
        except grpc.aio.AioRpcError as error:
            raise HTTPException(_STATUSES.get(error.code(), 500), error.details()) from error
        return JSONResponse(json_format.MessageToDict(answer))


def application(gateway: Gateway) -> FastAPI:
    """The routes."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.connect()
        yield

    async def get_product(product: str, authorization: str = gateway.needs("catalog.read")) -> JSONResponse:
        return await gateway.get_product(product, authorization)

    async def place_order(order: NewOrder, authorization: str = gateway.needs("orders.write")) -> JSONResponse:
        return await gateway.place_order(order, authorization)

    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/v1/products/{product}", get_product, methods=["GET"], response_model=None)
    app.add_api_route("/v1/orders", place_order, methods=["POST"], response_model=None)
    return app


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backend", required=True, metavar="HOST:PORT")
    parser.add_argument("--keys", type=Path, required=True, metavar="FILE", help="JWK set")
    parser.add_argument("--remember", action="store_true", help="do not verify a token again")
    options = parser.parse_args()
    tokens = Tokens(options.keys.read_text(), REMEMBERED if options.remember else 0)
    gateway = Gateway(tokens, options.backend)
    uvicorn.run(
        application(gateway),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
