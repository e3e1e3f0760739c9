"""Users over HTTP: /users and /users/bulk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct

from pushd.api.bulk import BulkLine, BulkParams, LineType, carry_out_lines
from pushd.api.operation import Listing, Operation, Page
from pushd.api.request import Request
from pushd.commands import users
from pushd.commands.context import Context
from pushd.model.device import Tag, Text255
from pushd.model.quiet import QuietHours
from pushd.model.user import User, UserChange
from pushd.web.caller import Caller

_LINE: LineType[UserChange] = LineType(UserChange)


class OneUser(Struct, frozen=True):
    """A user in the path."""

    external_id: Text255


class UserBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is written of a user: absent fields stay, `null` clears."""

    email: Annotated[str, Meta(max_length=254)] | msgspec.UnsetType | None = UNSET
    tags: Annotated[list[Tag], Meta(max_length=1000)] | msgspec.UnsetType = UNSET
    attributes: dict[str, Any] | msgspec.UnsetType = UNSET
    quiet_hours: QuietHours | msgspec.UnsetType | None = UNSET


async def put(context: Context, caller: Caller, request: Request[UserBody, OneUser]) -> User:
    """PUT /users/{external_id}."""
    body = request.body
    change = UserChange(
        external_id=request.params.external_id,
        email=body.email,
        tags=body.tags,
        attributes=body.attributes,
        quiet_hours=body.quiet_hours,
    )
    return await users.put(context, caller.app, change)


async def bulk(context: Context, caller: Caller, request: Request[None, BulkParams]) -> AsyncIterator[BulkLine]:
    """POST /users/bulk."""
    carry_out = partial(users.put_many, context, caller.app)
    return carry_out_lines(request.lines(), _LINE, carry_out, clock=context.clock, with_ids=request.params.ids)


async def show(context: Context, caller: Caller, request: Request[None, OneUser]) -> User:
    """GET /users/{external_id}."""
    return await users.get(context, caller.app, request.params.external_id)


async def listing(context: Context, caller: Caller, request: Request[None, Page]) -> Listing[User]:
    """GET /users."""
    found = await users.list_page(context, caller.app, after=request.after(), limit=request.limit)
    return request.listing(found, [user.id for user in found])


async def delete(context: Context, caller: Caller, request: Request[None, OneUser]) -> None:
    """DELETE /users/{external_id}."""
    await users.delete(context, caller.app, request.params.external_id)


OPERATIONS = (
    Operation(
        name="putUser",
        method="PUT",
        path="/users/{external_id}",
        tag="users",
        summary="Creates or changes a user",
        description="Absent fields stay as they are, `null` clears. Tags given replace all tags.",
        handler=put,
        params=OneUser,
        body=UserBody,
        answer=User,
        example={
            "email": "ada@example.com",
            "tags": ["beta"],
            "attributes": {"plan": "pro"},
            "quiet_hours": {"from_minute": 1320, "to_minute": 420},
        },
    ),
    Operation(
        name="putUsers",
        method="POST",
        path="/users/bulk",
        tag="users",
        summary="Creates or changes users from a stream",
        description="One user a line (NDJSON). The answer is a stream too: rejects by line, progress after every "
        "4,000 lines, and a summary as its last line.",
        handler=bulk,
        params=BulkParams,
        body_lines=UserChange,
        answer_lines=BulkLine,
        example={"external_id": "ada", "tags": ["beta"]},
    ),
    Operation(
        name="listUsers",
        method="GET",
        path="/users",
        tag="users",
        summary="Users, oldest first",
        handler=listing,
        params=Page,
        answer=Listing[User],
    ),
    Operation(
        name="getUser",
        method="GET",
        path="/users/{external_id}",
        tag="users",
        summary="One user",
        handler=show,
        params=OneUser,
        answer=User,
    ),
    Operation(
        name="deleteUser",
        method="DELETE",
        path="/users/{external_id}",
        tag="users",
        summary="Forgets a user",
        description="Installs of the user stay, and belong to nobody.",
        handler=delete,
        params=OneUser,
        statuses=(204,),
    ),
)
