"""A Message as an e-mail: subject, text and HTML; sender, recipient and what else a mail has are the gateway's."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from pushd.batch import Rendered
from pushd.content import life
from pushd.content.size import encode, refuse_above
from pushd.model.app import Settings
from pushd.model.message import Message
from pushd.model.notification import Send

SIZE_MAX = 65_536
"""Bytes of subject, text and HTML: far below what a relay takes, far above what a notification says."""

SUBJECT_CHARS_MAX = 255
FIELDS = frozenset({"subject", "html", "text"})
"""What an override may set."""


class Mail(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a mail says."""

    subject: str
    text: str
    html: str | None = None


def render(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered:  # noqa: ARG001  every renderer's parameters
    """The mail as JSON of `Mail`; `now` (UNIX seconds) is the message's release.

    The subject is the override's, else the title, else the app's default title. InvalidRequestError above the limit.
    """
    override: dict[str, Any] = message.overrides.get("email", {})
    subject = override.get("subject") or message.title or app.default_title or ""
    text = override.get("text") or message.body or subject
    if message.url and message.url not in text:
        text += f"\n\n{message.url}"
    mail = {"subject": one_line(subject)[:SUBJECT_CHARS_MAX], "text": text}
    if override.get("html"):
        mail["html"] = override["html"]
    payload = encode(mail)
    refuse_above(SIZE_MAX, payload, message, platform="email")
    return Rendered(payload=payload, expires_at=life.expires_at(send, now))


def one_line(text: str) -> str:
    """The text without line breaks and control characters, which a header must not have."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
