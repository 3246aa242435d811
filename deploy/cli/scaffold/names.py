"""What a new service and its resource are called, in every form that its files need. Pure.

A name is checked here once, against what contracts, Python, the database and the mesh can do with it; the forms are
then put together without a further look.
"""

import builtins
import keyword
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

#: Scopes are `<service>.<verb>` in letters alone, and names of databases and packages have to be short enough to read.
_SERVICE: Final = re.compile(r"[a-z]{2,20}")
#: Names longer than these make lines that no formatter can break.
_RESOURCE: Final = re.compile(r"(?=.{2,24}\Z)[a-z]{2,}(_[a-z]{2,}){0,2}")

_SERVICES_TAKEN: Final = """
    alertmanager call chassis clients close common console contracts databases edge envelope etcd events gateway
    handlers helpers letters liveness mail mesh options postgres prometheus proxies rabbitmq relay services shared
    stable supervisor traces utils weft
"""
#: What has another meaning in a mesh: packages, parts, roles and databases of its own.
RESERVED_SERVICES: Final = frozenset(_SERVICES_TAKEN.split())
_RESOURCES_TAKEN: Final = """
    after append asked call calls clock column columns counted created created_daily database event events fact
    facts flood found handler inbox key limit memory message model name names operator outbox page pages ports
    principal random request response rows row rpc sampled scopes secrets service services session size store
    stub text token transaction transactions usecases values wiring work worker world
"""
#: What the templates call something else.
RESERVED_RESOURCES: Final = frozenset(_RESOURCES_TAKEN.split())


class NameRefusedError(ValueError):
    """A service or a resource cannot be called so; the message says why, and what would do."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What is there already."""

    services: Collection[str]
    """Names of services, of workers and of other parts of the mesh."""
    methods: Collection[str]
    """Full names of methods are different for each service; plain ones have to be different, too, for people."""
    collections: Collection[str]
    """First segments of HTTP paths behind the version."""


@dataclass(frozen=True, slots=True)
class Names:
    """One service and its one resource."""

    service: str
    resource: str
    """In snake case, singular: `shipping_label`."""

    @property
    def items(self) -> str:
        """In snake case, plural: `shipping_labels`."""
        return plural(self.resource)

    @property
    def collection(self) -> str:
        """As AIP-122 writes it: `shippingLabels`."""
        return _camel(self.items)

    @property
    def json(self) -> str:
        """The resource as a field in ProtoJSON: `shippingLabel`."""
        return _camel(self.resource)

    def words(self) -> Mapping[str, str]:
        """Every form by the name that templates know it under."""
        plain = self.resource.replace("_", " ")
        return {
            "service": self.service,
            "Service": self.service.capitalize(),
            "resource": self.resource,
            "Resource": _joined(self.resource),
            "RESOURCE": self.resource.upper(),
            "items": self.items,
            "Items": _joined(self.items),
            "ITEMS": self.items.upper(),
            "collection": self.collection,
            "words": plain,
            "many": self.items.replace("_", " "),
            "a": "an" if plain[0] in "aeio" else "a",
        }


def named(service: str, resource: str, taken: Taken) -> Names:
    """The names of a service; an empty resource is derived from the service's name. Raises NameRefusedError."""
    if not _SERVICE.fullmatch(service):
        raise NameRefusedError(f"{service!r} cannot be a service's name; give 2 to 20 letters a to z, such as parcels")
    if service in taken.services:
        raise NameRefusedError(f"{service} is there already; `weft status` shows what the mesh has")
    if service in RESERVED_SERVICES or _python(service):
        raise NameRefusedError(f"{service} means something else here; choose another name")
    resource = resource or singular(service)
    if not _RESOURCE.fullmatch(resource):
        raise NameRefusedError(
            f"--resource: {resource!r} cannot be a resource's name; give 2 to 24 letters a to z, words with _ between "
            "them, such as shipping_label"
        )
    if resource in RESERVED_RESOURCES or plural(resource) in RESERVED_RESOURCES or _python(resource):
        raise NameRefusedError(f"--resource: {resource} means something else in the code; choose another word")
    names = Names(service, resource)
    if names.collection in taken.collections:
        raise NameRefusedError(f"--resource: /v1/{names.collection} is another service's; choose another resource")
    said = names.words()["Resource"]
    if used := sorted({f"Create{said}", f"Get{said}", f"Delete{said}"} & set(taken.methods)):
        raise NameRefusedError(f"--resource: there is a method {used[0]} already; choose another resource")
    return names


def singular(word: str) -> str:
    """What one of them is called, as far as spelling tells: `parcels` -> `parcel`, `deliveries` -> `delivery`."""
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def plural(word: str) -> str:
    """What several of them are called: `parcel` -> `parcels`, `delivery` -> `deliveries`."""
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "z", "ch", "sh")) else f"{word}s"


def _joined(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("_"))


def _camel(word: str) -> str:
    joined = _joined(word)
    return joined[0].lower() + joined[1:]


def _python(word: str) -> bool:
    return keyword.iskeyword(word) or keyword.issoftkeyword(word) or hasattr(builtins, word)
