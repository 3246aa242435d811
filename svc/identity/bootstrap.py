"""The operator: the one user that the platform makes itself.

`wiring` calls this before an instance serves. What holds afterwards: there is one operator, with the address and
password of its secret files and with every scope that a contract names. Where one of the two changes, nothing that was
issued before is worth anything.
"""

from dataclasses import replace
from typing import Final

from svc.chassis.context import Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import AlreadyExists
from svc.identity import events
from svc.identity.model import Credentials, User, after_this_second, email_key
from svc.identity.ports import Ports
from svc.identity.usecases import NewUser

#: What the operator's files and the contracts say of the operator, beside the password.
OPERATOR_FIELDS: Final = ("email", "display_name", "scopes")


def ensure_operator(ports: Ports, operator: NewUser, *, deadline: Deadline) -> User:
    """Create the operator, or make the existing one what the operator's files and the contracts say.

    Called by every instance at its start: two at once settle on one, and a second run changes nothing. The operator
    has every scope that a contract names, so a new contract needs no grant.
    """
    scopes = tuple(sorted(ports.known_scopes))
    now = ports.clock.now()
    fresh = User(operator.id, operator.email, operator.display_name, scopes, now, now)

    def look(tx: Transaction) -> tuple[User | None, Credentials | None]:
        by_email = ports.users.find_by_email(tx, email_key(operator.email))
        return ports.users.get(tx, operator.id), by_email

    before, known = ports.transactions.read(look, deadline=deadline)
    same_credentials = (
        known is not None
        and before == known.user
        and ports.passwords.verify(operator.password, known.password_hash, deadline=deadline)
    )
    if before is not None and same_credentials and before.scopes == scopes:
        return before
    credentials = Credentials(fresh, ports.passwords.hash(operator.password, deadline=deadline))

    def work(tx: Transaction) -> User:
        present = ports.users.get_locked(tx, operator.id)
        if present is not None and present != before:
            # Another instance was faster, and has read the same files.
            return present
        if present is not None:
            tokens_from = present.tokens_from if same_credentials else after_this_second(ports.clock.now())
            kept = replace(fresh, create_time=present.create_time, state=present.state, tokens_from=tokens_from)
            ports.users.replace(tx, replace(credentials, user=kept))
            changed = [name for name in OPERATOR_FIELDS if getattr(present, name) != getattr(fresh, name)]
            if changed:
                ports.append(tx, [events.user_changed(fresh, changed, call=None)])
            return kept
        taken = ports.users.insert(tx, credentials)
        if taken is not None:
            raise AlreadyExists(f"The operator's {taken} belongs to another user.", reason="USER_EXISTS")
        ports.append(tx, [events.user_created(fresh, call=None)])
        return fresh

    settled = ports.transactions.serializable(work, deadline=deadline)
    ports.announce()
    return settled
