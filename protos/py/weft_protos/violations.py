"""Where in a message a rule of its contract is broken. Services refuse by it, clients look before they send."""

import protovalidate


def path_of(violation: protovalidate.Violation) -> str:
    """Path of the field as AIP-193 writes it: `items[1].quantity`; empty for the message as a whole."""
    path = ""
    field = violation.proto.field
    for element in field.elements if field is not None else ():
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            path += f"[{subscript.value}]" if subscript.field == "index" else f"[{subscript.value!r}]"
    return path
