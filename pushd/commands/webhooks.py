"""Webhooks: made, changed, paused, resumed, tried and deleted; their secrets renewed, their dead letters sent anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Struct

from pushd.commands.context import Context
from pushd.commands.events import feed_of
from pushd.commands.text import check_text
from pushd.errors import ConflictError, Fault, InvalidRequestError, NotFoundError, TooManyRequestsError
from pushd.feed import signing
from pushd.feed.feed import Feed
from pushd.model.event import (
    DEFAULT_BITS,
    EventType,
    Letter,
    NewWebhook,
    Webhook,
    WebhookChange,
    WebhookState,
    bits,
)
from pushd.transport.guard import parse

TEST_TYPE = "webhook.test"
TESTS_MAX = 64
"""Tries by hand at a time on one node."""
TESTS_OF_APP_MAX = 2
_MISSING = "There is no such webhook"


class Tried(Struct, frozen=True, kw_only=True):
    """What a try by hand came to."""

    delivered: bool
    failure: str | None
    """In a word, where it was not."""


async def create(context: Context, app_id: int, new: NewWebhook) -> tuple[Webhook, str]:
    """The new webhook and its secret, which nothing can show again. InvalidRequestError, ConflictError."""
    feed = feed_of(context)
    check_text(new)
    url = _url(feed, new.url)
    secret = signing.new_secret()
    webhook = await context.whole(
        context.store.webhooks.create(
            app_id,
            name=new.name,
            url=url,
            types=_types(new.types),
            batch_max=new.batch_max,
            seal=lambda number: feed.vault.seal(app_id, number, signing.dump([signing.Secret(secret)])),
            most=feed.config.webhooks_per_app_max,
        )
    )
    feed.deliverer.look_soon()
    return webhook, secret


async def get(context: Context, app_id: int, webhook_id: int) -> Webhook:
    """The webhook; NotFoundError."""
    return _found(await context.store.webhooks.get(app_id, webhook_id))


async def list_page(context: Context, app_id: int, *, after: int, limit: int) -> Sequence[Webhook]:
    """Webhooks with ids above `after`, ascending."""
    return await context.store.webhooks.list(app_id, after, limit)


async def update(context: Context, app_id: int, webhook_id: int, change: WebhookChange) -> Webhook:
    """The webhook after the change. NotFoundError, InvalidRequestError."""
    check_text(change)
    return _found(
        await context.store.webhooks.update(
            app_id,
            webhook_id,
            name=None if change.name is UNSET else change.name,
            url=None if change.url is UNSET else _url(feed_of(context), change.url),
            types=None if change.types is UNSET else _types(change.types),
            batch_max=None if change.batch_max is UNSET else change.batch_max,
        )
    )


async def delete(context: Context, app_id: int, webhook_id: int) -> None:
    """Nothing, once the webhook is gone, with what it was still to get. NotFoundError."""
    if not await context.store.webhooks.delete(app_id, webhook_id):
        raise NotFoundError(_MISSING)


async def rotate(context: Context, app_id: int, webhook_id: int) -> str:
    """A new secret; for a while requests are signed with the one before, too. NotFoundError."""
    feed = feed_of(context)
    secret = signing.new_secret()
    until = context.clock.now() + feed.config.secret_overlap_s

    def renew(sealed: bytes) -> bytes:
        known = signing.load(feed.vault.open(app_id, webhook_id, sealed))
        return feed.vault.seal(app_id, webhook_id, signing.dump(signing.rotated(known, secret, until)))

    if not await context.store.webhooks.reseal(app_id, webhook_id, renew):
        raise NotFoundError(_MISSING)
    return secret


async def pause(context: Context, app_id: int, webhook_id: int) -> Webhook:
    """The webhook, which is not called until it is resumed; its events wait. NotFoundError."""
    return _found(await context.store.webhooks.pause(app_id, webhook_id))


async def resume(context: Context, app_id: int, webhook_id: int, *, skip: bool) -> Webhook:
    """The webhook, called again at once; with `skip` it does not get what waits. NotFoundError."""
    return _found(await context.store.webhooks.resume(app_id, webhook_id, skip=skip))


async def test(context: Context, app_id: int, webhook_id: int) -> Tried:
    """What a signed request with one event of type webhook.test came to. NotFoundError, TooManyRequestsError."""
    webhook = await get(context, app_id, webhook_id)
    sealed = await context.store.webhooks.sealed(app_id, webhook_id)
    if sealed is None:
        raise NotFoundError(_MISSING)
    feed, now = feed_of(context), context.clock.now()
    if feed.tests.total() >= TESTS_MAX or feed.tests[app_id] >= TESTS_OF_APP_MAX:
        raise TooManyRequestsError("Too many webhooks are being tried", retry_after_s=1)
    id_ = f"test-{webhook_id}-{int(now * 1000)}"
    event = {"id": id_, "type": TEST_TYPE, "at": now, "data": {"webhook_id": webhook_id}}
    feed.tests[app_id] += 1
    try:
        body = msgspec.json.encode({"events": [event]})
        attempt = await feed.deliverer.post(app_id, webhook_id, webhook.url, sealed, id_, body)
    finally:
        feed.tests[app_id] -= 1
        feed.tests += Counter()  # forgets apps that have none
    return Tried(delivered=attempt.arrived, failure=attempt.failure or None)


async def letters(context: Context, app_id: int, webhook_id: int, *, after: int, limit: int) -> Sequence[Letter]:
    """Dead letters of a webhook with ids above `after`, ascending. NotFoundError."""
    await get(context, app_id, webhook_id)
    return await context.store.webhooks.letters(webhook_id, after, limit)


async def replay(context: Context, app_id: int, webhook_id: int, letter_id: int | None = None) -> int:
    """How many dead letters are to be sent anew: one, or all. NotFoundError; ConflictError while it is not called."""
    webhook = await get(context, app_id, webhook_id)
    if webhook.state is not WebhookState.ACTIVE:
        raise ConflictError("The webhook is not active: resume it first")
    count = await context.store.webhooks.replay(app_id, webhook_id, letter_id)
    if letter_id is not None and not count:
        raise NotFoundError("There is no such dead letter, or it is to be sent anew already")
    return count


async def discard(context: Context, app_id: int, webhook_id: int, letter_id: int) -> None:
    """Nothing, once a dead letter is gone. NotFoundError."""
    await get(context, app_id, webhook_id)
    if not await context.store.webhooks.discard(webhook_id, letter_id):
        raise NotFoundError("There is no such dead letter")


def _types(types: Sequence[EventType] | None) -> int:
    return DEFAULT_BITS if types is None else bits(types)


def _url(feed: Feed, url: str) -> str:
    """The URL in its one form; InvalidRequestError for one that may not be called (W-42)."""
    try:
        target = parse(url)
    except ValueError as error:
        raise InvalidRequestError(faults=[Fault("/url", str(error))]) from None
    if not feed.guard.allows(target):
        detail = "names a host or a port that this installation does not call"
        raise InvalidRequestError(faults=[Fault("/url", detail)])
    return target.url


def _found(webhook: Webhook | None) -> Webhook:
    if webhook is None:
        raise NotFoundError(_MISSING)
    return webhook
