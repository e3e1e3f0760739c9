"""A Message as a Safari website push: title, body, action and url-args ("Configuring Safari Push Notifications")."""

from __future__ import annotations

from typing import Any

import msgspec

from protocols import apns
from pushd.batch import Rendered
from pushd.content import life
from pushd.content.merge import merge
from pushd.content.size import encode, refuse_above
from pushd.model.app import Settings
from pushd.model.message import Message
from pushd.model.notification import Send

LINK = "pushd-link"
"""A header value of ours: the page that a tap opens. The gateway makes `url-args` of it, which only the site's own
format can do (S-03), and sends no such header."""


class Alert(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is shown; all else is ignored by Safari (S-04)."""

    title: str
    body: str
    action: str | None = None


def render(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered | None:
    """Payload, header values and expiry; None where nothing is shown. `now` (UNIX seconds) is the release.

    InvalidRequestError names the largest field and the excess when the payload is over its limit (S-02).
    """
    body = "\n".join(part for part in (message.subtitle, message.body) if part)
    title = message.title or app.default_title or body
    if not (message.title or body):
        return None
    action = message.buttons[0].text if message.buttons else None
    aps: dict[str, Any] = {"alert": msgspec.to_builtins(Alert(title, body or title, action)), "url-args": []}
    merged = merge({"aps": aps}, message.overrides.get("safari", {}))
    payload = encode(merged)
    room = len(message.url.encode()) + 2 if message.url else 0
    refuse_above(apns.payload_limit("alert") - room, payload, message, platform="safari")
    collapse = life.collapse_id(send, notification_id)
    headers = [("apns-push-type", "alert"), ("apns-priority", str(apns.priority("alert", urgent=True)))]
    if collapse is not None:
        headers.append(("apns-collapse-id", apns.collapse_header(collapse)))
    if message.url is not None:
        headers.append((LINK, message.url))
    return Rendered(payload=payload, headers=tuple(headers), expires_at=life.expires_at(send, now))
