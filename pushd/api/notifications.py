"""Notifications over HTTP: /notifications, the devices behind each outcome, and cancel."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import Listing, Operation, Page, Reply
from pushd.api.request import Request
from pushd.commands import notifications, progress
from pushd.commands.context import Context
from pushd.commands.notifications import Sent
from pushd.commands.progress import OutcomeDevice, OutcomeName
from pushd.errors import ConflictError, IdempotencyMismatchError, UnknownTargetsError
from pushd.model.device import ID_MAX
from pushd.model.notification import NotificationView, Send
from pushd.web.caller import Caller

NotificationId = Annotated[int, Meta(ge=1, le=ID_MAX)]

_NEWEST = ID_MAX + 1


class OneNotification(Struct, frozen=True):
    """A notification in the path."""

    notification_id: NotificationId


class OutcomePage(Page, frozen=True, kw_only=True):
    """Which devices of a notification to list."""

    notification_id: NotificationId
    outcome: Annotated[OutcomeName, Meta(description="`failed` stands for all that did not work out.")] | None = None
    reason: Annotated[str, Meta(max_length=100, description="A reason of the notification's `reasons`.")] | None = None


class Rename(Struct, frozen=True, forbid_unknown_fields=True):
    """What may change of a notification."""

    name: Annotated[str, Meta(max_length=255)] | None


async def send(context: Context, caller: Caller, request: Request[Send, None]) -> Reply[bytes]:
    """POST /notifications."""
    answer = await notifications.send(context, caller.app, request.body, request.idempotency())
    return Reply(answer.body, headers={"Idempotency-Replayed": "true"} if answer.replayed else {})


async def listing(context: Context, caller: Caller, request: Request[None, Page]) -> Listing[NotificationView]:
    """GET /notifications."""
    found, more = await progress.list_page(context, caller.app, before=request.after(_NEWEST), limit=request.limit)
    return request.listing(found, [each.id for each in found], more=more)


async def show(context: Context, caller: Caller, request: Request[None, OneNotification]) -> NotificationView:
    """GET /notifications/{notification_id}."""
    return await progress.get(context, caller.app, request.params.notification_id)


async def rename(context: Context, caller: Caller, request: Request[Rename, OneNotification]) -> NotificationView:
    """PATCH /notifications/{notification_id}."""
    await notifications.rename(context, caller.app, request.params.notification_id, request.body.name)
    return await progress.get(context, caller.app, request.params.notification_id)


async def cancel(context: Context, caller: Caller, request: Request[None, OneNotification]) -> NotificationView:
    """POST /notifications/{notification_id}/cancel."""
    await notifications.cancel(context, caller.app, request.params.notification_id)
    return await progress.get(context, caller.app, request.params.notification_id)


async def devices(context: Context, caller: Caller, request: Request[None, OutcomePage]) -> Listing[OutcomeDevice]:
    """GET /notifications/{notification_id}/devices."""
    params = request.params
    found = await progress.outcome_devices(
        context,
        caller.app,
        params.notification_id,
        outcome=params.outcome,
        reason=params.reason,
        after=request.after(),
        limit=request.limit,
    )
    return request.listing(found, [each.device_id for each in found])


OPERATIONS = (
    Operation(
        name="send",
        method="POST",
        path="/notifications",
        tag="notifications",
        summary="Sends a message to an audience",
        description="Answered once it is committed: from then on no crash loses it. Named targets that cannot be "
        "reached are reported in `errors`; when none of them can, it is an error. With an `Idempotency-Key` the same "
        "request can be repeated for a day and is answered as the first time, with `Idempotency-Replayed: true`.",
        handler=send,
        body=Send,
        answer=Sent,
        statuses=(202,),
        errors=(UnknownTargetsError, IdempotencyMismatchError),
        idempotent=True,
        example={
            "audience": {"type": "tags", "any": ["news"]},
            "message": {"title": "Harvest", "body": "The first apples are in", "data": {"orchard": 7}},
            "ttl_s": 3600,
        },
    ),
    Operation(
        name="listNotifications",
        method="GET",
        path="/notifications",
        tag="notifications",
        summary="Notifications, newest first",
        description="A page of very large sends has fewer items than its limit; `next` says whether there are more.",
        handler=listing,
        params=Page,
        answer=Listing[NotificationView],
    ),
    Operation(
        name="getNotification",
        method="GET",
        path="/notifications/{notification_id}",
        tag="notifications",
        summary="One notification: its state, counts and reasons",
        description="The counts always add up: `targeted` is the sum of the others. `accepted` means that the "
        "gateway took it, never that a device showed it.",
        handler=show,
        params=OneNotification,
        answer=NotificationView,
    ),
    Operation(
        name="renameNotification",
        method="PATCH",
        path="/notifications/{notification_id}",
        tag="notifications",
        summary="Renames a notification",
        handler=rename,
        params=OneNotification,
        body=Rename,
        answer=NotificationView,
        example={"name": "Harvest, first wave"},
    ),
    Operation(
        name="cancelNotification",
        method="POST",
        path="/notifications/{notification_id}/cancel",
        tag="notifications",
        summary="Cancels what was not sent yet",
        description="What is on its way keeps its outcome. Cancelling again changes nothing.",
        handler=cancel,
        params=OneNotification,
        answer=NotificationView,
        errors=(ConflictError,),
    ),
    Operation(
        name="listNotificationDevices",
        method="GET",
        path="/notifications/{notification_id}/devices",
        tag="notifications",
        summary="The devices behind each outcome, by id",
        handler=devices,
        params=OutcomePage,
        answer=Listing[OutcomeDevice],
    ),
)
