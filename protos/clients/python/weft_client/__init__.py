"""The client of a Weft mesh, generated from its contracts.

    from weft_client import Weft, errors

    with Weft("localhost:8080", user="ann@example.com", password=password) as weft:
        try:
            weft.orders.place_order([{"product_id": "mug", "quantity": 2}])
        except errors.OutOfStock as refusal:
            print(refusal.violations)

Deadlines, repetitions and whether a token is needed are the contract's; `AsyncWeft` is the same for asyncio.
"""

from weft_client import errors, tracing
from weft_client.client import AsyncWeft, Weft, __version__
from weft_client.kinds import WeftError

__all__ = ["AsyncWeft", "Weft", "WeftError", "__version__", "errors", "tracing"]
