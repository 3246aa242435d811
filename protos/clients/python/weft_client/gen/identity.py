"""IdentityService. Generated from the contracts by `make gen`; never edited."""

from collections.abc import Mapping
from collections.abc import Sequence
from google.protobuf import empty_pb2
from google.protobuf import field_mask_pb2
from typing import Any
from weft.identity.v1 import identity_pb2
from weft_client.calls import AsyncCalls, Calls, bound


class Identity:
    """Keeps users and signs them in."""

    def __init__(self, calls: Calls) -> None:
        self._calls = bound(calls, identity_pb2.DESCRIPTOR.services_by_name["IdentityService"])

    def create_user(
        self,
        email: str,
        password: str,
        *,
        user_id: str | None = None,
        display_name: str | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.User:
        """Creates a user with the scopes of a customer. ALREADY_EXISTS where the id or the e-mail address is
        taken, which whoever calls learns of an address, too.

        email: Address that mail goes to.
        password: Password in clear, over TLS; kept as an argon2id hash.
        user_id: Id of the new user; a random one where it is empty.
        display_name: What people call the user.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserExists: the id or the address is taken
            UserIdReserved: the id is kept for the platform
            Busy: too many passwords are being hashed
        """
        fields = {"user_id": user_id, "email": email, "display_name": display_name, "password": password}
        answer: identity_pb2.User = self._calls.call("CreateUser", fields, timeout=timeout)
        return answer

    def create_session(
        self,
        email: str,
        password: str,
        *,
        scopes: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.Session:
        """Signs in: exchanges e-mail address and password for an access and a refresh token. After five failures
            in fifteen minutes an address is refused for a while (RESOURCE_EXHAUSTED with RetryInfo), whether
            anybody has it or not.

        email: The user's e-mail address.
        password: The user's password.
        scopes: Asks for fewer scopes than the user has; empty: all of them.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            BadCredentials: the address or the password is wrong
            SignInThrottled: too many wrong passwords; RetryInfo says how long to wait
            Busy: too many passwords are being checked
            UserSuspendedFailedPrecondition: the password is right, the user suspended
            ScopeNotHeld: the user does not have a scope of `scopes`
            UserChanged: the user was changed meanwhile
            NoSigningKey: no key signs yet
        """
        fields = {"email": email, "password": password, "scopes": scopes}
        answer: identity_pb2.Session = self._calls.call("CreateSession", fields, timeout=timeout)
        return answer

    def refresh_session(
        self,
        refresh_token: str,
        *,
        timeout: float | None = None,
    ) -> identity_pb2.Session:
        """Exchanges a refresh token, once, for a new pair. A token used twice ends its whole session.

        refresh_token: The refresh token of the session's last answer.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            RefreshTokenInvalid: the token is not known
            RefreshTokenReused: the token was used before; its session has ended
            SessionEnded: the session has ended
            UserSuspendedUnauthenticated: the user is suspended
            NoSigningKey: no key signs yet
        """
        fields = {"refresh_token": refresh_token}
        answer: identity_pb2.Session = self._calls.call("RefreshSession", fields, timeout=timeout)
        return answer

    def delegate_session(
        self,
        name: str,
        *,
        scopes: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.Session:
        """Gives an operator a session that acts for another user (RFC 8693 delegation: the token's `act` claim
        names the operator). The session has the user's own scopes, no refresh token, and is audited.

        name: The user to act for, `users/{user}`.
        scopes: Asks for fewer scopes than the user has; empty: all of them.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserNotFound: there is no such user
            DelegationChain: the caller acts for another itself
            ScopeInsufficient: the user has power over others that the caller does not have
            UserSuspendedFailedPrecondition: the user is suspended
            ScopeNotHeld: the user does not have a scope of `scopes`
            NoSigningKey: no key signs yet
        """
        fields = {"name": name, "scopes": scopes}
        answer: identity_pb2.Session = self._calls.call("DelegateSession", fields, timeout=timeout)
        return answer

    def delete_session(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> empty_pb2.Empty:
        """Signs out: ends a session of the caller. Its refresh token is worth nothing from now on, and its access
            tokens are refused everywhere within five seconds (UNAUTHENTICATED, TOKEN_REVOKED); so is a
            repetition with one of them.

        name: The session to end, `sessions/{session}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SessionNotFound: there is no such session, or it is another's
        """
        fields = {"name": name}
        answer: empty_pb2.Empty = self._calls.call("DeleteSession", fields, timeout=timeout)
        return answer

    def get_user(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> identity_pb2.User:
        """Reads a user: oneself, or anyone with `identity.admin`.

        name: The user to read, `users/{user}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserNotFound: there is no such user, or not for the caller
        """
        fields = {"name": name}
        answer: identity_pb2.User = self._calls.call("GetUser", fields, timeout=timeout)
        return answer

    def list_users(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.ListUsersResponse:
        """Lists users in the order of their ids.

        page_size: The most users in one page; 0: 50. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"page_size": page_size, "page_token": page_token}
        answer: identity_pb2.ListUsersResponse = self._calls.call("ListUsers", fields, timeout=timeout)
        return answer

    def update_user(
        self,
        user: identity_pb2.User | Mapping[str, Any],
        *,
        update_mask: field_mask_pb2.FieldMask | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.User:
        """Changes a user's display name: one's own, or anyone's with `identity.admin`.

        user: The user with its new values.
        update_mask: What to change: `display_name`. Empty: every field that may change.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserNotFound: there is no such user, or not for the caller
            FieldImmutable: `update_mask` names a field that cannot be changed
        """
        fields = {"user": user, "update_mask": update_mask}
        answer: identity_pb2.User = self._calls.call("UpdateUser", fields, timeout=timeout)
        return answer

    def grant_scopes(
        self,
        name: str,
        *,
        scopes: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.User:
        """Replaces the scopes of a user. Nobody gives a scope that they do not have. Where one is taken away, the
        user's sessions end, and the tokens already out are refused everywhere within five seconds
        (UNAUTHENTICATED, TOKEN_REVOKED): the user has to sign in again. A scope that is given is in the next
        token.

        name: The user, `users/{user}`.
        scopes: The scopes the user has from now on; each must be named by a contract.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserNotFound: there is no such user
            ScopeUnknown: no contract names a scope of `scopes`
            ScopeNotGrantable: the user would get a scope that the caller does not have
        """
        fields = {"name": name, "scopes": scopes}
        answer: identity_pb2.User = self._calls.call("GrantScopes", fields, timeout=timeout)
        return answer

    def suspend_user(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> identity_pb2.User:
        """Suspends a user: nobody signs in as it or acts for it, its sessions end, and the tokens already out are
            refused everywhere within five seconds (UNAUTHENTICATED, USER_SUSPENDED). A suspended user stays as
            it is. FAILED_PRECONDITION for oneself and for the operator.

        name: The user, `users/{user}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserNotFound: there is no such user
            SelfSuspension: the user is the caller
            OperatorNeeded: the user is the operator
        """
        fields = {"name": name}
        answer: identity_pb2.User = self._calls.call("SuspendUser", fields, timeout=timeout)
        return answer

    def resume_user(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> identity_pb2.User:
        """Ends the suspension of a user, who has to sign in again. An active user stays as it is.

        name: The user, `users/{user}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserNotFound: there is no such user
        """
        fields = {"name": name}
        answer: identity_pb2.User = self._calls.call("ResumeUser", fields, timeout=timeout)
        return answer

    def list_signing_keys(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.ListSigningKeysResponse:
        """Lists the keys that sign access tokens or have signed one that may still live, in the order of their
        ids.

        page_size: The most keys in one page; 0: all of them, there are few.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"page_size": page_size, "page_token": page_token}
        answer: identity_pb2.ListSigningKeysResponse = self._calls.call("ListSigningKeys", fields, timeout=timeout)
        return answer

    def rotate_signing_key(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> identity_pb2.SigningKey:
        """Has a new key take the place of the one named, and answers with it. It signs as soon as every verifier
        has it; until then the old one does, and what that has signed stays good until it expires. A key that
        has a successor keeps it.

        name: The key to be replaced, `signingKeys/{kid}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SigningKeyNotFound: there is no such key, or no longer
            TooManyKeys: there are as many keys as verifiers take; wait until the oldest is retired
        """
        fields = {"name": name}
        answer: identity_pb2.SigningKey = self._calls.call("RotateSigningKey", fields, timeout=timeout)
        return answer

    def revoke_signing_key(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> empty_pb2.Empty:
        """Takes a key back that somebody else may have: everything that it signed is refused everywhere within
        five seconds (UNAUTHENTICATED, TOKEN_INVALID). Sessions stay, and are given a token of another key when
        they are refreshed; delegated ones, which cannot be, are over. Where no other key could sign, signing
        pauses for a few seconds (UNAVAILABLE with RetryInfo).

        name: The key to be taken back, `signingKeys/{kid}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SigningKeyNotFound: there is no such key, or no longer
        """
        fields = {"name": name}
        answer: empty_pb2.Empty = self._calls.call("RevokeSigningKey", fields, timeout=timeout)
        return answer


class AsyncIdentity:
    """Keeps users and signs them in."""

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = bound(calls, identity_pb2.DESCRIPTOR.services_by_name["IdentityService"])

    async def create_user(
        self,
        email: str,
        password: str,
        *,
        user_id: str | None = None,
        display_name: str | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.User:
        """Creates a user with the scopes of a customer. ALREADY_EXISTS where the id or the e-mail address is
        taken, which whoever calls learns of an address, too.

        email: Address that mail goes to.
        password: Password in clear, over TLS; kept as an argon2id hash.
        user_id: Id of the new user; a random one where it is empty.
        display_name: What people call the user.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserExists: the id or the address is taken
            UserIdReserved: the id is kept for the platform
            Busy: too many passwords are being hashed
        """
        fields = {"user_id": user_id, "email": email, "display_name": display_name, "password": password}
        answer: identity_pb2.User = await self._calls.call("CreateUser", fields, timeout=timeout)
        return answer

    async def create_session(
        self,
        email: str,
        password: str,
        *,
        scopes: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.Session:
        """Signs in: exchanges e-mail address and password for an access and a refresh token. After five failures
            in fifteen minutes an address is refused for a while (RESOURCE_EXHAUSTED with RetryInfo), whether
            anybody has it or not.

        email: The user's e-mail address.
        password: The user's password.
        scopes: Asks for fewer scopes than the user has; empty: all of them.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            BadCredentials: the address or the password is wrong
            SignInThrottled: too many wrong passwords; RetryInfo says how long to wait
            Busy: too many passwords are being checked
            UserSuspendedFailedPrecondition: the password is right, the user suspended
            ScopeNotHeld: the user does not have a scope of `scopes`
            UserChanged: the user was changed meanwhile
            NoSigningKey: no key signs yet
        """
        fields = {"email": email, "password": password, "scopes": scopes}
        answer: identity_pb2.Session = await self._calls.call("CreateSession", fields, timeout=timeout)
        return answer

    async def refresh_session(
        self,
        refresh_token: str,
        *,
        timeout: float | None = None,
    ) -> identity_pb2.Session:
        """Exchanges a refresh token, once, for a new pair. A token used twice ends its whole session.

        refresh_token: The refresh token of the session's last answer.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            RefreshTokenInvalid: the token is not known
            RefreshTokenReused: the token was used before; its session has ended
            SessionEnded: the session has ended
            UserSuspendedUnauthenticated: the user is suspended
            NoSigningKey: no key signs yet
        """
        fields = {"refresh_token": refresh_token}
        answer: identity_pb2.Session = await self._calls.call("RefreshSession", fields, timeout=timeout)
        return answer

    async def delegate_session(
        self,
        name: str,
        *,
        scopes: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.Session:
        """Gives an operator a session that acts for another user (RFC 8693 delegation: the token's `act` claim
        names the operator). The session has the user's own scopes, no refresh token, and is audited.

        name: The user to act for, `users/{user}`.
        scopes: Asks for fewer scopes than the user has; empty: all of them.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserNotFound: there is no such user
            DelegationChain: the caller acts for another itself
            ScopeInsufficient: the user has power over others that the caller does not have
            UserSuspendedFailedPrecondition: the user is suspended
            ScopeNotHeld: the user does not have a scope of `scopes`
            NoSigningKey: no key signs yet
        """
        fields = {"name": name, "scopes": scopes}
        answer: identity_pb2.Session = await self._calls.call("DelegateSession", fields, timeout=timeout)
        return answer

    async def delete_session(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> empty_pb2.Empty:
        """Signs out: ends a session of the caller. Its refresh token is worth nothing from now on, and its access
            tokens are refused everywhere within five seconds (UNAUTHENTICATED, TOKEN_REVOKED); so is a
            repetition with one of them.

        name: The session to end, `sessions/{session}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SessionNotFound: there is no such session, or it is another's
        """
        fields = {"name": name}
        answer: empty_pb2.Empty = await self._calls.call("DeleteSession", fields, timeout=timeout)
        return answer

    async def get_user(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> identity_pb2.User:
        """Reads a user: oneself, or anyone with `identity.admin`.

        name: The user to read, `users/{user}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserNotFound: there is no such user, or not for the caller
        """
        fields = {"name": name}
        answer: identity_pb2.User = await self._calls.call("GetUser", fields, timeout=timeout)
        return answer

    async def list_users(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.ListUsersResponse:
        """Lists users in the order of their ids.

        page_size: The most users in one page; 0: 50. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"page_size": page_size, "page_token": page_token}
        answer: identity_pb2.ListUsersResponse = await self._calls.call("ListUsers", fields, timeout=timeout)
        return answer

    async def update_user(
        self,
        user: identity_pb2.User | Mapping[str, Any],
        *,
        update_mask: field_mask_pb2.FieldMask | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.User:
        """Changes a user's display name: one's own, or anyone's with `identity.admin`.

        user: The user with its new values.
        update_mask: What to change: `display_name`. Empty: every field that may change.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserNotFound: there is no such user, or not for the caller
            FieldImmutable: `update_mask` names a field that cannot be changed
        """
        fields = {"user": user, "update_mask": update_mask}
        answer: identity_pb2.User = await self._calls.call("UpdateUser", fields, timeout=timeout)
        return answer

    async def grant_scopes(
        self,
        name: str,
        *,
        scopes: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.User:
        """Replaces the scopes of a user. Nobody gives a scope that they do not have. Where one is taken away, the
        user's sessions end, and the tokens already out are refused everywhere within five seconds
        (UNAUTHENTICATED, TOKEN_REVOKED): the user has to sign in again. A scope that is given is in the next
        token.

        name: The user, `users/{user}`.
        scopes: The scopes the user has from now on; each must be named by a contract.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserNotFound: there is no such user
            ScopeUnknown: no contract names a scope of `scopes`
            ScopeNotGrantable: the user would get a scope that the caller does not have
        """
        fields = {"name": name, "scopes": scopes}
        answer: identity_pb2.User = await self._calls.call("GrantScopes", fields, timeout=timeout)
        return answer

    async def suspend_user(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> identity_pb2.User:
        """Suspends a user: nobody signs in as it or acts for it, its sessions end, and the tokens already out are
            refused everywhere within five seconds (UNAUTHENTICATED, USER_SUSPENDED). A suspended user stays as
            it is. FAILED_PRECONDITION for oneself and for the operator.

        name: The user, `users/{user}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserNotFound: there is no such user
            SelfSuspension: the user is the caller
            OperatorNeeded: the user is the operator
        """
        fields = {"name": name}
        answer: identity_pb2.User = await self._calls.call("SuspendUser", fields, timeout=timeout)
        return answer

    async def resume_user(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> identity_pb2.User:
        """Ends the suspension of a user, who has to sign in again. An active user stays as it is.

        name: The user, `users/{user}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            UserNotFound: there is no such user
        """
        fields = {"name": name}
        answer: identity_pb2.User = await self._calls.call("ResumeUser", fields, timeout=timeout)
        return answer

    async def list_signing_keys(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> identity_pb2.ListSigningKeysResponse:
        """Lists the keys that sign access tokens or have signed one that may still live, in the order of their
        ids.

        page_size: The most keys in one page; 0: all of them, there are few.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"page_size": page_size, "page_token": page_token}
        answer: identity_pb2.ListSigningKeysResponse = await self._calls.call("ListSigningKeys", fields, timeout=timeout)
        return answer

    async def rotate_signing_key(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> identity_pb2.SigningKey:
        """Has a new key take the place of the one named, and answers with it. It signs as soon as every verifier
        has it; until then the old one does, and what that has signed stays good until it expires. A key that
        has a successor keeps it.

        name: The key to be replaced, `signingKeys/{kid}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SigningKeyNotFound: there is no such key, or no longer
            TooManyKeys: there are as many keys as verifiers take; wait until the oldest is retired
        """
        fields = {"name": name}
        answer: identity_pb2.SigningKey = await self._calls.call("RotateSigningKey", fields, timeout=timeout)
        return answer

    async def revoke_signing_key(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> empty_pb2.Empty:
        """Takes a key back that somebody else may have: everything that it signed is refused everywhere within
        five seconds (UNAUTHENTICATED, TOKEN_INVALID). Sessions stay, and are given a token of another key when
        they are refreshed; delegated ones, which cannot be, are over. Where no other key could sign, signing
        pauses for a few seconds (UNAVAILABLE with RetryInfo).

        name: The key to be taken back, `signingKeys/{kid}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SigningKeyNotFound: there is no such key, or no longer
        """
        fields = {"name": name}
        answer: empty_pb2.Empty = await self._calls.call("RevokeSigningKey", fields, timeout=timeout)
        return answer
