"""IdentityService: protobuf in, use case, protobuf out. Decides nothing.

The chassis calls these with requests that are valid by the contract's rules; every method returns its answer or
raises an `AppError`.
"""

from collections.abc import Sequence
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty

from svc.chassis.context import CallContext
from svc.chassis.pages import PageTokens
from svc.identity import usecases
from svc.identity.model import KEYS_PREFIX, SESSIONS_PREFIX, USERS_PREFIX, Session, StoredKey, User, UserState
from svc.identity.ports import Ports
from svc.identity.usecases import NewUser
from weft.identity.v1 import identity_pb2

PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 1000

_STATES: Final = {
    UserState.ACTIVE: identity_pb2.User.STATE_ACTIVE,
    UserState.SUSPENDED: identity_pb2.User.STATE_SUSPENDED,
}


class IdentityHandler:
    """Serves `weft.identity.v1.IdentityService`."""

    def __init__(self, ports: Ports, pages: PageTokens) -> None:
        self._ports = ports
        self._pages = pages

    def CreateUser(self, request: identity_pb2.CreateUserRequest, call: CallContext) -> identity_pb2.User:
        """Create a user."""
        new = NewUser(
            id=request.user_id, email=request.email, display_name=request.display_name, password=request.password
        )
        return _user(usecases.create_user(self._ports, new, call=call))

    def CreateSession(self, request: identity_pb2.CreateSessionRequest, call: CallContext) -> identity_pb2.Session:
        """Sign in."""
        session = usecases.create_session(
            self._ports, request.email, request.password, requested_scopes=request.scopes, call=call
        )
        return _session(session)

    def RefreshSession(self, request: identity_pb2.RefreshSessionRequest, call: CallContext) -> identity_pb2.Session:
        """Exchange a refresh token."""
        return _session(usecases.refresh_session(self._ports, request.refresh_token, call=call))

    def DelegateSession(self, request: identity_pb2.DelegateSessionRequest, call: CallContext) -> identity_pb2.Session:
        """Open a session that acts for a user."""
        user_id = request.name.removeprefix(USERS_PREFIX)
        return _session(usecases.delegate_session(self._ports, user_id, requested_scopes=request.scopes, call=call))

    def DeleteSession(self, request: identity_pb2.DeleteSessionRequest, call: CallContext) -> Empty:
        """Sign out."""
        usecases.delete_session(self._ports, request.name.removeprefix(SESSIONS_PREFIX), call=call)
        return Empty()

    def GetUser(self, request: identity_pb2.GetUserRequest, call: CallContext) -> identity_pb2.User:
        """Read a user."""
        return _user(usecases.get_user(self._ports, request.name.removeprefix(USERS_PREFIX), call=call))

    def ListUsers(self, request: identity_pb2.ListUsersRequest, call: CallContext) -> identity_pb2.ListUsersResponse:
        """List users."""
        size = min(request.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        after = next(iter(self._pages.decode(request.page_token, scope=call.method)), "")
        # One more than the page tells whether there is a next one.
        users = usecases.list_users(self._ports, after=after, limit=size + 1, call=call)
        return identity_pb2.ListUsersResponse(
            users=[_user(user) for user in users[:size]],
            next_page_token=self._next(users, size, call),
        )

    def UpdateUser(self, request: identity_pb2.UpdateUserRequest, call: CallContext) -> identity_pb2.User:
        """Change a user."""
        user = usecases.update_user(
            self._ports,
            request.user.name.removeprefix(USERS_PREFIX),
            display_name=request.user.display_name,
            fields=request.update_mask.paths,
            call=call,
        )
        return _user(user)

    def GrantScopes(self, request: identity_pb2.GrantScopesRequest, call: CallContext) -> identity_pb2.User:
        """Replace a user's scopes."""
        user_id = request.name.removeprefix(USERS_PREFIX)
        return _user(usecases.grant_scopes(self._ports, user_id, scopes=request.scopes, call=call))

    def SuspendUser(self, request: identity_pb2.SuspendUserRequest, call: CallContext) -> identity_pb2.User:
        """Shut a user out."""
        return _user(usecases.suspend_user(self._ports, request.name.removeprefix(USERS_PREFIX), call=call))

    def ResumeUser(self, request: identity_pb2.ResumeUserRequest, call: CallContext) -> identity_pb2.User:
        """Let a user in again."""
        return _user(usecases.resume_user(self._ports, request.name.removeprefix(USERS_PREFIX), call=call))

    def ListSigningKeys(
        self, request: identity_pb2.ListSigningKeysRequest, call: CallContext
    ) -> identity_pb2.ListSigningKeysResponse:
        """List signing keys."""
        after = next(iter(self._pages.decode(request.page_token, scope=call.method)), "")
        size = request.page_size
        limit = size + 1 if size else None
        keys, signing = usecases.list_signing_keys(self._ports, after=after, limit=limit, call=call)
        more = bool(size) and len(keys) > size
        shown = keys[:size] if more else keys
        return identity_pb2.ListSigningKeysResponse(
            signing_keys=[_key(key, signing=key.kid == signing) for key in shown],
            next_page_token=self._pages.encode((shown[-1].kid,), scope=call.method) if more else "",
        )

    def RotateSigningKey(
        self, request: identity_pb2.RotateSigningKeyRequest, call: CallContext
    ) -> identity_pb2.SigningKey:
        """Replace a signing key."""
        key, signing = usecases.rotate_signing_key(self._ports, request.name.removeprefix(KEYS_PREFIX), call=call)
        return _key(key, signing=key.kid == signing)

    def RevokeSigningKey(self, request: identity_pb2.RevokeSigningKeyRequest, call: CallContext) -> Empty:
        """Take a signing key back."""
        usecases.revoke_signing_key(self._ports, request.name.removeprefix(KEYS_PREFIX), call=call)
        return Empty()

    def _next(self, users: Sequence[User], size: int, call: CallContext) -> str:
        return self._pages.encode((users[size - 1].id,), scope=call.method) if len(users) > size else ""


def _user(user: User) -> identity_pb2.User:
    message = identity_pb2.User(
        name=user.name,
        email=user.email,
        display_name=user.display_name,
        scopes=user.scopes,
        state=_STATES[user.state],
    )
    message.create_time.FromDatetime(user.create_time)
    message.update_time.FromDatetime(user.update_time)
    return message


def _key(key: StoredKey, *, signing: bool) -> identity_pb2.SigningKey:
    message = identity_pb2.SigningKey(name=key.name, signing=signing)
    message.activate_time.FromDatetime(key.activate_time)
    return message


def _session(session: Session) -> identity_pb2.Session:
    return identity_pb2.Session(
        name=session.record.name,
        user=USERS_PREFIX + session.record.user_id,
        access_token=session.access_token,
        expires_in=Duration(seconds=int(session.lifetime.total_seconds())),
        refresh_token=session.refresh_token,
        scopes=session.scopes,
    )
