"""In-app messages over HTTP: /in-app-messages, and who did what with one."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import Listing, Operation, Page, Reply
from pushd.api.request import Request
from pushd.commands import in_app
from pushd.commands.context import Context
from pushd.commands.in_app import InAppSent
from pushd.errors import ConflictError, IdempotencyMismatchError, UnknownTargetsError
from pushd.model.device import ID_MAX
from pushd.model.in_app import InAppChange, InAppRecipient, InAppView, InboxEvent, MessageId, NewInApp
from pushd.web.caller import Caller

_NEWEST = ID_MAX + 1
_RECIPIENTS = ID_MAX + 1
"""Added to the number of a recipient, which is negative for installs, to make its position."""


class OneInApp(Struct, frozen=True):
    """An in-app message in the path."""

    message_id: MessageId


class RecipientsPage(Page, frozen=True, kw_only=True):
    """Which recipients of a message to list."""

    message_id: MessageId
    event: Annotated[InboxEvent, Meta(description="Those who did this; absent: anything.")] | None = None


async def create(context: Context, caller: Caller, request: Request[NewInApp, None]) -> Reply[bytes]:
    """POST /in-app-messages."""
    answer = await in_app.create(context, caller.app, request.body, request.idempotency())
    return Reply(answer.body, headers={"Idempotency-Replayed": "true"} if answer.replayed else {})


async def listing(context: Context, caller: Caller, request: Request[None, Page]) -> Listing[InAppView]:
    """GET /in-app-messages."""
    found = await in_app.list_page(context, caller.app, before=request.after(_NEWEST), limit=request.limit)
    return request.listing(found, [each.id for each in found])


async def show(context: Context, caller: Caller, request: Request[None, OneInApp]) -> InAppView:
    """GET /in-app-messages/{message_id}."""
    return await in_app.get(context, caller.app, request.params.message_id)


async def change(context: Context, caller: Caller, request: Request[InAppChange, OneInApp]) -> InAppView:
    """PATCH /in-app-messages/{message_id}."""
    return await in_app.change(context, caller.app, request.params.message_id, request.body)


async def cancel(context: Context, caller: Caller, request: Request[None, OneInApp]) -> InAppView:
    """POST /in-app-messages/{message_id}/cancel."""
    return await in_app.cancel(context, caller.app, request.params.message_id)


async def pause(context: Context, caller: Caller, request: Request[None, OneInApp]) -> InAppView:
    """POST /in-app-messages/{message_id}/pause."""
    return await in_app.pause(context, caller.app, request.params.message_id)


async def resume(context: Context, caller: Caller, request: Request[None, OneInApp]) -> InAppView:
    """POST /in-app-messages/{message_id}/resume."""
    return await in_app.resume(context, caller.app, request.params.message_id)


async def recipients(
    context: Context, caller: Caller, request: Request[None, RecipientsPage]
) -> Listing[InAppRecipient]:
    """GET /in-app-messages/{message_id}/recipients."""
    params = request.params
    found = await in_app.recipients(
        context,
        caller.app,
        params.message_id,
        events=[] if params.event is None else [params.event],
        after=request.after(0) - _RECIPIENTS,
        limit=request.limit,
    )
    return request.listing([each for _, each in found], [number + _RECIPIENTS for number, _ in found])


OPERATIONS = (
    Operation(
        name="createInAppMessage",
        method="POST",
        path="/in-app-messages",
        tag="in-app messages",
        summary="Sends an in-app message",
        description="Its recipients are the users of the devices in the audience, and those of their installs that "
        "have no user; installs without in-app consent are `unsubscribed`. They fetch it from `/inbox`. It is answered "
        "after it is committed; `push` goes along as an ordinary notification to those who can be pushed to. What has "
        "a time is a schedule until then, and its audience is resolved when that comes; each occurrence of what recurs "
        "is a message of its own.",
        handler=create,
        body=NewInApp,
        answer=InAppSent,
        statuses=(202,),
        errors=(UnknownTargetsError, ConflictError, IdempotencyMismatchError),
        idempotent=True,
        example={
            "audience": {"type": "tags", "any": ["runners"]},
            "content": {"layout": "card", "title": "Push yourself", "text": "Programs from $29 a month"},
            "presented_when": "next_open",
            "ttl": {"days": 14},
            "inbox": {"title": "Push yourself", "subtitle": "Programs from $29"},
            "push": {"message": {"title": "New offer", "body": "Open the app to see it"}},
        },
    ),
    Operation(
        name="listInAppMessages",
        method="GET",
        path="/in-app-messages",
        tag="in-app messages",
        summary="In-app messages, newest first",
        handler=listing,
        params=Page,
        answer=Listing[InAppView],
    ),
    Operation(
        name="getInAppMessage",
        method="GET",
        path="/in-app-messages/{message_id}",
        tag="in-app messages",
        summary="One in-app message, and how many did what with it",
        handler=show,
        params=OneInApp,
        answer=InAppView,
    ),
    Operation(
        name="changeInAppMessage",
        method="PATCH",
        path="/in-app-messages/{message_id}",
        tag="in-app messages",
        summary="Renames an in-app message, or brings its end forward",
        description="What was released says the same to everybody for ever; only its end may come earlier.",
        handler=change,
        params=OneInApp,
        body=InAppChange,
        answer=InAppView,
        errors=(ConflictError,),
        example={"name": "Offer of the week"},
    ),
    Operation(
        name="cancelInAppMessage",
        method="POST",
        path="/in-app-messages/{message_id}/cancel",
        tag="in-app messages",
        summary="Withdraws an in-app message from everybody",
        description="One that waits for its time is never released; what of its push was not sent is cancelled. "
        "Cancelling again changes nothing.",
        handler=cancel,
        params=OneInApp,
        answer=InAppView,
        errors=(ConflictError,),
    ),
    Operation(
        name="pauseInAppMessage",
        method="POST",
        path="/in-app-messages/{message_id}/pause",
        tag="in-app messages",
        summary="Keeps back what of an in-app message is still to come",
        description="Who has it has it. Its push is paused with it. Pausing again changes nothing.",
        handler=pause,
        params=OneInApp,
        answer=InAppView,
        errors=(ConflictError,),
    ),
    Operation(
        name="resumeInAppMessage",
        method="POST",
        path="/in-app-messages/{message_id}/resume",
        tag="in-app messages",
        summary="Lets an in-app message that was paused go on",
        description="What was to come meanwhile comes now, if it is not too late by its schedule.",
        handler=resume,
        params=OneInApp,
        answer=InAppView,
        errors=(ConflictError,),
    ),
    Operation(
        name="listInAppRecipients",
        method="GET",
        path="/in-app-messages/{message_id}/recipients",
        tag="in-app messages",
        summary="Who did what with an in-app message, and when first",
        description="Those who did nothing with it are counted, and not listed.",
        handler=recipients,
        params=RecipientsPage,
        answer=Listing[InAppRecipient],
    ),
)
