"""Targets as lists beside each other, under the rule that kinds of targets do not mix, made into one audience."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from pushd.errors import Fault, InvalidRequestError
from pushd.model.audience import (
    TARGETS_MAX,
    Aliases,
    And,
    Audience,
    Broadcast,
    Channels,
    InGeofences,
    Installs,
    Not,
    Or,
    Segment,
    TagElement,
    Tags,
    TagsSegment,
    UserIds,
)


class Targets(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What a request names, by how it names it; None: it does not."""

    broadcast: bool | None = None
    """Everyone; false is as good as absent."""
    install_ids: list[str] | None = None
    user_ids: list[str] | None = None
    segment_uuid: str | None = None
    channel_uuids: list[str] | None = None
    geofence_ids: list[int] | None = None
    geofence_tags: list[str] | None = None
    geofence_broadcast: bool | None = None
    """Everyone in any geofence; false is as good as absent."""
    exclude_install_ids: list[str] | None = None


_NAMES = {field.name: field.encode_name for field in msgspec.structs.fields(Targets)}
_GROUPS = (
    ("broadcast",),
    ("install_ids", "user_ids"),
    ("segment_uuid", "channel_uuids", "geofence_ids", "geofence_tags", "geofence_broadcast"),
)
"""Of these only one may be used; within one they go together."""
_NEEDED = "one of broadcast, {}, or {} is needed"


def mix(targets: Targets, pointer: str = "/target") -> Audience:
    """The audience that the targets mean.

    Everyone; or named installs and users together; or whoever is in the segment, subscribed to any of the channels and
    in any of the geofences, as far as these are named. Excluded installs are taken off of any of them.

    InvalidRequestError with a fault for each target that is empty, or that does not go with those before it.
    """
    faults = list(_faults(targets, pointer))
    if faults:
        raise InvalidRequestError("The targets are not valid", faults=faults)
    audience = _all_of(list(_parts(targets)))
    if targets.exclude_install_ids:
        return And(of=[audience, Not(of=Installs(ids=targets.exclude_install_ids))])
    return audience


def _faults(targets: Targets, pointer: str) -> Iterator[Fault]:
    for name, shown in _NAMES.items():
        value = getattr(targets, name)
        if isinstance(value, list | str) and not value and name != "exclude_install_ids":
            yield Fault(f"{pointer}/{shown}", "is empty: leave it out, or name something")
    used = [[name for name in group if getattr(targets, name) not in (None, False)] for group in _GROUPS]
    first, *others = [group for group in used if group] or [[]]
    if not first:
        named = [", ".join(_NAMES[name] for name in group) for group in _GROUPS[1:]]
        yield Fault(pointer, _NEEDED.format(*named))
    for name in (name for group in others for name in group):
        yield Fault(f"{pointer}/{_NAMES[name]}", f"does not mix with {_NAMES[first[0]]}")


def _parts(targets: Targets) -> Iterator[Audience]:
    """What has to hold of a device."""
    if targets.broadcast:
        yield Broadcast()
    named: list[Audience] = []
    if targets.install_ids:
        named.append(Installs(ids=targets.install_ids))
    if targets.user_ids:
        named.append(UserIds(ids=targets.user_ids))
    if named:
        yield _any_of(named)
    if targets.segment_uuid:
        yield Segment(id=targets.segment_uuid)
    if targets.channel_uuids:
        yield Channels(any=targets.channel_uuids)
    fences: list[Audience] = []
    if targets.geofence_broadcast:
        fences.append(InGeofences(any=True))
    if targets.geofence_ids:
        fences.append(InGeofences(ids=targets.geofence_ids))
    if targets.geofence_tags:
        fences.append(InGeofences(tags=targets.geofence_tags))
    if fences:
        yield _any_of(fences)


def _all_of(parts: Sequence[Audience]) -> Audience:
    return parts[0] if len(parts) == 1 else And(of=[*parts])


def _any_of(parts: Sequence[Audience]) -> Audience:
    return parts[0] if len(parts) == 1 else Or(of=[*parts])


class Chosen(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request names in one way of several; None: not in this one."""

    tokens: list[str] | None = None
    """Installs."""
    aliases: list[str] | None = None
    tags: list[str] | None = None
    """Any of them."""
    tags_segment: list[TagElement] | None = None
    segments: list[str] | None = None
    """At most one."""


TOKENS_MAX = 100
ELEMENTS_MAX = 256
_WAYS = tuple(Chosen.__struct_fields__)
_LIMITS = {"tokens": TOKENS_MAX, "tags_segment": ELEMENTS_MAX, "segments": 1}


def pick(chosen: Chosen, pointers: Mapping[str, str] | None = None) -> Audience:
    """The audience of the one way in which it was named; everyone where it was in none.

    `pointers` says where each way stands in the request; else they stand under /audience, and segments beside it.
    InvalidRequestError where there are two, or one that is empty or too long.
    """
    at = {name: f"/audience/{name}" for name in _WAYS} | {"segments": "/segments"} | dict(pointers or {})
    given = [name for name in _WAYS if getattr(chosen, name) is not None]
    faults = [Fault(at[name], f"does not mix with {given[0]}") for name in given[1:]]
    for name in given:
        count, most = len(getattr(chosen, name)), _LIMITS.get(name, TARGETS_MAX)
        if not 1 <= count <= most:
            faults.append(Fault(at[name], f"has {count} elements: it must have 1 to {most}"))
    if faults:
        raise InvalidRequestError("The audience is not valid", faults=faults)
    if chosen.tokens:
        return Installs(ids=chosen.tokens)
    if chosen.aliases:
        return Aliases(names=chosen.aliases)
    if chosen.tags:
        return Tags(any=chosen.tags)
    if chosen.tags_segment:
        return TagsSegment(elements=chosen.tags_segment)
    return Segment(id=chosen.segments[0]) if chosen.segments else Broadcast()
