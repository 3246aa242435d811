"""What was last known to be good, kept on disk for a start in bad times.

Control planes write here what they serve; they, and clients that reach none of them, begin with it. A file is replaced
as a whole or not at all, and one that is not what was written is not read: nothing is better than something else.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from lb.endpoint import Endpoint, ServiceName

log = structlog.get_logger(__name__)

ENDPOINTS: Final = "endpoints"
BUNDLE: Final = "bundle"
KEYS: Final = "keys"
LANES: Final = "lanes"

_HEADER: Final = b"weft last good 1 "
#: No file of ours comes near; whatever does is not ours.
_BYTES_MAX: Final = 256 << 20


class LastGood:
    """One directory of last good values, which processes of one machine share. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Touches nothing."""
        self._folder = folder
        self._written: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def write(self, name: str, content: bytes) -> None:
        """Replace a value. The same again costs nothing. Raises OSError; then the old value is still there."""
        digest = hashlib.sha256(content).digest()
        with self._lock:
            if self._written.get(name) == digest:
                return
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self._folder / f".{name}.{os.getpid()}"
            try:
                with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(_HEADER + digest.hex().encode() + b"\n")
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(self._folder / name)
            except OSError:
                fresh.unlink(missing_ok=True)
                raise
            self._written[name] = digest

    def read(self, name: str) -> bytes | None:
        """The last value; None where there is none, or it is damaged."""
        path = self._folder / name
        try:
            if path.stat().st_size > _BYTES_MAX:
                raise ValueError("too large")
            header, _, content = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("last_good_unreadable", name=name, reason=str(error))
            return None
        if header != _HEADER + hashlib.sha256(content).hexdigest().encode():
            log.warning("last_good_damaged", name=name)
            return None
        return content


def endpoints_to_bytes(endpoints: Iterable[Endpoint]) -> bytes:
    """Where each instance of each service is."""
    rows = [
        [each.service, each.instance, each.address, each.port, each.version, each.zone, each.lane] for each in endpoints
    ]
    return json.dumps(rows, separators=(",", ":")).encode()


def endpoints_from_bytes(content: bytes | None) -> tuple[Endpoint, ...]:
    """What `endpoints_to_bytes` wrote; none where it did not write this."""
    try:
        rows = json.loads(content) if content is not None else []
        return tuple(
            Endpoint(ServiceName(service), instance, address, port, version, zone=zone, lane="".join(lane))
            for service, instance, address, port, version, zone, *lane in rows
        )
    except (ValueError, TypeError, RecursionError) as error:
        log.warning("last_good_damaged", name=ENDPOINTS, reason=str(error))
        return ()
