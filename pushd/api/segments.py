"""Segments over HTTP: /segments."""

from __future__ import annotations

from msgspec import Struct

from pushd.api.operation import Listing, Operation, Page
from pushd.api.request import Request
from pushd.commands import segments
from pushd.commands.context import Context
from pushd.errors import ConflictError
from pushd.model.device import Text255
from pushd.model.segment import NewSegment, Segment, SegmentChange
from pushd.web.caller import Caller


class OneSegment(Struct, frozen=True):
    """A segment in the path."""

    uuid: Text255


async def create(context: Context, caller: Caller, request: Request[NewSegment, None]) -> Segment:
    """POST /segments."""
    return await segments.create(context, caller.app, request.body)


async def listing(context: Context, caller: Caller, request: Request[None, Page]) -> Listing[Segment]:
    """GET /segments."""
    found = await segments.list_page(context, caller.app, after=request.after(), limit=request.limit)
    return request.listing(found, [segment.id for segment in found])


async def show(context: Context, caller: Caller, request: Request[None, OneSegment]) -> Segment:
    """GET /segments/{uuid}."""
    return await segments.get(context, caller.app, request.params.uuid)


async def update(context: Context, caller: Caller, request: Request[SegmentChange, OneSegment]) -> Segment:
    """PATCH /segments/{uuid}."""
    return await segments.update(context, caller.app, request.params.uuid, request.body)


async def delete(context: Context, caller: Caller, request: Request[None, OneSegment]) -> None:
    """DELETE /segments/{uuid}."""
    await segments.delete(context, caller.app, request.params.uuid)


OPERATIONS = (
    Operation(
        name="createSegment",
        method="POST",
        path="/segments",
        tag="segments",
        summary="Stores an audience under a name",
        description="Its audience is any that a send may have. It is evaluated whenever the segment is used.",
        handler=create,
        body=NewSegment,
        answer=Segment,
        statuses=(201,),
        errors=(ConflictError,),
        example={"name": "Beta, not muted", "audience": {"type": "tags", "any": ["beta"], "exclude": ["muted"]}},
    ),
    Operation(
        name="listSegments",
        method="GET",
        path="/segments",
        tag="segments",
        summary="Segments, oldest first",
        handler=listing,
        params=Page,
        answer=Listing[Segment],
    ),
    Operation(
        name="getSegment",
        method="GET",
        path="/segments/{uuid}",
        tag="segments",
        summary="One segment",
        handler=show,
        params=OneSegment,
        answer=Segment,
    ),
    Operation(
        name="updateSegment",
        method="PATCH",
        path="/segments/{uuid}",
        tag="segments",
        summary="Renames a segment, or gives it another audience",
        handler=update,
        params=OneSegment,
        body=SegmentChange,
        answer=Segment,
        errors=(ConflictError,),
        example={"name": "Beta"},
    ),
    Operation(
        name="deleteSegment",
        method="DELETE",
        path="/segments/{uuid}",
        tag="segments",
        summary="Forgets a segment",
        description="Segments that name it reach nobody by it; a send that names it is refused.",
        handler=delete,
        params=OneSegment,
        statuses=(204,),
    ),
)
