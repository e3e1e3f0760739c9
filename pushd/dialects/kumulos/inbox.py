"""In-app messages of Kumulos's as devices fetch them: every field as the strictest of its SDKs reads it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from pushd.commands import inbox
from pushd.commands.inbox import Owner
from pushd.dialect import Dialect
from pushd.dialects.kumulos import wire
from pushd.dialects.kumulos.fields import wrong
from pushd.errors import NotFoundError
from pushd.model.attributes import as_time
from pushd.model.device import ID_MAX
from pushd.model.in_app import InboxMessage, PresentedWhen
from pushd.model.schedule import INSTANT_MAX
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

MESSAGES_MAX = 200
"""Of one answer, the newest; an app that has kept up has far fewer to hear of."""
_PRESENTED = {
    PresentedWhen.IMMEDIATELY: "immediately",
    PresentedWhen.NEXT_OPEN: "next-open",
    PresentedWhen.NEVER: "never",
}


async def fetch(kumulos: Dialect, incoming: Incoming) -> Answer:
    """GET /v1/users/{userId}/messages: the user's, or those of an install that has none, since `after`."""
    caller = await wire.device(kumulos, incoming)
    name = wire.path_text(incoming)
    after = _after(incoming.raw_query)
    found = None
    for owner in (Owner(user_id=name), Owner(install_id=name)):
        try:
            found, _, _ = await inbox.page(
                kumulos.context, caller.app, owner, after=after, inbox=False, before=ID_MAX, limit=MESSAGES_MAX
            )
            break
        except NotFoundError:
            continue
    if found is None:
        raise NotFoundError("There is no such user")
    return wire.told([shown(each) for each in found])


def _after(query: str) -> float | None:
    """The time that is asked from: `Z`, or an offset with a colon or without, or a blank where its plus was."""
    given = dict(parse_qsl(query, keep_blank_values=True)).get("after", "").strip()
    if not given:
        return None
    given = re.sub(r"(?<=[0-9]) (?=[0-9]{2}:?[0-9]{2}$)", "+", given) if len(given) > 19 else given
    at = as_time(re.sub(r"([+-][0-9]{2})([0-9]{2})$", r"\1:\2", given))
    if at is None or not 0 <= at <= INSTANT_MAX:
        raise wrong("after", "is not a time as 2021-01-01T00:00:00Z")
    return at


def shown(message: InboxMessage) -> dict[str, Any]:
    """A message as the SDKs read it; one that was withdrawn is over and deleted to them."""
    inbox_entry, withdrawn = message.inbox, message.cancelled_at
    ends = [each for each in (message.expires_at, withdrawn) if each is not None]
    told: dict[str, Any] = {
        "id": message.id,
        "presentedWhen": _PRESENTED[message.presented_when],
        "content": wire.plain_json(message.content),
        "data": wire.plain_json(message.data),
        "badge": None,
        "inbox": None,
        "openedAt": wire.iso_or_none(message.opened_at or message.dismissed_at),
        "readAt": wire.iso_or_none(message.read_at),
        "expiresAt": wire.iso_or_none(min(ends) if ends else None),
        "inboxDeletedAt": wire.iso_or_none(message.deleted_at or withdrawn),
        "sentAt": wire.iso(message.sent_at),
        "updatedAt": wire.iso(message.updated_at),
    }
    if inbox_entry is not None:
        told["inbox"] = {
            "title": inbox_entry.title,
            "subtitle": inbox_entry.subtitle or "",
            "from": wire.iso_or_none(inbox_entry.available_from),
            "to": wire.iso_or_none(inbox_entry.available_to),
            "imagePath": inbox_entry.image,
        }
    return told
