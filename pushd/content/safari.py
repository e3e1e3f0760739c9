"""A Message as a Safari website push: title, body, action and url-args ("Configuring Safari Push Notifications")."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from protocols import apns, safari
from pushd.batch import Rendered
from pushd.content import life
from pushd.content.merge import merge
from pushd.content.size import encode, refuse_above
from pushd.errors import Fault
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
    _refuse_large(merged, message)
    collapse = life.collapse_id(send, notification_id)
    headers = [("apns-push-type", "alert"), ("apns-priority", str(apns.priority("alert", urgent=True)))]
    if message.url is not None:
        headers.append((LINK, message.url))
    return Rendered(
        payload=payload,
        headers=tuple(headers),
        collapse_id=None if collapse is None else apns.collapse_header(collapse),
        expires_at=life.expires_at(send, now),
    )


def _refuse_large(body: dict[str, Any], message: Message) -> None:
    """InvalidRequestError when the payload is over Apple's limit once the gateway has made its url-args (S-02)."""
    aps = body.get("aps")
    if isinstance(aps, dict) and not aps.get("url-args"):
        body = {**body, "aps": {**aps, "url-args": safari.most_args(message.url)}}
    refuse_above(apns.payload_limit("alert"), encode(body), message, platform="safari")


def faults(message: Message) -> Iterator[Fault]:
    """What an override would make of a push that Safari then drops without a word (S-03)."""
    at, override = "/message/overrides/safari", message.overrides.get("safari", {})
    if "aps" not in override:
        return
    aps = override["aps"]
    if not isinstance(aps, dict):
        yield Fault(f"{at}/aps", "is an object: a website push is nothing without it")
        return
    if "url-args" in aps and not safari.are_args(aps["url-args"]):
        yield Fault(f"{at}/aps/url-args", "is a list of texts")
    if "alert" not in aps:
        return
    alert = aps["alert"]
    if not isinstance(alert, dict):
        yield Fault(f"{at}/aps/alert", "is an object with title and body")
        return
    for name in ("title", "body"):
        if name in alert and not (isinstance(alert[name], str) and alert[name]):
            yield Fault(f"{at}/aps/alert/{name}", "is a text: Safari shows no push without it")
    if not isinstance(alert.get("action"), str | None):
        yield Fault(f"{at}/aps/alert/action", "is a text")


def faults_of_link(message: Message, url_formats: Collection[str]) -> Iterator[Fault]:
    """What none of the app's sites can open, as far as their formats are known (S-03)."""
    known = [each for each in url_formats if each]
    if not known:
        return
    given = message.overrides.get("safari", {}).get("aps", {}).get("url-args")
    if given:
        if not any(safari.fit(given, each) for each in known):
            counts = " or ".join(str(count) for count in sorted({each.count(safari.PLACEHOLDER) for each in known}))
            detail = f"has {len(given)} where the site's format takes {counts}: Safari would drop the push"
            yield Fault("/message/overrides/safari/aps/url-args", detail)
    elif message.url is not None and all(safari.url_args(message.url, each) is None for each in known):
        detail = f"Safari opens only what its site's format says, {' or '.join(known)}; overrides.safari can say more"
        yield Fault("/message/url", detail)
