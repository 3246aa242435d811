"""What orders asks the catalog: names and prices, over `xds:///catalog`, before any transaction begins.

`wiring` gives it to the use cases. Called with the caller's own token and what is left of the caller's deadline.
"""

from collections.abc import Sequence

from svc.chassis import money
from svc.chassis.client import Peer
from svc.chassis.context import CallContext
from svc.chassis.errors import Internal
from svc.orders.model import Product
from weft.catalog.v1 import catalog_pb2

_PREFIX = "products/"


class CatalogClient:
    """Reads products from the catalog service."""

    def __init__(self, peer: Peer) -> None:
        """`peer` speaks `weft.catalog.v1.CatalogService`."""
        self._peer = peer

    def products(self, product_ids: Sequence[str], *, call: CallContext) -> Sequence[Product]:
        """The products, in the order asked for.

        NotFound names the first unknown one as its resource. Where the catalog cannot answer, this hop has already
        repeated the call: that is Aborted, which the gateway passes on and the client may repeat.
        """
        request = catalog_pb2.BatchGetProductsRequest(names=[_PREFIX + product_id for product_id in product_ids])
        response = self._peer.call("BatchGetProducts", request, call=call)
        products = [_product(product) for product in response.products]
        if [product.product_id for product in products] != list(product_ids):
            raise Internal("The catalog answered with other products than it was asked for.")
        return products


def _product(product: catalog_pb2.Product) -> Product:
    return Product(
        product_id=product.name.removeprefix(_PREFIX),
        display_name=product.display_name,
        currency=product.price.currency_code,
        price_minor=money.to_minor(product.price),
    )
