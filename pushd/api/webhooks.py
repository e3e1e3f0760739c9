"""Webhooks over HTTP: /webhooks, their secrets and their dead letters."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import Listing, Operation, Page
from pushd.api.request import Request
from pushd.commands import webhooks
from pushd.commands.context import Context
from pushd.commands.webhooks import Tried
from pushd.errors import ConflictError, TooManyRequestsError
from pushd.model.device import ID_MAX
from pushd.model.event import Letter, NewWebhook, Webhook, WebhookChange
from pushd.web.caller import Caller

WebhookId = Annotated[int, Meta(ge=1, le=ID_MAX)]
LetterId = Annotated[int, Meta(ge=1, le=2**53)]


class OneWebhook(Struct, frozen=True):
    """A webhook in the path."""

    webhook_id: WebhookId


class OneLetter(Struct, frozen=True):
    """A dead letter in the path."""

    webhook_id: WebhookId
    letter_id: LetterId


class LettersPage(Page, frozen=True, kw_only=True):
    """Whose dead letters to list."""

    webhook_id: WebhookId


class ResumeBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a webhook goes on."""

    skip: bool = False
    """Whether it is not told of what happened until now."""


class CreatedWebhook(Struct, frozen=True, kw_only=True):
    """A webhook with its secret, which is shown here and never again."""

    webhook: Webhook
    secret: str
    """What requests are signed with."""


class NewSecret(Struct, frozen=True, kw_only=True):
    """A secret, which is shown here and never again."""

    secret: str


class Replayed(Struct, frozen=True, kw_only=True):
    """How many dead letters are to be sent anew."""

    letters: int


async def create(context: Context, caller: Caller, request: Request[NewWebhook, None]) -> CreatedWebhook:
    """POST /webhooks."""
    webhook, secret = await webhooks.create(context, caller.app, request.body)
    return CreatedWebhook(webhook=webhook, secret=secret)


async def listing(context: Context, caller: Caller, request: Request[None, Page]) -> Listing[Webhook]:
    """GET /webhooks."""
    found = await webhooks.list_page(context, caller.app, after=request.after(), limit=request.limit)
    return request.listing(found, [each.id for each in found])


async def show(context: Context, caller: Caller, request: Request[None, OneWebhook]) -> Webhook:
    """GET /webhooks/{webhook_id}."""
    return await webhooks.get(context, caller.app, request.params.webhook_id)


async def update(context: Context, caller: Caller, request: Request[WebhookChange, OneWebhook]) -> Webhook:
    """PATCH /webhooks/{webhook_id}."""
    return await webhooks.update(context, caller.app, request.params.webhook_id, request.body)


async def delete(context: Context, caller: Caller, request: Request[None, OneWebhook]) -> None:
    """DELETE /webhooks/{webhook_id}."""
    await webhooks.delete(context, caller.app, request.params.webhook_id)


async def rotate(context: Context, caller: Caller, request: Request[None, OneWebhook]) -> NewSecret:
    """POST /webhooks/{webhook_id}/secret."""
    return NewSecret(secret=await webhooks.rotate(context, caller.app, request.params.webhook_id))


async def pause(context: Context, caller: Caller, request: Request[None, OneWebhook]) -> Webhook:
    """POST /webhooks/{webhook_id}/pause."""
    return await webhooks.pause(context, caller.app, request.params.webhook_id)


async def resume(context: Context, caller: Caller, request: Request[ResumeBody, OneWebhook]) -> Webhook:
    """POST /webhooks/{webhook_id}/resume."""
    return await webhooks.resume(context, caller.app, request.params.webhook_id, skip=request.body.skip)


async def test(context: Context, caller: Caller, request: Request[None, OneWebhook]) -> Tried:
    """POST /webhooks/{webhook_id}/test."""
    return await webhooks.test(context, caller.app, request.params.webhook_id)


async def letters(context: Context, caller: Caller, request: Request[None, LettersPage]) -> Listing[Letter]:
    """GET /webhooks/{webhook_id}/letters."""
    found = await webhooks.letters(
        context, caller.app, request.params.webhook_id, after=request.after(), limit=request.limit
    )
    return request.listing(found, [each.id for each in found])


async def replay_all(context: Context, caller: Caller, request: Request[None, OneWebhook]) -> Replayed:
    """POST /webhooks/{webhook_id}/letters/replay."""
    return Replayed(letters=await webhooks.replay(context, caller.app, request.params.webhook_id))


async def replay(context: Context, caller: Caller, request: Request[None, OneLetter]) -> Replayed:
    """POST /webhooks/{webhook_id}/letters/{letter_id}/replay."""
    params = request.params
    return Replayed(letters=await webhooks.replay(context, caller.app, params.webhook_id, params.letter_id))


async def discard(context: Context, caller: Caller, request: Request[None, OneLetter]) -> None:
    """DELETE /webhooks/{webhook_id}/letters/{letter_id}."""
    await webhooks.discard(context, caller.app, request.params.webhook_id, request.params.letter_id)


OPERATIONS = (
    Operation(
        name="createWebhook",
        method="POST",
        path="/webhooks",
        tag="events",
        summary="Has events posted to a URL",
        description="From now on, signed, in order, again and again until they are answered with 2xx. The secret is in "
        "this answer and nowhere else.",
        handler=create,
        body=NewWebhook,
        answer=CreatedWebhook,
        statuses=(201,),
        errors=(ConflictError,),
        example={
            "url": "https://hooks.example.com/pushd",
            "name": "Warehouse",
            "types": ["notification.finished", "receipt.opened", "device.retired"],
        },
    ),
    Operation(
        name="listWebhooks",
        method="GET",
        path="/webhooks",
        tag="events",
        summary="Webhooks, oldest first",
        handler=listing,
        params=Page,
        answer=Listing[Webhook],
    ),
    Operation(
        name="getWebhook",
        method="GET",
        path="/webhooks/{webhook_id}",
        tag="events",
        summary="One webhook, and how it is doing",
        handler=show,
        params=OneWebhook,
        answer=Webhook,
    ),
    Operation(
        name="updateWebhook",
        method="PATCH",
        path="/webhooks/{webhook_id}",
        tag="events",
        summary="Changes what a webhook gets, where and how many at a time",
        description="Absent fields stay. With another URL it is tried at once.",
        handler=update,
        params=OneWebhook,
        body=WebhookChange,
        answer=Webhook,
        example={"types": ["notification.finished"]},
    ),
    Operation(
        name="deleteWebhook",
        method="DELETE",
        path="/webhooks/{webhook_id}",
        tag="events",
        summary="Forgets a webhook, its waiting events and its dead letters",
        handler=delete,
        params=OneWebhook,
        statuses=(204,),
    ),
    Operation(
        name="rotateWebhookSecret",
        method="POST",
        path="/webhooks/{webhook_id}/secret",
        tag="events",
        summary="Makes a new secret",
        description="For a day requests are signed with the former one, too. It is in this answer and nowhere else.",
        handler=rotate,
        params=OneWebhook,
        answer=NewSecret,
        statuses=(201,),
    ),
    Operation(
        name="pauseWebhook",
        method="POST",
        path="/webhooks/{webhook_id}/pause",
        tag="events",
        summary="Calls a webhook no more until it is resumed",
        description="What happens meanwhile waits, for as long as events are kept.",
        handler=pause,
        params=OneWebhook,
        answer=Webhook,
    ),
    Operation(
        name="resumeWebhook",
        method="POST",
        path="/webhooks/{webhook_id}/resume",
        tag="events",
        summary="Calls a webhook again, at once",
        description="One that was paused, one that was disabled after failures, or one that waits for its next try.",
        handler=resume,
        params=OneWebhook,
        body=ResumeBody,
        answer=Webhook,
        example={"skip": False},
    ),
    Operation(
        name="testWebhook",
        method="POST",
        path="/webhooks/{webhook_id}/test",
        tag="events",
        summary="Sends one event of type webhook.test, now",
        handler=test,
        params=OneWebhook,
        answer=Tried,
        errors=(TooManyRequestsError,),
    ),
    Operation(
        name="listWebhookLetters",
        method="GET",
        path="/webhooks/{webhook_id}/letters",
        tag="events",
        summary="Dead letters: events that a webhook refused again and again",
        handler=letters,
        params=LettersPage,
        answer=Listing[Letter],
    ),
    Operation(
        name="replayWebhookLetters",
        method="POST",
        path="/webhooks/{webhook_id}/letters/replay",
        tag="events",
        summary="Sends all dead letters of a webhook anew",
        handler=replay_all,
        params=OneWebhook,
        answer=Replayed,
        errors=(ConflictError,),
    ),
    Operation(
        name="replayWebhookLetter",
        method="POST",
        path="/webhooks/{webhook_id}/letters/{letter_id}/replay",
        tag="events",
        summary="Sends a dead letter anew",
        description="It is gone when it arrives, under the id that it always had.",
        handler=replay,
        params=OneLetter,
        answer=Replayed,
        errors=(ConflictError,),
    ),
    Operation(
        name="discardWebhookLetter",
        method="DELETE",
        path="/webhooks/{webhook_id}/letters/{letter_id}",
        tag="events",
        summary="Forgets a dead letter",
        handler=discard,
        params=OneLetter,
        statuses=(204,),
    ),
)
