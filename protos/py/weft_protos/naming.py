"""What services and methods are called where programs call them: on clients, and as tools for models."""

import re

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def snake(name: str) -> str:
    """`PlaceOrder` -> `place_order`."""
    return _HUMP.sub("_", name).lower()


def camel(name: str) -> str:
    """`PRODUCT_NOT_FOUND` -> `ProductNotFound`."""
    return "".join(part.capitalize() for part in name.lower().split("_"))


def stem(package: str, service: str) -> str:
    """A service's own name; the one that its package is named after has the package's. From `v2` on, with its version.

    `weft.catalog.v1`, `CatalogService` -> `catalog`; `weft.orders.v1`, `OrderService` -> `orders`, and its
    `InventoryService` -> `inventory`; `weft.catalog.v2`, `CatalogService` -> `catalog_v2`.
    """
    own, (_, owner, *version) = snake(service.removesuffix("Service") or service), package.split(".")
    name = owner if owner in (own, f"{own}s") else own
    return "_".join([name, *(each for each in version if each != "v1")])
