"""Audiences over HTTP: counted, sampled and exported without sending."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

from pushd.api.operation import Operation
from pushd.api.request import Request
from pushd.commands import audience, members
from pushd.commands.audience import Count
from pushd.commands.context import Context
from pushd.commands.members import SAMPLE_MAX, ExportLine, Sample
from pushd.model.audience import Audience
from pushd.model.message import PushType
from pushd.web.caller import Caller


class CountBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whom to count, for which type of push."""

    audience: Audience
    push_type: PushType = PushType.ALERT


class SampleBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Of whom to draw how many, for which type of push."""

    audience: Audience
    push_type: PushType = PushType.ALERT
    size: Annotated[int, Meta(ge=1, le=SAMPLE_MAX)] = 10
    seed: (
        Annotated[int, Meta(ge=0, le=2**31 - 1, description="Of an earlier answer, to draw the same again.")] | None
    ) = None


class ExportBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whom to export, for which type of push: the devices, or the users that they belong to."""

    audience: Audience
    push_type: PushType = PushType.ALERT
    members: Literal["devices", "users"] = "devices"


async def count(context: Context, caller: Caller, request: Request[CountBody, None]) -> Count:
    """POST /audience/count."""
    return await audience.count(context, caller.app, request.body.audience, request.body.push_type)


async def sample(context: Context, caller: Caller, request: Request[SampleBody, None]) -> Sample:
    """POST /audience/sample."""
    body = request.body
    return await members.sample(context, caller.app, body.audience, body.push_type, body.size, body.seed)


async def export(context: Context, caller: Caller, request: Request[ExportBody, None]) -> AsyncIterator[ExportLine]:
    """POST /audience/export."""
    body = request.body
    return await members.export(context, caller.app, body.audience, body.push_type, body.members)


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
    Operation(
        name="sampleAudience",
        method="POST",
        path="/audience/sample",
        tag="audience",
        summary="Shows some devices that a send would reach",
        description="Drawn by chance. The answer's `seed`, given again, draws the same, as long as the audience holds "
        "the same devices.",
        handler=sample,
        body=SampleBody,
        answer=Sample,
        example={"audience": {"type": "outcome", "notification_id": 17, "is": "not_opened"}, "size": 5},
    ),
    Operation(
        name="exportAudience",
        method="POST",
        path="/audience/export",
        tag="audience",
        summary="Streams the devices or users that a send would reach",
        description="One a line (NDJSON), ascending by id, and a summary as the last line. Who belongs to the audience "
        "is settled before the first line; each row is as it is when its line is written.",
        handler=export,
        body=ExportBody,
        answer_lines=ExportLine,
        example={"audience": {"type": "opened", "is": False, "within_days": 30}, "members": "users"},
    ),
)
