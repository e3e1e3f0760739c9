"""Reports over HTTP: of one notification, by push tag, of one device; openings, series and exports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

from pushd.api.notifications import NotificationId, OneNotification
from pushd.api.operation import Listing, Operation, Page
from pushd.api.request import Request
from pushd.commands import explanations, exports, reports
from pushd.commands.context import Context
from pushd.commands.exports import ROWS, Row, What
from pushd.commands.reports import TAGS_MAX
from pushd.model.device import DeviceId
from pushd.model.receipt import TIME_MAX
from pushd.model.report import Explanation, InstallOpen, PushTag, Report, Series, TagFigures, UserOpen
from pushd.web.caller import Caller

Step = Literal["minute", "5minutes", "15minutes", "hour", "day"]
STEPS: dict[Step, int] = {"minute": 60, "5minutes": 300, "15minutes": 900, "hour": 3_600, "day": 86_400}
Time = Annotated[float, Meta(ge=0, le=TIME_MAX)]
DAY_S = 86_400


class SeriesParams(Struct, frozen=True, kw_only=True):
    """Which notification, by which steps, and from when to when."""

    notification_id: NotificationId
    step: Annotated[Step, Meta(description="Of UTC.")] = "hour"
    since: Annotated[Time, Meta(description="UNIX seconds; absent: its acceptance.")] | None = None
    until: Annotated[Time, Meta(description="UNIX seconds; absent: now.")] | None = None


class OpensPage(Page, frozen=True, kw_only=True):
    """Of which notification."""

    notification_id: NotificationId


class ExportParams(Struct, frozen=True, kw_only=True):
    """What to export of which notification, and how."""

    notification_id: NotificationId
    what: What = "devices"
    format: Literal["ndjson", "csv"] = "ndjson"


class OnePart(Struct, frozen=True):
    """A device of a notification in the path."""

    notification_id: NotificationId
    device_id: DeviceId


class Span(Struct, frozen=True, kw_only=True):
    """From when to when."""

    since: Annotated[Time, Meta(description="UNIX seconds.")] = 0.0
    until: Annotated[Time, Meta(description="UNIX seconds; absent: now.")] | None = None


class TagsParams(Span, frozen=True, kw_only=True):
    """Which push tags to list."""

    after: Annotated[str, Meta(max_length=100, description="The last one of the page before.")] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class CompareParams(Span, frozen=True, kw_only=True):
    """Which push tags to compare."""

    tag: Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(min_length=1, max_length=TAGS_MAX)]
    newest: Annotated[int, Meta(ge=1, le=200, description="Notifications of each tag that are looked at.")] = 50


class PushTags(Struct, frozen=True):
    """Push tags, ascending."""

    items: list[PushTag]


class Comparison(Struct, frozen=True):
    """What came of each, in the order in which they were named."""

    items: list[TagFigures]


async def report(context: Context, caller: Caller, request: Request[None, OneNotification]) -> Report:
    """GET /notifications/{notification_id}/report."""
    return await reports.report(context, caller.app, request.params.notification_id)


async def series(context: Context, caller: Caller, request: Request[None, SeriesParams]) -> Series:
    """GET /notifications/{notification_id}/series."""
    params = request.params
    return await reports.series(
        context,
        caller.app,
        params.notification_id,
        step_s=STEPS[params.step],
        since=params.since,
        until=params.until,
    )


async def install_opens(context: Context, caller: Caller, request: Request[None, OpensPage]) -> Listing[InstallOpen]:
    """GET /notifications/{notification_id}/install-opens."""
    number = request.params.notification_id
    page, at = await reports.install_opens(context, caller.app, number, after=request.after(), limit=request.limit)
    return request.listing(page, at, more=len(at) >= request.limit)


async def user_opens(context: Context, caller: Caller, request: Request[None, OpensPage]) -> Listing[UserOpen]:
    """GET /notifications/{notification_id}/user-opens."""
    number = request.params.notification_id
    page, at = await reports.user_opens(context, caller.app, number, after=request.after(), limit=request.limit)
    return request.listing(page, at, more=len(at) >= request.limit)


async def export(context: Context, caller: Caller, request: Request[None, ExportParams]) -> AsyncIterator[list[Row]]:
    """GET /notifications/{notification_id}/export."""
    params = request.params
    return await exports.export(context, caller.app, params.notification_id, params.what)


def columns(params: ExportParams) -> tuple[str, ...] | None:
    """The columns of an export as CSV; None where lines of JSON are wanted."""
    return ROWS[params.what].__struct_fields__ if params.format == "csv" else None


async def explain(context: Context, caller: Caller, request: Request[None, OnePart]) -> Explanation:
    """GET /notifications/{notification_id}/devices/{device_id}."""
    return await explanations.explain(context, caller.app, request.params.notification_id, request.params.device_id)


async def tags(context: Context, caller: Caller, request: Request[None, TagsParams]) -> PushTags:
    """GET /push-tags."""
    params = request.params
    since, until = _span(context, params)
    found = await reports.push_tags(
        context, caller.app, since=since, until=until, after=params.after, limit=params.limit
    )
    return PushTags(items=found)


async def compare(context: Context, caller: Caller, request: Request[None, CompareParams]) -> Comparison:
    """GET /push-tags/compare."""
    params = request.params
    since, until = _span(context, params)
    found = await reports.compare(context, caller.app, params.tag, since=since, until=until, newest=params.newest)
    return Comparison(items=found)


def _span(context: Context, params: Span) -> tuple[float, float]:
    return params.since, context.clock.now() + DAY_S if params.until is None else params.until


OPERATIONS = (
    Operation(
        name="reportNotification",
        method="GET",
        path="/notifications/{notification_id}/report",
        tag="reports",
        summary="What came of a notification: outcomes, openings, clicks",
        description="Outcomes by gateway and reason, with each reason in words; events as devices reported them, each "
        "in all and by install and user; clicks by button; platforms by what installs say now that they run on.",
        handler=report,
        params=OneNotification,
        answer=Report,
    ),
    Operation(
        name="reportSeries",
        method="GET",
        path="/notifications/{notification_id}/series",
        tag="reports",
        summary="What devices reported of a notification, by time",
        description="By the devices' own times. `first_opens` counts each install once, when it first opened it.",
        handler=series,
        params=SeriesParams,
        answer=Series,
    ),
    Operation(
        name="listInstallOpens",
        method="GET",
        path="/notifications/{notification_id}/install-opens",
        tag="reports",
        summary="Installs that opened a notification, each with the first time",
        handler=install_opens,
        params=OpensPage,
        answer=Listing[InstallOpen],
    ),
    Operation(
        name="listUserOpens",
        method="GET",
        path="/notifications/{notification_id}/user-opens",
        tag="reports",
        summary="Users that opened a notification, each with the first time",
        description="Of whoever the install belonged to when the receipt came.",
        handler=user_opens,
        params=OpensPage,
        answer=Listing[UserOpen],
    ),
    Operation(
        name="exportNotification",
        method="GET",
        path="/notifications/{notification_id}/export",
        tag="reports",
        summary="Streams outcomes by device, openings or receipts",
        description="One a line: JSON (NDJSON), or CSV with a header (RFC 4180), in which text that a spreadsheet "
        "would take for a formula stands behind an apostrophe. An answer that ends without its last chunk was cut off.",
        handler=export,
        params=ExportParams,
        answer_lines=Row,
        columns=columns,
    ),
    Operation(
        name="explainDevice",
        method="GET",
        path="/notifications/{notification_id}/devices/{device_id}",
        tag="reports",
        summary="Why a device got a notification, or did not",
        handler=explain,
        params=OnePart,
        answer=Explanation,
    ),
    Operation(
        name="listPushTags",
        method="GET",
        path="/push-tags",
        tag="reports",
        summary="Push tags and how much was sent under each",
        handler=tags,
        params=TagsParams,
        answer=PushTags,
    ),
    Operation(
        name="comparePushTags",
        method="GET",
        path="/push-tags/compare",
        tag="reports",
        summary="Compares what came of notifications by their push tags",
        description="Of each tag the newest notifications are added up; a device counts once for each of them.",
        handler=compare,
        params=CompareParams,
        answer=Comparison,
    ),
)
