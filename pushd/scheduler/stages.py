"""Stages of a notification that goes round the world: what is kept of each until it is due, and whom it goes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.model.notification import Send
from pushd.scheduler.releases import (
    NO_ZONE,
    AtHours,
    Everyone,
    InZones,
    Plan,
    Release,
    Selector,
    as_soon_as_preferred,
    plan,
    recurring,
)

Hours = tuple[NDArray[np.uint32], NDArray[np.int8]]
"""Devices, ascending, and the preferred hour of each."""


class Stage(Struct, frozen=True, omit_defaults=True):
    """What is kept of a release whose devices are looked for when it is due."""

    as_of: float
    """UNIX seconds of the acceptance: as of then times are past, or to come."""
    occurrence: float | None = None
    passed: bool = False
    """It is of those whose time was past: they are only counted."""
    last: bool = False
    """None follows: who is left by then, in a zone that nobody was in before, gets releases of his own."""

    def dump(self) -> bytes:
        """The stage as JSON."""
        return _encode(self)

    @classmethod
    def load(cls, text: bytes) -> Stage:
        """The stage that `dump` wrote."""
        return msgspec.json.decode(text, type=cls)


_encode = msgspec.json.Encoder().encode


def planned(send: Send, stage: Stage, names: Iterable[str], app_zone: str) -> Plan:
    """The releases of a send, or of the occurrence that a stage belongs to, for the zones that there are."""
    if send.intelligent_delivery:
        return as_soon_as_preferred(names=names, app_zone=app_zone, now=stage.as_of)
    if stage.occurrence is not None:
        assert send.schedule is not None, "only schedules have occurrences"
        return recurring(send.schedule, stage.occurrence, names=names, app_zone=app_zone, now=stage.as_of)
    return plan(send.schedule, names=names, app_zone=app_zone, now=stage.as_of)


def stages(found: Plan, stage: Stage) -> list[tuple[float, Stage]]:
    """The stages of a plan and when each is due: first of all those whose time has passed."""
    due = [
        (release.at, msgspec.structs.replace(stage, last=number == len(found.releases)))
        for number, release in enumerate(found.releases, 1)
    ]
    if found.passed is None:
        return due
    at = min(stage.as_of, due[0][0]) if due else stage.as_of
    return [(at, msgspec.structs.replace(stage, passed=True)), *due]


def reached(found: Plan, at: float) -> Selector:
    """Everybody whom a plan has come to by an instant, those with whom it began too late among them.

    A release goes to all of these, less whoever had it: so a device that moves east between two releases is not left
    out, and one that moves west has it once.
    """
    parts = [release.to for release in found.releases if release.at <= at]
    return union([*parts, found.passed] if found.passed is not None else parts)


def union(parts: Sequence[Selector]) -> Selector:
    """Whoever is in one of these."""
    if any(isinstance(part, Everyone) for part in parts):
        return Everyone()
    hours: dict[int, set[str]] = {}
    names: set[str] = set()
    for part in parts:
        if isinstance(part, InZones):
            names |= part.names
        elif isinstance(part, AtHours):
            for hour, zones in part.zones_by_hour:
                hours.setdefault(hour, set()).update(zones)
    if hours:
        return AtHours(tuple((hour, frozenset(hours[hour])) for hour in sorted(hours)))
    return InZones(frozenset(names))


@dataclass(slots=True)
class Crowd:
    """Devices by what releases ask of them: where they are, and when their users are."""

    devices: Devices
    zones: Mapping[str, Devices]
    """The devices of the app in each zone that is known, these and others."""
    hours: Hours | None = None

    def within(self, to: Selector) -> Devices:
        """Those of the devices whom a selector means: a set of its own."""
        if isinstance(to, Everyone):
            return self.devices.copy()
        if isinstance(to, InZones):
            return self._in_zones(self.devices, to.names)
        assert self.hours is not None, "who asks for hours brings them"
        ids, preferred = self.hours
        found = (
            self._in_zones(Devices.of(ids[preferred == hour]) & self.devices, names) for hour, names in to.zones_by_hour
        )
        return Devices.union(Devices(), *found)

    def _in_zones(self, devices: Devices, names: frozenset[str]) -> Devices:
        inside = [devices & self.zones[name] for name in names if name in self.zones]
        if NO_ZONE in names:
            inside.append(devices - Devices.union(Devices(), *self.zones.values()))
        return Devices.union(Devices(), *inside)

    def later(self, releases: Sequence[Release], at: float, had: Devices) -> list[tuple[float, Devices]]:
        """Who is left, by the releases after an instant that they are in."""
        left = self.devices - had
        found: list[tuple[float, Devices]] = []
        for release in releases:
            if release.at > at and left and (some := Crowd(left, self.zones, self.hours).within(release.to)):
                found.append((release.at, some))
                left = left - some
        return found
