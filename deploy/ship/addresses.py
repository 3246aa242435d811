"""Where parts find each other: the one thing in which compose and Kubernetes differ for those who run in them."""

from collections.abc import Sequence
from typing import Protocol


class Addresses(Protocol):
    """Host names within one form."""

    def members(self, name: str, size: int) -> tuple[str, ...]:
        """Hosts of the instances of a part that are known by name."""
        ...

    def any(self, name: str, size: int) -> tuple[str, ...]:
        """Hosts under which some instance of a part answers, tried in turn."""
        ...

    def own(self, name: str) -> str:
        """The host of an instance of a part that is known by name, as it says of itself."""
        ...


class Compose:
    """Each instance is a service of compose, whose name is its host."""

    def members(self, name: str, size: int) -> tuple[str, ...]:
        """`etcd-1`, `etcd-2`, ..."""
        return tuple(f"{name}-{number}" for number in range(1, size + 1))

    def any(self, name: str, size: int) -> tuple[str, ...]:
        """All of them: nothing stands before them."""
        return self.members(name, size)

    def own(self, name: str) -> str:
        """Its name."""
        return "$(POD_NAME)"


class Kubernetes:
    """Instances known by name are those of a StatefulSet that counts from 1, behind a headless Service."""

    def members(self, name: str, size: int) -> tuple[str, ...]:
        """`etcd-1.etcd`, `etcd-2.etcd`, ...: whole names within the namespace."""
        return tuple(f"{name}-{number}.{name}" for number in range(1, size + 1))

    def any(self, name: str, size: int) -> tuple[str, ...]:
        """The Service."""
        return (name,)

    def own(self, name: str) -> str:
        """Its name and that of the Service."""
        return f"$(POD_NAME).{name}"


def at(hosts: Sequence[str], port: int) -> tuple[str, ...]:
    """`host:port` of each."""
    return tuple(f"{host}:{port}" for host in hosts)
