"""Python's garbage collector in a process that serves: most of what it would look at stays as long as that lives."""

import gc
from typing import Final

#: Objects made between two looks at the youngest. One change makes some thousands where there are thousands of
#: endpoints, and hardly any of them in a cycle: reference counts free them at once.
_YOUNG: Final = 50_000


def calm() -> None:
    """Leave all that is loaded out of every later collection. To be called once there is something to serve."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)
