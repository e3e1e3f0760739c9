"""API keys over HTTP: /keys."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import Listing, Operation, Page, Scope
from pushd.api.request import Request
from pushd.commands import keys
from pushd.commands.context import Context
from pushd.errors import ConflictError
from pushd.model.app import Key, Role
from pushd.model.device import ID_MAX
from pushd.web.caller import Caller


class OneKey(Struct, frozen=True):
    """A key in the path."""

    key_id: Annotated[int, Meta(ge=1, le=ID_MAX)]


class NewKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to be made."""

    role: Role
    name: Annotated[str, Meta(max_length=255)] = ""
    """For people: who uses it, and where."""


class CreatedKey(Struct, frozen=True, kw_only=True):
    """A key with its secret, which is shown here and never again."""

    key: Key
    secret: str
    """What goes into the Authorization header."""


async def create(context: Context, caller: Caller, request: Request[NewKey, None]) -> CreatedKey:
    """POST /keys."""
    key, secret = await keys.create(context, caller.app_id, request.body.role, request.body.name)
    return CreatedKey(key=key, secret=secret)


async def listing(context: Context, caller: Caller, request: Request[None, Page]) -> Listing[Key]:
    """GET /keys."""
    found = await keys.list_page(context, caller.app_id, after=request.after(), limit=request.limit)
    return request.listing(found, [key.id for key in found])


async def revoke(context: Context, caller: Caller, request: Request[None, OneKey]) -> Key:
    """POST /keys/{key_id}/revoke."""
    return await keys.revoke(context, caller.app_id, request.params.key_id, own_id=caller.key.id)


_WHOSE = "An admin key that names no app acts on the installation's own keys, the admin keys."

OPERATIONS = (
    Operation(
        name="createKey",
        method="POST",
        path="/keys",
        tag="keys",
        summary="Makes a key",
        description=f"Its secret is in this answer and nowhere else: only a digest is kept. {_WHOSE}",
        handler=create,
        scope=Scope.EITHER,
        body=NewKey,
        answer=CreatedKey,
        statuses=(201,),
        example={"role": "device", "name": "iOS app"},
    ),
    Operation(
        name="listKeys",
        method="GET",
        path="/keys",
        tag="keys",
        summary="Keys, oldest first",
        description=f"Revoked ones too, and no secrets. {_WHOSE}",
        handler=listing,
        scope=Scope.EITHER,
        params=Page,
        answer=Listing[Key],
    ),
    Operation(
        name="revokeKey",
        method="POST",
        path="/keys/{key_id}/revoke",
        tag="keys",
        summary="Revokes a key",
        description=f"At once, for good; a key cannot revoke itself. {_WHOSE}",
        handler=revoke,
        scope=Scope.EITHER,
        params=OneKey,
        answer=Key,
        errors=(ConflictError,),
    ),
)
