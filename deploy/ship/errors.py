"""What goes wrong when the desired state is written down in another form."""


class ShipError(Exception):
    """Something cannot be written or prepared; the message is one line: what, where, what to do."""
