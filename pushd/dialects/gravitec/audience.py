"""Whom a push of Gravitec's is for: one segment, or one kind of names, or everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pushd.errors import Fault
from pushd.model.audience import Aliases, Audience, Broadcast, Installs, Segment, TagElement, Tags, TagsSegment

NAME_CHARS_MAX = 255
TAGS_MAX = 256
ASSOCIATIONS = ("AND", "AND_NOT", "OR", "OR_NOT")

_NAMES: dict[str, tuple[int, Callable[[list[str]], Audience]]] = {
    "tokens": (100, Installs),
    "aliases": (1_000, Aliases),
    "tags": (1_000, lambda names: Tags(any=names)),
}
"""How many of each may be named, and who they are."""


class Faults(list[Fault]):
    """What is wrong with a body."""

    def add(self, name: str, detail: str) -> None:
        """Notes a fault of a field."""
        self.append(Fault(f"/{name}", detail))


def audience_of(body: dict[str, Any], faults: Faults) -> Audience:
    """The audience of a body; everybody, and faults, where it names none that can be."""
    segments, audience = body.get("segments"), body.get("audience")
    if segments is not None and audience:
        faults.add("audience", "and segments exclude each other")
    elif segments is not None:
        return _segment(segments, faults)
    elif isinstance(audience, dict):
        return _named(audience, faults)
    elif audience is not None:
        faults.add("audience", "is not an object")
    return Broadcast()


def _segment(given: Any, faults: Faults) -> Audience:
    if isinstance(given, list) and len(given) == 1 and _is_name(given[0]):
        return Segment(given[0])
    faults.add("segments", "is not a list of one segment")
    return Broadcast()


def _named(audience: dict[str, Any], faults: Faults) -> Audience:
    kinds = [kind for kind in (*_NAMES, "tags_segment") if audience.get(kind) not in (None, [], "")]
    if len(kinds) > 1:
        faults.add("audience", f"may name only one of {', '.join(kinds)}")
    elif kinds == ["tags_segment"]:
        return _tags_segment(audience["tags_segment"], faults)
    elif kinds:
        most, leaf = _NAMES[kinds[0]]
        names = audience[kinds[0]]
        if isinstance(names, list) and len(names) <= most and all(_is_name(name) for name in names):
            return leaf(names)
        faults.add(f"audience/{kinds[0]}", f"is not a list of 1 to {most} texts of 1 to {NAME_CHARS_MAX} characters")
    return Broadcast()


def _tags_segment(given: Any, faults: Faults) -> Audience:
    elements = given if isinstance(given, list) and len(given) <= TAGS_MAX else []
    if not elements or not all(_is_element(each) for each in elements):
        words = ", ".join(ASSOCIATIONS)
        detail = f"is not a list of 1 to {TAGS_MAX} elements with a `name` and an `association` of {words}"
        faults.add("audience/tags_segment", detail)
        return Broadcast()
    if len({each["name"].casefold() for each in elements}) < len(elements):
        faults.add("audience/tags_segment", "names a tag twice")
    return TagsSegment([TagElement(each["association"], each["name"]) for each in elements])


def _is_element(given: Any) -> bool:
    return isinstance(given, dict) and _is_name(given.get("name")) and given.get("association") in ASSOCIATIONS


def _is_name(given: Any) -> bool:
    return isinstance(given, str) and 0 < len(given) <= NAME_CHARS_MAX
