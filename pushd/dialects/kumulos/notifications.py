"""Notifications of Kumulos's: sent, cancelled before their time, and who opened them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from msgspec import to_builtins

from pushd.commands import notifications, progress, reports
from pushd.dialect import Dialect
from pushd.dialects.kumulos import message, target, wire
from pushd.dialects.kumulos.message import Asked
from pushd.errors import ConflictError, NotFoundError, PushdError, UnknownTargetsError
from pushd.model.notification import State
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

SOURCE_API, STATUS_QUEUED = 1, 1
OPENS_PAGE = 1_000
OPENS_MAX = 100_000
"""Opens that one answer tells, the first ones: some 8 MB. The vendor's call knows no pages."""

Page = Callable[[int], Awaitable[tuple[Sequence[tuple[str, float]], Sequence[int]]]]
"""Who opened it and when, from a position on, and the positions that were looked at."""


class AlreadySentError(PushdError):
    """There is nothing left to cancel."""

    code, status, title = "already_sent", 400, "Notification already sent"


async def send(kumulos: Dialect, incoming: Incoming) -> Answer:
    """POST /v2/notifications, and the flat body of version 1."""
    caller = await wire.server(kumulos, incoming)
    return await _sent(kumulos, caller.app, message.notification(await wire.body(kumulos, incoming)))


async def send_templated(kumulos: Dialect, incoming: Incoming) -> Answer:
    """POST /v1/templated-notifications."""
    caller = await wire.server(kumulos, incoming)
    asked = message.templated(await wire.body(kumulos, incoming))
    return await _sent(kumulos, caller.app, asked)


async def cancel(kumulos: Dialect, incoming: Incoming) -> Answer:
    """DELETE /v2/scheduled-notifications/{id}: what has begun to go out is not cancelled by this call."""
    caller = await wire.server(kumulos, incoming)
    number = wire.path_number(incoming, "notification")
    view = await progress.get(kumulos.context, caller.app, number)
    if view.next_at is None or view.state in {State.DONE, State.CANCELLED}:
        raise AlreadySentError
    try:
        await notifications.cancel(kumulos.context, caller.app, number)
    except ConflictError:
        raise AlreadySentError from None
    return wire.done()


async def install_opens(kumulos: Dialect, incoming: Incoming) -> Answer:
    """GET /notifications/{id}/install-opens."""
    caller = await wire.server(kumulos, incoming)
    number = wire.path_number(incoming, "notification")

    async def page(after: int) -> tuple[Sequence[tuple[str, float]], Sequence[int]]:
        found, positions = await reports.install_opens(
            kumulos.context, caller.app, number, after=after, limit=OPENS_PAGE
        )
        return [(each.install_id, each.opened_at) for each in found], positions

    return await _opens(kumulos, caller.app, number, "installId", page)


async def user_opens(kumulos: Dialect, incoming: Incoming) -> Answer:
    """GET /notifications/{id}/user-opens."""
    caller = await wire.server(kumulos, incoming)
    number = wire.path_number(incoming, "notification")

    async def page(after: int) -> tuple[Sequence[tuple[str, float]], Sequence[int]]:
        found, positions = await reports.user_opens(kumulos.context, caller.app, number, after=after, limit=OPENS_PAGE)
        return [(each.user_id, each.opened_at) for each in found], positions

    return await _opens(kumulos, caller.app, number, "userId", page)


async def _sent(kumulos: Dialect, app_id: int, asked: Asked) -> Answer:
    try:
        done = await notifications.sent(kumulos.context, app_id, asked.send)
    except UnknownTargetsError as error:
        missing = target.errors(error.extra.get("targets"), asked.target)
        return wire.told({"notification": None, "errors": missing or {}}, 400)
    title, text, data = asked.title, asked.message, asked.data
    if asked.send.template is not None:
        # A template's texts with what was sent in their gaps; those that differ by user are told as they are written.
        shown = (await progress.get(kumulos.context, app_id, done.id)).message
        title, text, data = shown.title, shown.body, shown.data
    now = wire.iso(kumulos.context.clock.now())
    told = {
        "appId": app_id,
        "source": SOURCE_API,
        "status": STATUS_QUEUED,
        "filters": asked.target.said,
        "title": title,
        "message": text,
        "data": data,
        "updatedAt": now,
        "createdAt": now,
        "id": done.id,
    }
    missing = None if done.errors is None else target.errors(to_builtins(done.errors), asked.target)
    return wire.told({"notification": told, "errors": missing}, 202)


async def _opens(kumulos: Dialect, app_id: int, number: int, name: str, page: Page) -> Answer:
    """Everybody who opened it, page by page; nobody where its time has not come."""
    told: list[bytes] = []
    after = 0
    while len(told) * OPENS_PAGE < OPENS_MAX:
        try:
            found, positions = await page(after)
        except NotFoundError:
            await progress.get(kumulos.context, app_id, number)  # NotFoundError, where it is not a schedule either
            break
        if found:
            told.append(_listed(name, found))
        if len(positions) < OPENS_PAGE:
            break
        after = positions[-1]
    return Answer(b"[" + b",".join(told) + b"]", headers=wire.CORS)


def _listed(name: str, found: Sequence[tuple[str, float]]) -> bytes:
    rows: list[dict[str, Any]] = [{name: who, "openedAt": wire.plain(at)} for who, at in found]
    return orjson.dumps(rows)[1:-1]
