"""Which services and workers the mesh has: every folder below `svc` and `worker/handlers` that holds a manifest.

Nobody lists them anywhere else, so that a new one needs no file but its own. Importing this raises ManifestError where
a manifest is wrong.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from weft_protos import manifests
from weft_protos.manifests import ManifestError


def _folder(package: str) -> Path:
    """Where a top-level package lies, without a line of it being run."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ManifestError(f"there is no package {package}")
    return Path(next(iter(spec.submodule_search_locations)))


#: Every service, by name.
SERVICES: Final = manifests.services(_folder("svc"))

#: The services with a database, by name.
STORING: Final = tuple(one.name for one in SERVICES if one.has_database)

#: Every worker that consumes events, by name. The relay, which publishes them, is none.
WORKERS: Final = manifests.workers(_folder("worker") / "handlers", SERVICES)

#: The workers that every event reaches without its contract naming them.
OF_ALL: Final = tuple(one.name for one in WORKERS if one.of_all)

#: Everything that has a database of its own.
DATABASES: Final = (*STORING, *(one.name for one in WORKERS if one.migrates))
