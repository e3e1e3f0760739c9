"""Notifications over HTTP: /notifications, their releases, the devices behind outcomes; pause, resume and cancel."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from pushd.api.operation import Listing, Operation, Page, Reply
from pushd.api.request import Request
from pushd.commands import arrays, notifications, progress
from pushd.commands.arrays import SENDS_MAX
from pushd.commands.audience import TargetErrors
from pushd.commands.context import Context
from pushd.commands.notifications import Sent
from pushd.commands.progress import OutcomeDevice, OutcomeName
from pushd.errors import (
    ConflictError,
    IdempotencyMismatchError,
    InvalidRequestError,
    PushdError,
    UnknownTargetsError,
)
from pushd.model.device import ID_MAX
from pushd.model.notification import NotificationView, ReleaseView, Send
from pushd.web import problem
from pushd.web.caller import Caller
from pushd.web.decode import JsonBody
from pushd.web.problem import Problem

NotificationId = Annotated[int, Meta(ge=1, le=ID_MAX)]

_NEWEST = ID_MAX + 1


class OneNotification(Struct, frozen=True):
    """A notification in the path."""

    notification_id: NotificationId


class NotificationsPage(Page, frozen=True, kw_only=True):
    """Which notifications to list."""

    transactional: (
        Annotated[bool, Meta(description="`false`: campaigns alone; pages may be short while there is a `next`.")]
        | None
    ) = None


class OutcomePage(Page, frozen=True, kw_only=True):
    """Which devices of a notification to list."""

    notification_id: NotificationId
    outcome: Annotated[OutcomeName, Meta(description="`failed` stands for all that did not work out.")] | None = None
    reason: Annotated[str, Meta(max_length=100, description="A reason of the notification's `reasons`.")] | None = None


class ReleasesPage(Page, frozen=True, kw_only=True):
    """A page of the releases of a notification in the path."""

    notification_id: NotificationId


class Rename(Struct, frozen=True, forbid_unknown_fields=True):
    """What may change of a notification."""

    name: Annotated[str, Meta(max_length=255)] | None


async def send(context: Context, caller: Caller, request: Request[Send, None]) -> Reply[bytes]:
    """POST /notifications."""
    answer = await notifications.send(context, caller.app, request.body, request.idempotency())
    return Reply(answer.body, headers={"Idempotency-Replayed": "true"} if answer.replayed else {})


class SendArray(Struct, frozen=True, forbid_unknown_fields=True):
    """Several sends by one request."""

    notifications: Annotated[list[Send], Meta(max_length=SENDS_MAX)]


class _LooseArray(Struct, frozen=True, forbid_unknown_fields=True):
    """The same, each send for itself."""

    notifications: Annotated[list[msgspec.Raw], Meta(max_length=SENDS_MAX)]


class ArrayResult(Struct, frozen=True, omit_defaults=True):
    """What became of one send: `id` and the rest of what a send is answered, or the `problem` that refused it."""

    id: int | None = None
    targeted: int | None = None
    """Devices that it goes to; absent where it waits: they are looked for when it is released."""
    next_at: float | None = None
    """UNIX seconds of the earliest instant at which it goes out to anybody; absent where that is now."""
    errors: TargetErrors | None = None
    """Named targets that it cannot go to, were it sent now; absent when all can be reached."""
    problem: Problem | None = None


class SentArray(Struct, frozen=True):
    """The answer to several sends: those that were accepted are kept through any crash from now on."""

    accepted: int
    """How many were; the others were refused, each with its problem."""
    results: list[ArrayResult]
    """One for each send, in their order."""


_array: JsonBody[SendArray] = JsonBody(SendArray)
_loose_array: JsonBody[_LooseArray] = JsonBody(_LooseArray)
_send: JsonBody[Send] = JsonBody(Send)


def parse_array(raw: bytes) -> list[Send | PushdError]:
    """The sends of an array, an error in the place of each that is none; InvalidRequestError where it is no array."""
    try:
        return [*_array.decode(raw).notifications]
    except InvalidRequestError as error:
        found: list[Send | PushdError] = []
        for one in _loose_array.decode_line(raw).notifications:
            try:
                found.append(_send.decode(bytes(one)))
            except InvalidRequestError as own:
                found.append(own)
        if not any(isinstance(one, PushdError) for one in found):
            raise error from None  # it is the array itself that is wrong
        return found


async def send_array(context: Context, caller: Caller, request: Request[list[Send | PushdError], None]) -> Reply[bytes]:
    """POST /notifications/batch."""

    def describe(error: PushdError) -> bytes:
        return problem.encode(error, request.id)

    answer = await arrays.send_array(context, caller.app, request.body, describe, request.idempotency())
    return Reply(answer.body, headers={"Idempotency-Replayed": "true"} if answer.replayed else {})


async def listing(
    context: Context, caller: Caller, request: Request[None, NotificationsPage]
) -> Listing[NotificationView]:
    """GET /notifications."""
    sort = request.params.transactional
    if sort is not None:
        before, limit = request.after(_NEWEST), request.limit
        of_sort, end = await progress.list_of_sort(context, caller.app, transactional=sort, before=before, limit=limit)
        return request.part(of_sort, end)
    found, more = await progress.list_page(context, caller.app, before=request.after(_NEWEST), limit=request.limit)
    return request.listing(found, [each.id for each in found], more=more)


async def show(context: Context, caller: Caller, request: Request[None, OneNotification]) -> NotificationView:
    """GET /notifications/{notification_id}."""
    return await progress.get(context, caller.app, request.params.notification_id)


async def rename(context: Context, caller: Caller, request: Request[Rename, OneNotification]) -> NotificationView:
    """PATCH /notifications/{notification_id}."""
    await notifications.rename(context, caller.app, request.params.notification_id, request.body.name)
    return await progress.get(context, caller.app, request.params.notification_id)


async def pause(context: Context, caller: Caller, request: Request[None, OneNotification]) -> NotificationView:
    """POST /notifications/{notification_id}/pause."""
    await notifications.pause(context, caller.app, request.params.notification_id)
    return await progress.get(context, caller.app, request.params.notification_id)


async def resume(context: Context, caller: Caller, request: Request[None, OneNotification]) -> NotificationView:
    """POST /notifications/{notification_id}/resume."""
    await notifications.resume(context, caller.app, request.params.notification_id)
    return await progress.get(context, caller.app, request.params.notification_id)


async def cancel(context: Context, caller: Caller, request: Request[None, OneNotification]) -> NotificationView:
    """POST /notifications/{notification_id}/cancel."""
    await notifications.cancel(context, caller.app, request.params.notification_id)
    return await progress.get(context, caller.app, request.params.notification_id)


async def releases(context: Context, caller: Caller, request: Request[None, ReleasesPage]) -> Listing[ReleaseView]:
    """GET /notifications/{notification_id}/releases."""
    # Numbers begin at 0, and positions in a cursor are never negative.
    number, after = request.params.notification_id, request.after() - 1
    found = await progress.releases(context, caller.app, number, after=after, limit=request.limit)
    return request.listing(found, [each.number + 1 for each in found])


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
        "request can be repeated for a day and is answered as the first time, with `Idempotency-Replayed: true`. With "
        "a time (`schedule`, `intelligent_delivery`, `release_window_minutes`), or where quiet hours or a cap may keep "
        "it back, it becomes a schedule: its audience is resolved when it is released; targets that are not there now "
        "are reported, and never refuse it.",
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
        name="sendArray",
        method="POST",
        path="/notifications/batch",
        tag="notifications",
        summary="Sends up to 1,000 messages, each to its own audience",
        description="Each has its own result, in order: what a send is answered, or the `problem` that refused it, "
        "with pointers under its index. Those that are accepted are committed together. When none can be sent, the "
        "whole is an error. An `Idempotency-Key` covers the array.",
        handler=send_array,
        body=SendArray,
        parse=parse_array,
        answer=SentArray,
        statuses=(202,),
        errors=(IdempotencyMismatchError,),
        idempotent=True,
        example={
            "notifications": [
                {"audience": {"type": "users", "ids": ["ada"]}, "message": {"body": "Your code is 4711"}, "ttl_s": 300},
                {"audience": {"type": "users", "ids": ["bob"]}, "message": {"body": "Your code is 1174"}, "ttl_s": 300},
            ]
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
        params=NotificationsPage,
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
        description="What is on its way keeps its outcome. One that waits for its time will not go out. Cancelling "
        "again changes nothing.",
        handler=cancel,
        params=OneNotification,
        answer=NotificationView,
        errors=(ConflictError,),
    ),
    Operation(
        name="pauseNotification",
        method="POST",
        path="/notifications/{notification_id}/pause",
        tag="notifications",
        summary="Keeps back what was not sent yet",
        description="What is on its way keeps its outcome; the rest waits, counts as pending, and expires at the end "
        "of its life. One that waits for its time does not go out when that comes.",
        handler=pause,
        params=OneNotification,
        answer=NotificationView,
        errors=(ConflictError,),
    ),
    Operation(
        name="resumeNotification",
        method="POST",
        path="/notifications/{notification_id}/resume",
        tag="notifications",
        summary="Lets what was paused go on",
        description="Where its time has come meanwhile, its `past_times` says what becomes of it.",
        handler=resume,
        params=OneNotification,
        answer=NotificationView,
        errors=(ConflictError,),
    ),
    Operation(
        name="listReleases",
        method="GET",
        path="/notifications/{notification_id}/releases",
        tag="notifications",
        summary="The releases of a notification that goes out by and by, in order",
        description="By zone, by preferred hour, by batches of a release window, or after quiet hours. What goes out "
        "to all at one instant has none.",
        handler=releases,
        params=ReleasesPage,
        answer=Listing[ReleaseView],
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
