"""Gravitec's `POST /api/v3/push`: what its body means, and what is answered."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import orjson

from pushd.dialects.gravitec.audience import Faults, audience_of
from pushd.errors import InvalidRequestError
from pushd.model.message import TTL_MAX_S, Button, Message
from pushd.model.notification import Send
from pushd.model.schedule import PastTimes, Schedule, Strategy
from pushd.web.decode import json_value

TTL_S = 28_800
"""G3: the default of the text, not that of the example."""
DISPLAY_TIME_S = 60
TEXT_CHARS_MAX = 1_000
BUTTONS_MAX = 2
BUTTON_TITLE_CHARS_MAX = 48
PUSH_TAG_CHARS_MAX = 100
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(?:[/?#][!-~]*)?")
"""As most are, and fine."""
_PICTURE = re.compile(r"\.(jpe?g|png)$", re.IGNORECASE)


def parse(raw: bytes, now: float, *, linked: bool = False) -> Send:
    """The send that a body asks for; InvalidRequestError with every fault. Empty texts and lists mean the default.

    `linked`: a `redirect_url` is required, as the vendor's page has it and its clients do not (G2).
    """
    body = json_value(raw, _wrong)
    if not isinstance(body, dict):
        raise _wrong("is not a JSON object")
    given = {name: value for name, value in body.items() if value not in ("", None, [])}
    faults = Faults()
    message = _message(given, faults)
    if linked and message.url is None and not faults:
        faults.add("payload/redirect_url", "is missing")
    audience = audience_of(given, faults)
    ttl_s = _number(given, "ttl", TTL_S, TTL_MAX_S, faults)
    push_tag = _text(given, "push_tag", PUSH_TAG_CHARS_MAX, faults)
    schedule = _schedule(given.get("send_date"), now, faults)
    transactional = _flag(given, "is_transactional", faults)
    if faults:
        raise InvalidRequestError(f"{faults[0].pointer[1:]} {faults[0].detail}", faults=faults)
    return Send(
        audience=audience,
        message=message,
        ttl_s=ttl_s,
        push_tag=push_tag,
        schedule=schedule,
        transactional=transactional,
    )


def _wrong(detail: str) -> InvalidRequestError:
    return InvalidRequestError(f"The body {detail}")


def answer(notification_id: int, send: Send, now: float) -> bytes:
    """What is told of an accepted push: ids and times are texts of digits."""
    at = send.schedule.send_at if send.schedule is not None else now
    assert isinstance(at, float)
    title = {} if send.message.title is None else {"title": send.message.title}
    return orjson.dumps(
        {
            "id": str(notification_id),
            "send_date": str(round(at * 1000)),
            "ttl": send.ttl_s,
            "display_time": send.message.display_time_s,
            "payload": title,
        }
    )


def _message(body: dict[str, Any], faults: Faults) -> Message:
    payload = body.get("payload")
    if not isinstance(payload, dict):
        faults.add("payload", "is missing")
        return Message()
    given = {name: value for name, value in payload.items() if value not in ("", None, [])}
    text = _text(given, "message", TEXT_CHARS_MAX, faults, at="payload/")
    if text is None and not faults:
        faults.add("payload/message", "is missing")
    return Message(
        body=text,
        title=_text(given, "title", TEXT_CHARS_MAX, faults, at="payload/"),
        icon=_url(given, "icon", faults, picture=True),
        image=_url(given, "image", faults, picture=True),
        url=_url(given, "redirect_url", faults),
        buttons=_buttons(given.get("buttons", []), faults),
        display_time_s=_number(body, "display_time", DISPLAY_TIME_S, TTL_MAX_S, faults),
    )


def _buttons(given: Any, faults: Faults) -> list[Button]:
    if not isinstance(given, list) or len(given) > BUTTONS_MAX:
        faults.add("payload/buttons", f"is not a list of 1 to {BUTTONS_MAX} buttons")
        return []
    made = []
    for number, each in enumerate(given, 1):
        one = each if isinstance(each, dict) else {}
        title = _text(one, "title", BUTTON_TITLE_CHARS_MAX, faults, at="payload/buttons/")
        url = _url(one, "url", faults, at="payload/buttons/")
        if not title or not url:
            faults.add("payload/buttons", "need `title` and `url`, each of them")
        else:
            made.append(Button(id=f"button-{number}", text=title, url=url))
    return made


def _schedule(given: Any, now: float, faults: Faults) -> Schedule | None:
    if given is None or given == "now":
        return None
    number = given if isinstance(given, int) and not isinstance(given, bool) else None
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) <= 15:
        number = int(given)
    if number is None or not 0 < number < 32_503_680_000_000:
        faults.add("send_date", "is neither `now` nor a time in milliseconds")
        return None
    if number / 1000 <= now:
        faults.add("send_date", "is past")
        return None
    return Schedule(strategy=Strategy.UTC, send_at=number / 1000, past_times=PastTimes.NEXT_DAY)


def _text(given: dict[str, Any], name: str, most: int, faults: Faults, at: str = "") -> str | None:
    value = given.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > most:
        faults.add(at + name, f"is not a text of at most {most} characters")
        return None
    return value


def _url(
    given: dict[str, Any], name: str, faults: Faults, *, picture: bool = False, at: str = "payload/"
) -> str | None:
    value = _text(given, name, TEXT_CHARS_MAX, faults, at=at)
    if value is None or (not picture and _ADDRESS.fullmatch(value)):
        return value
    try:
        parts = urlsplit(value)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and value.isprintable() and " " not in value
    except ValueError:
        fine = False
    if not fine:
        faults.add(at + name, "is not an http or https URL")
    elif picture and not _PICTURE.search(parts.path):
        faults.add(at + name, "does not end in .jpg, .jpeg or .png")
    return value


def _number(given: dict[str, Any], name: str, default: int, most: int, faults: Faults) -> int:
    value = given.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        faults.add(name, f"is not a number of 0 to {most}")
        return default
    return value


def _flag(given: dict[str, Any], name: str, faults: Faults) -> bool:
    if name not in given:
        return False
    value = given[name]
    flag = _FLAGS.get(str(value).lower()) if isinstance(value, bool | int | str) else None
    if flag is None:
        faults.add(name, "is neither true nor false")
    return flag or False
