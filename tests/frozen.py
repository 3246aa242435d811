"""Parts of a running mesh that are there and do nothing, for as long as somebody wants it so."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from deploy.supervisor.errors import RefusedError
from deploy.supervisor.mesh import Mesh
from tests.waiting import eventually


@contextlib.contextmanager
def away(mesh: Mesh, *names: str) -> Iterator[None]:
    """Freeze parts, and whatever the supervisor starts in their place, for as long as this lasts.

    Frozen and not killed: their connections stay open and nobody is told, and the supervisor is kept busy for longer.
    """
    done = threading.Event()
    frozen: dict[str, int | None] = {}

    def freeze() -> None:
        while not done.wait(0.1):
            pids = {process.name: process.pid for process in mesh.status().processes}
            for name in names:
                if pids[name] is not None and pids[name] != frozen.get(name):
                    with contextlib.suppress(RefusedError):  # it has just ended
                        frozen[name] = mesh.kill(name, signal.SIGSTOP).pid

    freezing = threading.Thread(target=freeze)
    freezing.start()
    try:
        eventually(lambda: frozen.keys() == set(names))
        yield
    finally:
        done.set()
        freezing.join()
        # The last of each is not waited for: the supervisor finds it hung, as it found those before.
        for name in names:
            with contextlib.suppress(RefusedError):
                mesh.kill(name, signal.SIGCONT)
