"""Imports over HTTP: /imports, their parts and rejects, and a file of subscribers in one request."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import Listing, Operation, Page, Reply
from pushd.api.request import Request
from pushd.commands import imports
from pushd.commands.context import Context
from pushd.errors import ConflictError, Fault, InvalidRequestError
from pushd.model.device import Text255
from pushd.model.imports import Import, ImportId, ImportPart, ImportReject, Job
from pushd.web.caller import Caller
from pushd.web.upload import FORM

CSV = "text/csv"
PART_TYPES = frozenset({"application/octet-stream", "application/x-ndjson", CSV})

# RFC 9530, section 2, and RFC 8941, section 3.3.5: a byte sequence.
_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]*):")


class NewImport(Struct, frozen=True, forbid_unknown_fields=True):
    """An import to be made."""

    job: Job


class OneImport(Struct, frozen=True):
    """An import in the path."""

    import_id: ImportId


class OnePart(Struct, frozen=True):
    """A part in the path."""

    import_id: ImportId
    part: Annotated[int, Meta(ge=1, le=2**31 - 1)]


class PageOfImport(Page, frozen=True, kw_only=True):
    """A page of something of an import in the path."""

    import_id: ImportId


class OneChannel(Struct, frozen=True):
    """A channel in the path."""

    uuid: Text255


async def create(context: Context, caller: Caller, request: Request[NewImport, None]) -> Import:
    """POST /imports."""
    return await imports.create(context, caller.app, request.body.job)


async def listing(context: Context, caller: Caller, request: Request[None, Page]) -> Listing[Import]:
    """GET /imports."""
    found = await imports.list_page(context, caller.app, before=request.after(), limit=request.limit)
    return request.listing(found, [each.id for each in found])


async def show(context: Context, caller: Caller, request: Request[None, OneImport]) -> Import:
    """GET /imports/{import_id}."""
    return await imports.get(context, caller.app, request.params.import_id)


async def put_part(context: Context, caller: Caller, request: Request[None, OnePart]) -> ImportPart:
    """PUT /imports/{import_id}/parts/{part}."""
    digest = _digest(request.headers.get(imports.DIGEST))
    body = await request.upload().whole(context.config.imports.part_bytes_max)
    params = request.params
    return await imports.put_part(context, caller.app, params.import_id, params.part, body, digest)


async def parts(context: Context, caller: Caller, request: Request[None, PageOfImport]) -> Listing[ImportPart]:
    """GET /imports/{import_id}/parts."""
    found = await imports.parts(
        context, caller.app, request.params.import_id, after=request.after(), limit=request.limit
    )
    return request.listing(found, [each.part for each in found])


async def start(context: Context, caller: Caller, request: Request[None, OneImport]) -> Import:
    """POST /imports/{import_id}/start."""
    return await imports.start(context, caller.app, request.params.import_id)


async def rejects(context: Context, caller: Caller, request: Request[None, PageOfImport]) -> Listing[ImportReject]:
    """GET /imports/{import_id}/rejects."""
    found = await imports.rejects(
        context, caller.app, request.params.import_id, after=request.after(), limit=request.limit
    )
    return request.listing(found, [each.line for each in found])


async def cancel(context: Context, caller: Caller, request: Request[None, OneImport]) -> Import:
    """DELETE /imports/{import_id}."""
    return await imports.cancel(context, caller.app, request.params.import_id)


async def subscribers_file(context: Context, caller: Caller, request: Request[None, OneChannel]) -> Reply[Import]:
    """POST /channels/{uuid}/subscribers-file."""
    chunks = request.upload().chunks(suffix=".csv", types=frozenset({CSV}))
    made = await imports.subscribers_file(context, caller.app, request.params.uuid, chunks)
    return Reply(made, headers={"Location": f"/pushd/v1/imports/{made.id}"})


def _digest(header: str | None) -> bytes | None:
    """The SHA-256 of a Content-Digest header; None without one."""
    found = _DIGEST.search(header or "")
    if found is None:
        return None
    try:
        return base64.b64decode(found[1], validate=True)
    except binascii.Error:
        raise InvalidRequestError(faults=[Fault(imports.DIGEST, "is not base64")]) from None


OPERATIONS = (
    Operation(
        name="createImport",
        method="POST",
        path="/imports",
        tag="imports",
        summary="Begins an import",
        description="It takes parts until it is started. What a line means is up to its `job`.",
        handler=create,
        body=NewImport,
        answer=Import,
        statuses=(201,),
        example={"job": {"type": "subscribe", "channel": "news"}},
    ),
    Operation(
        name="putImportPart",
        method="PUT",
        path="/imports/{import_id}/parts/{part}",
        tag="imports",
        summary="Stores a part of a file",
        description="Parts are numbered from 1, and hold whole lines. The same part again is taken, another under its "
        "number is a conflict. With `Content-Digest: sha-256=:…:` (RFC 9530) what was damaged on the way is refused.",
        handler=put_part,
        params=OnePart,
        media=PART_TYPES,
        answer=ImportPart,
        errors=(ConflictError,),
    ),
    Operation(
        name="listImportParts",
        method="GET",
        path="/imports/{import_id}/parts",
        tag="imports",
        summary="The parts that are there",
        description="An upload that broke off goes on with those that are missing.",
        handler=parts,
        params=PageOfImport,
        answer=Listing[ImportPart],
    ),
    Operation(
        name="startImport",
        method="POST",
        path="/imports/{import_id}/start",
        tag="imports",
        summary="Lets an import be carried out",
        description="In the background, whatever happens to a daemon. Those of one app take turns, in the order in "
        "which they were started.",
        handler=start,
        params=OneImport,
        answer=Import,
        statuses=(202,),
        errors=(ConflictError,),
    ),
    Operation(
        name="listImports",
        method="GET",
        path="/imports",
        tag="imports",
        summary="Imports, newest first",
        handler=listing,
        params=Page,
        answer=Listing[Import],
    ),
    Operation(
        name="getImport",
        method="GET",
        path="/imports/{import_id}",
        tag="imports",
        summary="How far an import is",
        handler=show,
        params=OneImport,
        answer=Import,
    ),
    Operation(
        name="listImportRejects",
        method="GET",
        path="/imports/{import_id}/rejects",
        tag="imports",
        summary="Lines that came to nothing, and why",
        handler=rejects,
        params=PageOfImport,
        answer=Listing[ImportReject],
    ),
    Operation(
        name="cancelImport",
        method="DELETE",
        path="/imports/{import_id}",
        tag="imports",
        summary="Ends an import",
        description="What was done stays.",
        handler=cancel,
        params=OneImport,
        answer=Import,
        errors=(ConflictError,),
    ),
    Operation(
        name="subscribeFile",
        method="POST",
        path="/channels/{uuid}/subscribers-file",
        tag="channels",
        summary="Subscribes the users of a file to a channel",
        description="CSV in UTF-8, one column of external ids without a header, each of at most 255 characters; as it "
        "is, or as the one file of a form. It is checked whole: faults point at `/LINE/COLUMN`, and then nothing is "
        "done. Else it is an import, whose progress and rejects can be asked for.",
        handler=subscribers_file,
        params=OneChannel,
        media=frozenset({FORM, CSV}),
        answer=Import,
        statuses=(202,),
    ),
)
