"""Whom a message of Kumulos's is for, and which of those named it cannot reach, in the vendor's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pushd.dialects.kumulos.fields import Fields, as_number
from pushd.model.audience import And, Audience, Broadcast, Channels, InGeofences, Installs, Not, Or, Segment, UserIds
from pushd.model.device import ID_MAX

NAMES_MAX = 100_000
CHANNELS_MAX = 1_000
_ERRORS = {
    ("unknown", "installs"): "unknownInstallIds",
    ("unsubscribed", "installs"): "unsubscribedInstallIds",
    ("unknown", "users"): "unknownUserIds",
    ("unsubscribed", "users"): "unsubscribedUserIds",
}
_GROUPS = {
    "broadcast": 0,
    **dict.fromkeys(("installIds", "userIds"), 1),
    **dict.fromkeys(("segmentUuid", "channelUuids", "geofenceIds", "geofenceTags", "geofenceBroadcast"), 2),
}
"""Fields of one group go together, and no others."""
_SAID = frozenset((*_GROUPS, "excludeInstallIds"))


@dataclass(frozen=True, slots=True)
class Target:
    """An audience, and how it was said."""

    audience: Audience
    said: Mapping[str, Any]
    """What the answer repeats as filters; user ids may be numbers there."""


def of(given: Fields) -> Target:
    """The target that the fields of an object name; its faults are noted there."""
    named = [name for name in given.given if name in _GROUPS and _says(given, name)]
    if len(named) > 1:
        named = [name for name in _GROUPS if name in named]
    others = [name for name in named if _GROUPS[name] != _GROUPS[named[0]]]
    if others:
        given.bad(others[0], f"cannot stand beside {named[0]}")
    elif not named:
        given.bad("broadcast", "is required, or installIds, userIds, segmentUuid, channelUuids, or geofences")
    installs, users = given.names("installIds", NAMES_MAX), given.names("userIds", NAMES_MAX)
    people: list[Audience] = []
    if installs:
        people.append(Installs(installs))
    if users:
        people.append(UserIds(users))
    whole: list[Audience] = [Or(people)] if len(people) > 1 else people or _places(given) or [Broadcast()]
    if excluded := given.names("excludeInstallIds", NAMES_MAX):
        whole.append(Not(Installs(excluded)))
    said = {name: value for name, value in given.given.items() if name in _SAID and value is not None}
    return Target(whole[0] if len(whole) == 1 else And(whole), said)


def _says(given: Fields, name: str) -> bool:
    """Whether a field names anybody: `broadcast: false` does not."""
    return name in given and given.get(name) not in (False, 0, "false")


def _places(given: Fields) -> list[Audience]:
    """Segment, channels and geofences, of which an install has to be in all."""
    leaves: list[Audience] = []
    if segment := given.text("segmentUuid"):
        leaves.append(Segment(segment))
    if channels := given.names("channelUuids", CHANNELS_MAX):
        leaves.append(Channels(any=channels))
    ids = given.members("geofenceIds", CHANNELS_MAX, _geofence, "ids of geofences")
    tags = given.names("geofenceTags", CHANNELS_MAX)
    if given.truth("geofenceBroadcast"):
        leaves.append(InGeofences(any=True))
    elif ids or tags:
        leaves.append(InGeofences(ids=ids, tags=tags))
    given.truth("broadcast")
    return leaves


def _geofence(value: Any) -> int | None:
    number = as_number(value)
    return number if number is not None and 0 < number <= ID_MAX else None


def errors(missing: Mapping[str, Any] | None, whom: Target) -> dict[str, Any] | None:
    """Whom a message does not reach, of those that it named, each as he was named; None: nobody is missing.

    Installs that are only excluded are missed by nobody.
    """
    if not missing:
        return None
    told: dict[str, Any] = {}
    for (why, group), name in _ERRORS.items():
        found = (missing.get(why) or {}).get(group, ())
        if not found:
            continue
        given = whom.said.get("installIds" if group == "installs" else "userIds", ())
        spelt = dict(zip(map(str, given), given, strict=True))
        if asked := [spelt[each] for each in found if each in spelt]:
            told[name] = asked
    return told or None
