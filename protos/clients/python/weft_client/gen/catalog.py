"""CatalogService. Generated from the contracts by `make gen`; never edited."""

from collections.abc import Mapping
from collections.abc import Sequence
from google.protobuf import empty_pb2
from google.protobuf import field_mask_pb2
from typing import Any
from weft.catalog.v1 import catalog_pb2
from weft_client.calls import AsyncCalls, Calls, bound


class Catalog:
    """Keeps the products that can be ordered."""

    def __init__(self, calls: Calls) -> None:
        self._calls = bound(calls, catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"])

    def create_product(
        self,
        product: catalog_pb2.Product | Mapping[str, Any],
        *,
        product_id: str | None = None,
        timeout: float | None = None,
    ) -> catalog_pb2.Product:
        """Creates a product. ALREADY_EXISTS where the id is taken.

        product: The product, with name and price.
        product_id: Id of the new product, its stock code; a random one where it is empty.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProductExists: the id is taken
        """
        fields = {"product_id": product_id, "product": product}
        answer: catalog_pb2.Product = self._calls.call("CreateProduct", fields, timeout=timeout)
        return answer

    def get_product(
        self,
        name: str,
        *,
        read_mask: field_mask_pb2.FieldMask | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> catalog_pb2.Product:
        """Reads one product.

        name: The product to read, `products/{product}`.
        read_mask: Fields of the product to answer with, for example `display_name,price` (AIP-157). Empty, or
            `*`: all of them.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProductNotFound: there is no such product
        """
        fields = {"name": name, "read_mask": read_mask}
        answer: catalog_pb2.Product = self._calls.call("GetProduct", fields, timeout=timeout)
        return answer

    def batch_get_products(
        self,
        names: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> catalog_pb2.BatchGetProductsResponse:
        """Reads many products at once, in the order asked for. NOT_FOUND names the first that does not exist.

        names: The products to read, each `products/{product}`; 500 at most.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProductNotFound: a product does not exist; ResourceInfo names the first
        """
        fields = {"names": names}
        answer: catalog_pb2.BatchGetProductsResponse = self._calls.call("BatchGetProducts", fields, timeout=timeout)
        return answer

    def list_products(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        filter: str | None = None,
        order_by: str | None = None,
        read_mask: field_mask_pb2.FieldMask | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> catalog_pb2.ListProductsResponse:
        """Lists products, filtered and ordered (AIP-160 subset, AIP-132).

        page_size: The most products in one page; 0: 50. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        filter: Words that the display name must contain, without regard to case; empty: every product.
        order_by: `name`, `name desc`, `price` or `price desc`; empty: `name`.
        read_mask: Fields of the products to answer with, for example `name,price` (AIP-157). Empty, or `*`: all
            of them.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"page_size": page_size, "page_token": page_token, "filter": filter, "order_by": order_by, "read_mask": read_mask}
        answer: catalog_pb2.ListProductsResponse = self._calls.call("ListProducts", fields, timeout=timeout)
        return answer

    def update_product(
        self,
        product: catalog_pb2.Product | Mapping[str, Any],
        *,
        update_mask: field_mask_pb2.FieldMask | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> catalog_pb2.Product:
        """Changes a product. ABORTED where `etag` is given and is not the current one.

        product: The product with its new values.
        update_mask: What to change: `display_name`, `price`. Empty: both.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProductNotFound: there is no such product
            EtagMismatch: it was changed since `etag` was read
            FieldImmutable: `update_mask` names a field that cannot be changed
        """
        fields = {"product": product, "update_mask": update_mask}
        answer: catalog_pb2.Product = self._calls.call("UpdateProduct", fields, timeout=timeout)
        return answer

    def delete_product(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> empty_pb2.Empty:
        """Deletes a product; orders that hold it keep their copy of name and price.

        name: The product to delete, `products/{product}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProductNotFound: there is no such product
        """
        fields = {"name": name}
        answer: empty_pb2.Empty = self._calls.call("DeleteProduct", fields, timeout=timeout)
        return answer


class AsyncCatalog:
    """Keeps the products that can be ordered."""

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = bound(calls, catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"])

    async def create_product(
        self,
        product: catalog_pb2.Product | Mapping[str, Any],
        *,
        product_id: str | None = None,
        timeout: float | None = None,
    ) -> catalog_pb2.Product:
        """Creates a product. ALREADY_EXISTS where the id is taken.

        product: The product, with name and price.
        product_id: Id of the new product, its stock code; a random one where it is empty.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProductExists: the id is taken
        """
        fields = {"product_id": product_id, "product": product}
        answer: catalog_pb2.Product = await self._calls.call("CreateProduct", fields, timeout=timeout)
        return answer

    async def get_product(
        self,
        name: str,
        *,
        read_mask: field_mask_pb2.FieldMask | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> catalog_pb2.Product:
        """Reads one product.

        name: The product to read, `products/{product}`.
        read_mask: Fields of the product to answer with, for example `display_name,price` (AIP-157). Empty, or
            `*`: all of them.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProductNotFound: there is no such product
        """
        fields = {"name": name, "read_mask": read_mask}
        answer: catalog_pb2.Product = await self._calls.call("GetProduct", fields, timeout=timeout)
        return answer

    async def batch_get_products(
        self,
        names: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> catalog_pb2.BatchGetProductsResponse:
        """Reads many products at once, in the order asked for. NOT_FOUND names the first that does not exist.

        names: The products to read, each `products/{product}`; 500 at most.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProductNotFound: a product does not exist; ResourceInfo names the first
        """
        fields = {"names": names}
        answer: catalog_pb2.BatchGetProductsResponse = await self._calls.call("BatchGetProducts", fields, timeout=timeout)
        return answer

    async def list_products(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        filter: str | None = None,
        order_by: str | None = None,
        read_mask: field_mask_pb2.FieldMask | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> catalog_pb2.ListProductsResponse:
        """Lists products, filtered and ordered (AIP-160 subset, AIP-132).

        page_size: The most products in one page; 0: 50. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        filter: Words that the display name must contain, without regard to case; empty: every product.
        order_by: `name`, `name desc`, `price` or `price desc`; empty: `name`.
        read_mask: Fields of the products to answer with, for example `name,price` (AIP-157). Empty, or `*`: all
            of them.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"page_size": page_size, "page_token": page_token, "filter": filter, "order_by": order_by, "read_mask": read_mask}
        answer: catalog_pb2.ListProductsResponse = await self._calls.call("ListProducts", fields, timeout=timeout)
        return answer

    async def update_product(
        self,
        product: catalog_pb2.Product | Mapping[str, Any],
        *,
        update_mask: field_mask_pb2.FieldMask | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> catalog_pb2.Product:
        """Changes a product. ABORTED where `etag` is given and is not the current one.

        product: The product with its new values.
        update_mask: What to change: `display_name`, `price`. Empty: both.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProductNotFound: there is no such product
            EtagMismatch: it was changed since `etag` was read
            FieldImmutable: `update_mask` names a field that cannot be changed
        """
        fields = {"product": product, "update_mask": update_mask}
        answer: catalog_pb2.Product = await self._calls.call("UpdateProduct", fields, timeout=timeout)
        return answer

    async def delete_product(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> empty_pb2.Empty:
        """Deletes a product; orders that hold it keep their copy of name and price.

        name: The product to delete, `products/{product}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProductNotFound: there is no such product
        """
        fields = {"name": name}
        answer: empty_pb2.Empty = await self._calls.call("DeleteProduct", fields, timeout=timeout)
        return answer
