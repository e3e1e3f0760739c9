"""The texts of a message or of any JSON, each with where it stands, and the same with other texts in their places."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from pushd.content.liquid import has_marks

T = TypeVar("T")
LINKS = frozenset({"url", "icon", "image", "picture"})
"""Fields of messages that are links."""
_UNFIT = re.compile(r"[\x00-\x20\x7f]")


class Place(NamedTuple):
    """Where a text stands."""

    pointer: str
    """RFC 6901."""
    is_link: bool = False
    is_free: bool = False
    """Within free-form JSON: platforms take it as it is, whatever it says."""


def texts(value: Any, pointer: str = "") -> Iterator[tuple[Place, str]]:
    """Every text that has something of Liquid, with where it stands; keys of objects are none."""
    for place, text in _walk(value, Place(pointer)):
        if has_marks(text):
            yield place, text


def replaced(
    value: T, change: Callable[[Place, str], str], *, pointer: str = "", wanted: Callable[[str], bool] = has_marks
) -> T:
    """The value with every text changed that has something of Liquid; what has none is shared with it.

    Links stay links: blanks and control characters of theirs are percent-encoded, but not where texts are chosen by
    another rule.
    """

    def one(place: Place, text: str) -> str:
        if not wanted(text):
            return text
        new = change(place, text)
        return link(new) if place.is_link and wanted is has_marks else new

    found: T = _replace(value, one, Place(pointer))
    return found


def link(text: str) -> str:
    """A text as it may stand in a link."""
    return _UNFIT.sub(lambda found: f"%{ord(found[0]):02X}", text)


def _walk(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if type(value) is str:
        yield place, value
        return
    for _, inner, each in _members(value, place):
        yield from _walk(each, inner)


def _members(value: Any, place: Place) -> Iterator[tuple[Any, Place, Any]]:
    """The members of a value that may hold texts, each with its name or number; those of enumerations hold none."""
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            each = getattr(value, name)
            if each and (type(each) is str or isinstance(each, dict | list | Struct)):
                yield name, Place(f"{place.pointer}/{name}", name in LINKS), each
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key, Place(f"{place.pointer}/{key.replace('~', '~0').replace('/', '~1')}", is_free=True), each
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield at, Place(f"{place.pointer}/{at}", is_free=place.is_free), each


def _replace(value: Any, change: Callable[[Place, str], str], place: Place) -> Any:
    if type(value) is str:
        return change(place, value)
    changed = {}
    for name, inner, each in _members(value, place):
        new = _replace(each, change, inner)
        if new is not each:
            changed[name] = new
    if not changed:
        return value
    if isinstance(value, Struct):
        return msgspec.structs.replace(value, **changed)
    if isinstance(value, dict):
        return {**value, **changed}
    return [changed.get(at, each) for at, each in enumerate(value)]
