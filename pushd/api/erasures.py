"""Erasures over HTTP: users forgotten on request, and how far that is: /users/{external_id}/erase, /erasures."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import Listing, Operation, Page, Reply
from pushd.api.request import Request
from pushd.api.users import OneUser
from pushd.commands import erasures
from pushd.commands.context import Context
from pushd.model.device import ID_MAX
from pushd.model.erasure import Erasure
from pushd.web.caller import Caller

_NEWEST = ID_MAX


class OneErasure(Struct, frozen=True):
    """An erasure in the path."""

    erasure_id: Annotated[int, Meta(ge=1, le=ID_MAX)]


async def erase(context: Context, caller: Caller, request: Request[None, OneUser]) -> Reply[Erasure]:
    """POST /users/{external_id}/erase."""
    return Reply(await erasures.erase(context, caller.app, request.params.external_id))


async def show(context: Context, caller: Caller, request: Request[None, OneErasure]) -> Erasure:
    """GET /erasures/{erasure_id}."""
    return await erasures.get(context, caller.app, request.params.erasure_id)


async def listing(context: Context, caller: Caller, request: Request[None, Page]) -> Listing[Erasure]:
    """GET /erasures."""
    found = await erasures.list_page(context, caller.app, before=request.after(_NEWEST), limit=request.limit)
    return request.listing(found, [each.id for each in found])


OPERATIONS = (
    Operation(
        name="eraseUser",
        method="POST",
        path="/users/{external_id}/erase",
        tag="users",
        summary="Forgets a user everywhere",
        description="The user, his installs and their devices are gone when this is answered. What else tells of him "
        "(receipts, sends that name him or went to him alone, segments, rejected lines of imports, answers kept for "
        "idempotency keys) is then looked for in the background: the erasure is finished when nothing is left. Counts "
        "of notifications stay as they are. Your own systems may know him still: what names him anew is new.",
        handler=erase,
        params=OneUser,
        answer=Erasure,
        statuses=(202,),
    ),
    Operation(
        name="listErasures",
        method="GET",
        path="/erasures",
        tag="users",
        summary="Erasures of users, the newest first",
        handler=listing,
        params=Page,
        answer=Listing[Erasure],
    ),
    Operation(
        name="getErasure",
        method="GET",
        path="/erasures/{erasure_id}",
        tag="users",
        summary="How far the erasure of a user is",
        handler=show,
        params=OneErasure,
        answer=Erasure,
    ),
)
