"""Receipts over HTTP: /receipts."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import EVERYONE, Operation
from pushd.api.request import Request
from pushd.commands import receipts
from pushd.commands.context import Context
from pushd.commands.receipts import ReceiptCounts
from pushd.model.app import Role
from pushd.model.device import Text255
from pushd.model.receipt import RECEIPTS_MAX, Receipt
from pushd.web.caller import Caller


class ReceiptsBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Receipts, and whose they are."""

    receipts: Annotated[list[Receipt], Meta(min_length=1, max_length=RECEIPTS_MAX)]
    install_id: Text255 | None = None
    """Of those that name none themselves; a device key must give it."""


async def take(context: Context, caller: Caller, request: Request[ReceiptsBody, None]) -> ReceiptCounts:
    """POST /receipts."""
    body = request.body
    device_key = caller.key.id if caller.role is Role.DEVICE else None
    return await receipts.take(context, caller.app, body.receipts, body.install_id, device_key=device_key)


OPERATIONS = (
    Operation(
        name="takeReceipts",
        method="POST",
        path="/receipts",
        tag="receipts",
        summary="Takes what devices report of notifications",
        description="Delivered, received, opened, clicked, dismissed, read: each with an id that the install made up, "
        "so that a batch can be sent again until it is answered, and with its own time, however late. What names a "
        "notification or an install that is not there is counted and passed over, the rest is kept. A device key "
        "reports of the one install that it names; a server key may report of many.",
        handler=take,
        roles=EVERYONE,
        body=ReceiptsBody,
        answer=ReceiptCounts,
        example={
            "install_id": "7d0c1c52-6a86-4a43-9c1b-0f3b4f0f8a55",
            "receipts": [
                {"id": "b7a4", "notification_id": 17, "event": "opened", "at": 1795277000.25},
                {"id": "b7a5", "notification_id": 17, "event": "clicked", "button": "reply", "at": 1795277004.5},
            ],
        },
    ),
)
