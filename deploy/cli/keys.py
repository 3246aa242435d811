"""The verbs of `weft keys`: list, rotate, revoke. Registered by app.py.

They ask identity through the gateway as the operator; no key and no secret comes back, only ids and times.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Annotated, Final

import grpc
import typer

from deploy.cli import exits, terminal
from deploy.cli.exits import Json, fail
from deploy.cli.gateway_client import GatewayClient, SignInError, describe
from deploy.cli.jobs import connect
from deploy.cli.terminal import Tone
from weft.identity.v1 import identity_pb2, identity_pb2_grpc
from weft_protos import access_token

PREFIX: Final = "signingKeys/"
#: Longer than a new key waits before it signs, and than an instance needs to notice.
WAIT_S: Final = 60
LOOK_EVERY_S: Final = 0.5


def list_keys(json_: Json = False) -> None:
    """Show the keys that verifiers take now, and which of them signs.

    Example: weft keys list
    """
    with _client() as client:
        keys = listed(client)
    if json_:
        print(json.dumps({"keys": [_as_object(key) for key in keys]}))
        return
    rows = [(_kid(key), _time(key), "signs" if key.signing else "is published") for key in keys]
    tones = [Tone.GOOD if key.signing else None for key in keys]
    print(terminal.table(("KEY", "SIGNS FROM", "NOW"), rows, tones=tones, wanted=terminal.colour()))


def rotate(
    wait: Annotated[bool, typer.Option("--wait", help="Until the new key signs.")] = False, json_: Json = False
) -> None:
    """Have a new key sign from now on. Nobody is signed out: the old key's tokens stay good until they expire.

    The new key signs fifteen seconds later, when every gateway and every instance has it. Where a rotation is under
    way already, it is that one.

    Example: weft keys rotate --wait
    """
    with _client() as client:
        signing = next((key for key in listed(client) if key.signing), None)
        if signing is None:
            fail(exits.FAILED, "no key signs now; a new one is on its way, try again in a few seconds")
        stub = identity_pb2_grpc.IdentityServiceStub(client.channel())
        request = identity_pb2.RotateSigningKeyRequest(name=signing.name)
        key: identity_pb2.SigningKey = client.call(stub.RotateSigningKey, request)
        if wait:
            key = _once_it_signs(client, key)
    if json_:
        print(json.dumps(_as_object(key)))
    else:
        print(f"{_kid(key)} signs{'' if key.signing else f' from {_time(key)}'}")


def revoke(
    kid: Annotated[str, typer.Argument(help="Id of the key, as `weft keys list` shows it.")], json_: Json = False
) -> None:
    """Take a key back that somebody else may have: what it signed is refused everywhere within five seconds.

    Whoever signed in gets a token of another key by refreshing the session; sessions that act for a user are over.
    Where it was the key that signs, an older one does until a new one is ready; where there is no older one, nobody
    can sign in for a few seconds.

    Example: weft keys revoke 3Xb0cWvVtkAVQcyVlyvI7pKlqTZBwzWAYg7bKIC1Rrk
    """
    if not access_token.ID.fullmatch(kid):
        fail(exits.USAGE, f"{kid!r} is not the id of a key; `weft keys list` shows them")
    with _client() as client:
        stub = identity_pb2_grpc.IdentityServiceStub(client.channel())
        client.call(stub.RevokeSigningKey, identity_pb2.RevokeSigningKeyRequest(name=PREFIX + kid))
    print(json.dumps({"revoked": kid}) if json_ else f"{kid} is revoked")


@contextmanager
def _client() -> Iterator[GatewayClient]:
    client, _ = connect()
    try:
        yield client
    except SignInError as error:
        fail(exits.UNREACHABLE, str(error))
    except grpc.RpcError as error:
        fail(exits.FAILED, describe(error))
    finally:
        client.close()


def listed(client: GatewayClient) -> list[identity_pb2.SigningKey]:
    """The keys that verifiers take now, the oldest first. Raises grpc.RpcError, SignInError."""
    stub = identity_pb2_grpc.IdentityServiceStub(client.channel())
    answer = client.call(stub.ListSigningKeys, identity_pb2.ListSigningKeysRequest())
    return sorted(answer.signing_keys, key=lambda key: key.activate_time.ToNanoseconds())


def _once_it_signs(client: GatewayClient, made: identity_pb2.SigningKey) -> identity_pb2.SigningKey:
    for _ in range(int(WAIT_S / LOOK_EVERY_S)):
        for key in listed(client):
            if key.name == made.name and key.signing:
                return key
        client.stopping.wait(LOOK_EVERY_S)
    return fail(exits.FAILED, f"{_kid(made)} does not sign after {WAIT_S} s; see `weft logs identity`")


def _as_object(key: identity_pb2.SigningKey) -> dict[str, object]:
    return {"kid": _kid(key), "activate_time": _time(key), "signing": key.signing}


def _kid(key: identity_pb2.SigningKey) -> str:
    return key.name.removeprefix(PREFIX)


def _time(key: identity_pb2.SigningKey) -> str:
    return key.activate_time.ToDatetime(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
