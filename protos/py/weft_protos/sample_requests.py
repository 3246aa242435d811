"""Example requests of methods: what the contract's rules demand, at the paths that its JSON form has.

An example has what the method demands and little else. It is judged by protovalidate before anybody sees it; where the
rules are too intricate there is none.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, Protocol

import protovalidate
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from weft_protos import samples

_VARIABLE: Final = re.compile(r"\{([^}=]+)(?:=([^}]*))?\}")


class Binding(Protocol):
    """One way to call a method in JSON."""

    @property
    def template(self) -> str:
        """The template of its path (google.api.http)."""
        ...


class Method(Protocol):
    """What has to be known of a method."""

    @property
    def request(self) -> str:
        """Full name of its request message."""
        ...

    @property
    def bindings(self) -> Sequence[Binding]:
        """How it is called in JSON."""
        ...


class Samples:
    """Makes requests of the messages in one pool."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool
        self._validator = protovalidate.Validator()

    def request(self, method: Method) -> Message | None:
        """A valid request; None where none could be made."""
        kind = GetMessageClass(self._pool.FindMessageTypeByName(method.request))
        for wanted in (samples.needed, samples.told):
            message = kind()
            samples.fill(message, wanted)
            for binding in method.bindings:
                for path, template in _VARIABLE.findall(binding.template):
                    _name(message, path, template or "*")
            if not self._validator.collect_violations(message):
                return message
        return None


def _name(message: Any, path: str, template: str) -> None:
    """Give a path variable a value that its template takes, unless its own rules have given it one."""
    *holders, leaf = path.split(".")
    for holder in holders:
        message = getattr(message, holder)
    if message.DESCRIPTOR.fields_by_name[leaf].type != FieldDescriptor.TYPE_STRING:
        return
    fits = re.escape(template).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
    if not re.fullmatch(fits, getattr(message, leaf)):
        setattr(message, leaf, template.replace("**", samples.ID).replace("*", samples.ID))
