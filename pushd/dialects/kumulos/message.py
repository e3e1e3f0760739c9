"""What a notification of Kumulos's says: the nested body of version 2, the flat one of version 1, and by templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pushd.dialects.kumulos import target, when
from pushd.dialects.kumulos.fields import Fields
from pushd.dialects.kumulos.target import Target
from pushd.model.message import TTL_MAX_S, Android, Button, Media, Message
from pushd.model.notification import Send
from pushd.model.template import TemplateRef

TTL_S = 259_200
"""K7: three days."""
TEXT_CHARS_MAX, MESSAGE_CHARS_MAX = 1_000, 4_096
COLLAPSE_BYTES_MAX = 64
BUTTONS_MAX = 4
TAGS_MAX = 1_000
_LEAST = {"target", "content"}
LEVELS: dict[str, Literal["passive", "active", "time-sensitive", "critical"]] = {
    "passive": "passive",
    "active": "active",
    "time-sensitive": "time-sensitive",
    "critical": "critical",
}
TYPES = {"general": "general", "important": "important"}
PRIORITIES: dict[bool | None, Literal["normal", "high"] | None] = {None: None, True: "high", False: "normal"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A notification that was asked for."""

    send: Send
    target: Target
    title: str | None = None
    message: str | None = None
    data: dict[str, Any] | None = None


def notification(given: Fields) -> Asked:
    """What a body asks for, of either version; InvalidRequestError with every fault."""
    return _nested(given) if "target" in given or "content" in given else _flat(given)


def templated(given: Fields) -> Asked:
    """What a body asks for by a template; InvalidRequestError with every fault."""
    whom = target.of(given.within("target", required=True) or Fields({}))
    uid = given.text("template", required=True)
    send = Send(
        audience=whom.audience,
        template=None if uid is None else TemplateRef(uid=uid),
        content_tags=given.object("content") or {},
        user_meta=user_meta(given),
        reporting_meta=given.object("reportingMeta") or {},
        **when.times_of(given),
    )
    given.check()
    return Asked(send, whom)


def _nested(given: Fields) -> Asked:
    whom = target.of(given.within("target", required=True) or Fields({}))
    content = given.within("content", required=True) or Fields({})
    title, text = content.text("title", TEXT_CHARS_MAX, required=True), _text(content)
    data, url = content.object("data"), content.link("url")
    if given.given.keys() == _LEAST:  # most are no more than that, and come by the thousand
        given.check()
        message = Message(title=title, body=text, url=url, data=data)
        return Asked(Send(audience=whom.audience, message=message, ttl_s=TTL_S), whom, title, text, data)
    message = said(
        given,
        title=title,
        body=text,
        url=url,
        data=data,
        content_available=given.truth("runBackgroundHandler") or None,
        buttons=_buttons(given),
    )
    send = Send(
        audience=whom.audience,
        message=message,
        ttl_s=ttl_of(given),
        collapse_id=_collapse_id(given),
        user_meta=user_meta(given),
        reporting_meta=given.object("reportingMeta") or {},
        **when.times_of(given),
    )
    given.check()
    return Asked(send, whom, title, text, data)


def _flat(given: Fields) -> Asked:
    """Version 1: what is said, and to whom, side by side."""
    whom = target.of(given)
    title, text = given.text("title", TEXT_CHARS_MAX, required=True), _text(given)
    data = given.object("data")
    message = Message(
        title=title,
        body=text,
        url=given.link("url"),
        data=data,
        content_available=given.truth("isBackground") or None,
    )
    send = Send(
        audience=whom.audience,
        message=message,
        ttl_s=TTL_S,
        user_meta=user_meta(given),
        reporting_meta=given.object("reportingMeta") or {},
    )
    given.check()
    return Asked(send, whom, title, text, data)


def said(given: Fields, **fields: Any) -> Message:
    """A message with what `ios` and `android` of a body say of it; faults are noted there."""
    if "ios" not in given and "android" not in given:
        return Message(**fields)
    ios, android = given.within("ios") or Fields({}), given.within("android") or Fields({})
    media = ios.within("media") or Fields({})
    picture, attached = android.url("pictureUrl"), media.url("pictureUrl")
    field, count = _badge(ios.within("badge"))
    kind, channel = android.choice("notificationType", TYPES), android.text("notificationChannel")
    if kind is not None and channel is not None:
        android.bad("notificationChannel", "cannot stand beside notificationType")
    ring, sound = ios.text("sound"), android.text("sound")
    wanted = Android(
        priority=PRIORITIES[android.truth("highPriority")],
        sound=sound or (None if ring is None else "default"),
        picture=picture,
        channel=channel,
        notification_type=kind,
    )
    return Message(
        **fields,
        badge=count if field == "badge" else None,
        badge_increment=count if field == "badge_increment" else None,
        category=ios.text("category"),
        sound=ring,
        image=picture if picture == attached else None,  # for whoever has no field of his own
        media=[Media(url=attached)] if attached else [],
        relevance=ios.real("relevanceScore", 0, 1),
        interruption_level=ios.choice("interruptionLevel", LEVELS),
        android=None if wanted == Android() else wanted,
    )


def ttl_of(given: Fields) -> int:
    """How long gateways hold it, in seconds."""
    ttl_s = given.number("ttl", 0, TTL_MAX_S)
    return TTL_S if ttl_s is None else ttl_s


def _text(given: Fields) -> str | None:
    return given.text("message", MESSAGE_CHARS_MAX, required=True)


def _badge(given: Fields | None) -> tuple[str | None, int | None]:
    """Which badge of a message is given: `setTo` a count, or `incrementBy` one."""
    if given is None:
        return None, None
    field = given.choice("type", {"setTo": "badge", "incrementBy": "badge_increment"}, required=True)
    return field, given.number("count", 0 if field == "badge" else -(2**31), 2**31 - 1, required=True)


def _collapse_id(given: Fields) -> str | None:
    collapse_id = given.text("collapseId")
    if collapse_id is not None and len(collapse_id.encode("utf-8", "replace")) > COLLAPSE_BYTES_MAX:
        given.bad("collapseId", f"is longer than {COLLAPSE_BYTES_MAX} bytes")
        return None
    return collapse_id


def _buttons(given: Fields) -> list[Button]:
    def one(value: Any) -> Button | None:
        button = Fields(value) if isinstance(value, dict) else Fields({})
        name, text = button.text("id", 64, required=True), button.text("text", 100, required=True)
        return None if name is None or text is None else Button(id=name, text=text)

    buttons = given.members("buttons", BUTTONS_MAX, one, "buttons with id and text")
    if len({button.id for button in buttons}) < len(buttons):
        given.bad("buttons", "has two with the same id")
    return buttons


def user_meta(given: Fields) -> dict[str, dict[str, Any]]:
    """By user, what his events carry; faults are noted."""
    meta = given.object("userMeta") or {}
    if any(not isinstance(each, dict) or not 0 < len(name) <= 255 for name, each in meta.items()):
        given.bad("userMeta", "is not an object of objects by user")
        return {}
    return meta
