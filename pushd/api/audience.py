"""Audiences over HTTP: counted without sending."""

from __future__ import annotations

from msgspec import Struct

from pushd.api.operation import Operation
from pushd.api.request import Request
from pushd.commands import audience
from pushd.commands.audience import Count
from pushd.commands.context import Context
from pushd.model.audience import Audience
from pushd.model.message import PushType
from pushd.web.caller import Caller


class CountBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whom to count, for which type of push."""

    audience: Audience
    push_type: PushType = PushType.ALERT


async def count(context: Context, caller: Caller, request: Request[CountBody, None]) -> Count:
    """POST /audience/count."""
    return await audience.count(context, caller.app, request.body.audience, request.body.push_type)


OPERATIONS = (
    Operation(
        name="countAudience",
        method="POST",
        path="/audience/count",
        tag="audience",
        summary="Counts whom a send would reach, without sending",
        description="Also how many devices of the audience would be skipped, by reason, and which named targets are "
        "unknown or unsubscribed.",
        handler=count,
        body=CountBody,
        answer=Count,
        example={"audience": {"type": "tags", "any": ["news"], "exclude": ["muted"]}},
    ),
)
