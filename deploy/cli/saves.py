"""What a save means for a running mesh: which processes need the new code, and whether contracts have changed. Pure.

Paths are relative to the clone. Whatever is not named here, such as tests and documents, means nothing to a mesh.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from weft_protos.manifests import SERVICE_FILE, WORKER_FILE, Service, Worker

#: Folders of the clone that are worth watching.
WATCHED: Final = ("protos/weft", "protos/py", "svc", "worker", "gateway", "lb")
#: Contracts that every process reads, whoever's they are.
SHARED: Final = frozenset({"options", "events", "mesh"})
#: What the processes are called that tell all others where everybody is.
CONTROL_PLANE: Final = "control-plane"
_GENERATED: Final = re.compile(r"^\s*from weft\.([a-z]+)\.", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What has to be done about some saves."""

    contracts: bool = False
    """Code is to be generated, and what the gateways go by to be published."""
    compiler: bool = False
    """What the gateways go by is to be compiled anew."""
    migrate: frozenset[str] = frozenset()
    """Databases with a migration that was saved."""
    restart: frozenset[str] = frozenset()
    """What runs code that has changed, by what its processes are called: services, workers, control planes."""
    manifests: bool = False
    """What the mesh consists of, or would, has changed; only its next start can follow."""

    def __bool__(self) -> bool:
        return self != Meaning()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the mesh consists of, and whose contracts each of them links."""

    services: Collection[Service]
    workers: Collection[Worker]
    links: Mapping[str, Collection[str]]
    """Packages below `weft` that a process's own code names, by the name of the process."""
    waiting: Collection[str] = frozenset()
    """Services that the mesh does not have before its next start; their contracts and workers bear their names."""

    @property
    def _serving(self) -> frozenset[str]:
        return frozenset(one.name for one in self.services)

    @property
    def _working(self) -> frozenset[str]:
        return frozenset({"relay", *(one.process for one in self.workers)})

    @property
    def _everybody(self) -> frozenset[str]:
        return self._serving | self._working | {CONTROL_PLANE}

    def meaning(self, saved: Iterable[str]) -> Meaning:
        """What has to be done about these files."""
        contracts = compiler = manifests = False
        migrate, restart = set[str](), set[str]()
        for path in map(PurePosixPath, saved):
            if path.name in (SERVICE_FILE, WORKER_FILE):
                manifests = True
                continue
            match path.parts:
                case ("protos", "weft", name, *_) | ("svc", name, *_) | ("worker", "handlers", name, *_) if (
                    name in self.waiting
                ):
                    manifests = True
                case ("protos", "weft", package, *_) if path.suffix == ".proto":
                    contracts = True
                    restart |= self._linking(package)
                case ("gateway", *_):
                    compiler = True
                case ("protos", "py", *_) | ("lb", *_) if path.suffix == ".py":
                    restart |= self._everybody
                    compiler |= path.parts[0] == "protos"
                case ("svc", "chassis", *_) if path.suffix == ".py":
                    restart |= self._serving | self._working
                case ("svc", name, *_) if name in self._serving:
                    restart.add(name)
                    migrate |= {name} if "migrations" in path.parts else set()
                case ("worker", "handlers", name, *_) if name in {one.name for one in self.workers}:
                    restart |= {one.process for one in self.workers if one.name == name}
                    migrate |= {name} if "migrations" in path.parts else set()
                case ("worker", *_) if path.suffix == ".py":
                    restart |= self._working
        return Meaning(contracts, compiler, frozenset(migrate), frozenset(restart), manifests)

    def _linking(self, package: str) -> frozenset[str]:
        if package in SHARED:
            return self._everybody
        linking = {name for name, packages in self.links.items() if package in packages}
        return (self._serving | self._working) & {package, *linking}


def linked(sources: Iterable[str]) -> frozenset[str]:
    """Packages of contracts that code names: `from weft.orders.v1 import orders_pb2` -> `orders`."""
    return frozenset(package for source in sources for package in _GENERATED.findall(source))
