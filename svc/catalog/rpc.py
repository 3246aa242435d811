"""CatalogService: protobuf in, use case, protobuf out. Decides nothing.

The chassis calls these with requests that are valid by the contract's rules; every method returns its answer or
raises an `AppError`. The same conversions give `wiring` the form of a product in the cache.
"""

from datetime import UTC
from typing import Final

from google.protobuf.empty_pb2 import Empty
from google.type.money_pb2 import Money

from svc.catalog import usecases
from svc.catalog.model import PRODUCTS_PREFIX, Order, Position, Price, Product
from svc.catalog.usecases import Ports, Update
from svc.chassis import money, read_mask
from svc.chassis.cache.entry import Codec
from svc.chassis.context import CallContext
from svc.chassis.pages import PageTokens
from weft.catalog.v1 import catalog_pb2

PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 1000


class CatalogHandler:
    """Serves `weft.catalog.v1.CatalogService`."""

    def __init__(self, ports: Ports, pages: PageTokens) -> None:
        self._ports = ports
        self._pages = pages

    def CreateProduct(self, request: catalog_pb2.CreateProductRequest, call: CallContext) -> catalog_pb2.Product:
        """Create a product."""
        product = usecases.create_product(
            self._ports,
            request.product_id,
            display_name=request.product.display_name,
            price=_price(request.product.price),
            call=call,
        )
        return to_message(product)

    def GetProduct(self, request: catalog_pb2.GetProductRequest, call: CallContext) -> catalog_pb2.Product:
        """Read a product."""
        mask = read_mask.of(request.read_mask, catalog_pb2.Product)
        product = to_message(usecases.get_product(self._ports, _id(request.name), call=call))
        read_mask.keep(mask, product)
        return product

    def BatchGetProducts(
        self, request: catalog_pb2.BatchGetProductsRequest, call: CallContext
    ) -> catalog_pb2.BatchGetProductsResponse:
        """Read many products."""
        products = usecases.batch_get_products(self._ports, [_id(name) for name in request.names], call=call)
        return catalog_pb2.BatchGetProductsResponse(products=[to_message(product) for product in products])

    def ListProducts(
        self, request: catalog_pb2.ListProductsRequest, call: CallContext
    ) -> catalog_pb2.ListProductsResponse:
        """List products."""
        mask = read_mask.of(request.read_mask, catalog_pb2.Product)
        size = min(request.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        order = Order(request.order_by or Order.NAME.value)
        # A token continues the list it came from and no other (AIP-158).
        scope = f"{call.method}\n{order.value}\n{request.filter}"
        after = None
        if request.page_token:
            product_id, currency, minor = self._pages.decode(request.page_token, scope=scope)
            after = Position(product_id, Price(currency, int(minor)))
        # One more than the page tells whether there is a next one.
        products = usecases.list_products(
            self._ports, request.filter, order=order, after=after, limit=size + 1, call=call
        )
        page, token = products[:size], ""
        if len(products) > size:
            last = page[-1]
            token = self._pages.encode((last.id, last.price.currency, str(last.price.minor)), scope=scope)
        answer = [to_message(product) for product in page]
        for message in answer:
            read_mask.keep(mask, message)
        return catalog_pb2.ListProductsResponse(products=answer, next_page_token=token)

    def UpdateProduct(self, request: catalog_pb2.UpdateProductRequest, call: CallContext) -> catalog_pb2.Product:
        """Change a product."""
        update = Update(
            product_id=_id(request.product.name),
            display_name=request.product.display_name,
            price=_price(request.product.price) if request.product.HasField("price") else None,
            etag=request.product.etag,
            fields=request.update_mask.paths,
        )
        return to_message(usecases.update_product(self._ports, update, call=call))

    def DeleteProduct(self, request: catalog_pb2.DeleteProductRequest, call: CallContext) -> Empty:
        """Delete a product."""
        usecases.delete_product(self._ports, _id(request.name), call=call)
        return Empty()


def to_message(product: Product) -> catalog_pb2.Product:
    """A product on the wire."""
    message = catalog_pb2.Product(
        name=product.name,
        display_name=product.display_name,
        price=money.from_minor(product.price.currency, product.price.minor),
        etag=product.etag,
    )
    message.create_time.FromDatetime(product.create_time)
    message.update_time.FromDatetime(product.update_time)
    return message


def encode(product: Product) -> bytes:
    """A product in the cache."""
    return to_message(product).SerializeToString(deterministic=True)


def decode(data: bytes) -> Product:
    """A product from the cache."""
    message = catalog_pb2.Product.FromString(data)
    return Product(
        id=_id(message.name),
        display_name=message.display_name,
        price=_price(message.price),
        etag=message.etag,
        create_time=message.create_time.ToDatetime(UTC),
        update_time=message.update_time.ToDatetime(UTC),
    )


def version(product: Product) -> int:
    """Microseconds of its last change: whoever looks at the cache from outside compares them with the row's."""
    return round(product.update_time.timestamp() * 1e6)


#: A product in the cache.
CODEC: Final = Codec(encode, decode, version)


def _id(name: str) -> str:
    return name.removeprefix(PRODUCTS_PREFIX)


def _price(price: Money) -> Price:
    return Price(price.currency_code, money.to_minor(price, field="product.price"))
