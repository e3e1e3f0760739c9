"""Keys of the dialects over HTTP: /vendor-keys."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import Listing, Operation, Page
from pushd.api.request import Request
from pushd.commands import vendor_keys
from pushd.commands.context import Context
from pushd.errors import ConflictError
from pushd.model.device import ID_MAX
from pushd.model.vendor_key import NewVendorKey, VendorKey
from pushd.web.caller import Caller


class OneVendorKey(Struct, frozen=True):
    """A key in the path."""

    key_id: Annotated[int, Meta(ge=1, le=ID_MAX)]


class CreatedVendorKey(Struct, frozen=True, kw_only=True):
    """A key with its secret, which is shown here and never again."""

    key: VendorKey
    secret: str


async def create(context: Context, caller: Caller, request: Request[NewVendorKey, None]) -> CreatedVendorKey:
    """POST /vendor-keys."""
    key, secret = await vendor_keys.create(context, caller.app, request.body)
    return CreatedVendorKey(key=key, secret=secret)


async def listing(context: Context, caller: Caller, request: Request[None, Page]) -> Listing[VendorKey]:
    """GET /vendor-keys."""
    found = await vendor_keys.list_page(context, caller.app, after=request.after(), limit=request.limit)
    return request.listing(found, [key.id for key in found])


async def revoke(context: Context, caller: Caller, request: Request[None, OneVendorKey]) -> VendorKey:
    """POST /vendor-keys/{key_id}/revoke."""
    return await vendor_keys.revoke(context, caller.app, request.params.key_id)


OPERATIONS = (
    Operation(
        name="createVendorKey",
        method="POST",
        path="/vendor-keys",
        tag="keys",
        summary="Makes a key of a dialect",
        description="With it the app is spoken to as the vendor was: give `identity` and `secret` as the vendor gave "
        "them out, and code in the field goes on working; leave them out for new ones.",
        handler=create,
        body=NewVendorKey,
        answer=CreatedVendorKey,
        statuses=(201,),
        errors=(ConflictError,),
        example={"dialect": "gravitec", "name": "WordPress"},
    ),
    Operation(
        name="listVendorKeys",
        method="GET",
        path="/vendor-keys",
        tag="keys",
        summary="Keys of dialects, oldest first",
        description="Revoked ones too, and no secrets.",
        handler=listing,
        params=Page,
        answer=Listing[VendorKey],
    ),
    Operation(
        name="revokeVendorKey",
        method="POST",
        path="/vendor-keys/{key_id}/revoke",
        tag="keys",
        summary="Revokes a key of a dialect",
        description="At once, for good.",
        handler=revoke,
        params=OneVendorKey,
        answer=VendorKey,
    ),
)
