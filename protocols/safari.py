"""Safari website pushes: the site's urlFormatString, and the arguments with which it says a link (S-03).

Safari opens what the format says once each `%@` is replaced, in order, by one of `url-args`; a push with more or fewer
of them it drops without a word. Source: Apple, "Configuring Safari Push Notifications".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard
from urllib.parse import urlsplit

PLACEHOLDER = "%@"
"""What a urlFormatString has where an argument goes."""
PLACEHOLDERS_MAX = 16
"""Of one format, so that their room in a payload is known before the site is."""
FORMAT_CHARS_MAX = 2048
ID_PREFIX = "web."
"""What website push ids begin with (S-02)."""


def check_format(text: str) -> str:
    """The urlFormatString; ValueError for one that Safari could not use."""
    if len(text) > FORMAT_CHARS_MAX:
        raise ValueError(f"must have at most {FORMAT_CHARS_MAX} characters")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("must be printable ASCII without spaces")
    if text.count(PLACEHOLDER) > PLACEHOLDERS_MAX:
        raise ValueError(f"must have at most {PLACEHOLDERS_MAX} placeholders")
    host_of(text)
    return text


def host_of(url_format: str) -> str:
    """The host that a format leads to, in lower case; ValueError where it is no http or https URL with a fixed one."""
    parts = urlsplit(url_format)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL")
    if "%" in parts.netloc or "@" in parts.netloc:
        raise ValueError("must have its host written out, without placeholder or user")
    return parts.hostname


def url_args(link: str, url_format: str) -> list[str] | None:
    """What the placeholders must be for the format to say this link; None where nothing makes it say that.

    Where several do, earlier placeholders get as little as can be.
    """
    first, *others = url_format.split(PLACEHOLDER)
    if not others:
        return [] if link == first else None
    if not link.startswith(first):
        return None
    *between, last = others
    at, arguments = len(first), []
    for piece in between:
        found = link.find(piece, at)
        if found < 0:
            return None
        arguments.append(link[at:found])
        at = found + len(piece)
    end = len(link) - len(last)
    if end < at or not link.endswith(last):
        return None
    return [*arguments, link[at:end]]


def fit(arguments: object, url_format: str) -> bool:
    """Whether these are `url-args` for this format: texts, as many as it has placeholders."""
    return are_args(arguments) and len(arguments) == url_format.count(PLACEHOLDER)


def are_args(arguments: object) -> TypeGuard[list[str]]:
    """Whether these may be `url-args` of some format: a list of texts."""
    return isinstance(arguments, list) and all(isinstance(each, str) for each in arguments)


def open_nothing(url_format: str) -> list[str]:
    """The arguments of a push without a link: as many as there must be, all empty."""
    return [""] * url_format.count(PLACEHOLDER)


def most_args(link: str | None) -> Sequence[str]:
    """Arguments that take as much room as any that a format can need for this link."""
    return [link or "", *[""] * (PLACEHOLDERS_MAX - 1)]
