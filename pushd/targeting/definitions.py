"""What an app has defined for its audiences by name: channels and segments, as they were last read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pushd.errors import Fault, InvalidRequestError
from pushd.model import audience as model

NESTED_MAX = 8
"""Segments within segments. Stored ones are checked for circles, but two may be changed at the same moment."""

Segments = Mapping[str, model.Audience]

NOBODY = model.Not(of=model.Broadcast())


class Definitions:
    """Of one app. Both are replaced as a whole, so what was read stays as it was."""

    __slots__ = ("channels", "segments")

    def __init__(self) -> None:
        self.channels: Mapping[str, int] = {}
        """The label of each channel by its uuid."""
        self.segments: Mapping[str, model.Audience] = {}
        """The audience of each segment by its uuid."""


NOTHING = Definitions()


def has_segments(audience: model.Audience) -> bool:
    """Whether a segment stands in the audience."""
    if isinstance(audience, model.Segment):
        return True
    return any(has_segments(child) for _, child in children(audience))


def expand(
    audience: model.Audience,
    segments: Mapping[str, model.Audience],
    *,
    missing: model.Audience = NOBODY,
    depth: int = 0,
) -> model.Audience:
    """The audience with each segment's in its place; `missing` stands where there is no such segment.

    InvalidRequestError where segments stand within segments too deep.
    """
    if isinstance(audience, model.Segment):
        if depth >= NESTED_MAX:
            raise InvalidRequestError(f"Segments are nested more than {NESTED_MAX} deep, or in a circle")
        stored = segments.get(audience.id)
        return missing if stored is None else expand(stored, segments, missing=missing, depth=depth + 1)
    if not has_segments(audience):
        return audience

    def within(child: model.Audience) -> model.Audience:
        return expand(child, segments, missing=missing, depth=depth)

    return rebuild(audience, within)


def stands_in(uuid: str, audience: model.Audience, segments: Segments, *, depth: int = 0) -> bool:
    """Whether the audience names a segment, at once or through other segments."""
    if isinstance(audience, model.Segment):
        stored = segments.get(audience.id)
        if audience.id == uuid or stored is None or depth >= NESTED_MAX:
            return audience.id == uuid
        return stands_in(uuid, stored, segments, depth=depth + 1)
    return any(stands_in(uuid, child, segments, depth=depth) for _, child in children(audience))


def children(node: model.Audience) -> list[tuple[str, model.Audience]]:
    """The audiences that a node is made of, each with its place in it; none of a leaf."""
    if isinstance(node, model.And | model.Or):
        return [(f"/of/{number}", child) for number, child in enumerate(node.of)]
    if isinstance(node, model.Not | model.PreferredKind):
        return [("/of", node.of)]
    return []


def rebuild(node: model.Audience, change: Callable[[model.Audience], model.Audience]) -> model.Audience:
    """The node with each of its children as `change` makes it."""
    if isinstance(node, model.And):
        return model.And(of=[change(child) for child in node.of])
    if isinstance(node, model.Or):
        return model.Or(of=[change(child) for child in node.of])
    if isinstance(node, model.Not):
        return model.Not(of=change(node.of))
    if isinstance(node, model.PreferredKind):
        return model.PreferredKind(of=change(node.of), kinds=node.kinds)
    return node


def unknown(audience: model.Audience, definitions: Definitions, pointer: str) -> Iterator[Fault]:
    """A fault for each channel and segment that the audience names and that the app does not have."""
    if isinstance(audience, model.Segment) and audience.id not in definitions.segments:
        yield Fault(f"{pointer}/id", "names no segment of the app")
    if isinstance(audience, model.Channels):
        for group in ("any", "all", "exclude"):
            for number, uuid in enumerate(getattr(audience, group)):
                if uuid not in definitions.channels:
                    yield Fault(f"{pointer}/{group}/{number}", "names no channel of the app")
    for place, child in children(audience):
        yield from unknown(child, definitions, pointer + place)
