"""What the API promises of installs, users and audiences, in plain Python: no table, no bitmap, no column."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pushd.model import audience as model
from pushd.model.audience import Audience
from pushd.model.device import Environment, Kind

HOUR, DAY = 3_600, 86_400
COMPARE = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}
ORDER = ["9", "1.9", "1.10-beta.1", "1.10-beta.2", "1.10", "1.10.1", "2.0", "14", "17.4"]
"""Versions of these tests, ascending but for the first, which has a place of its own."""
PLACE_IN_ORDER = {version: place for place, version in enumerate(ORDER)} | {"9": 6.5, "2": 6, "v1.9": 1}
PLACES = [(48.8584, 2.2945), (45.764, 4.8357), (48.8049, 2.1204), (51.5, -0.12), (0.0, 0.0), (48.95, 2.45)]
"""Paris, Lyon, Versailles, London, none, and Roissy, which lies in the hole."""


def _circle(place, radius):
    geometry = {"type": "Point", "coordinates": [place[1], place[0]]}
    return {"type": "Feature", "properties": {"radius": radius}, "geometry": geometry}


def _box(west, south, east, north):
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def _area(kind, coordinates):
    properties = {"orderAdded": [0, 1, 2, 3]}
    return {"type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": coordinates}}


SHAPES = [
    (_circle(PLACES[0], 1_000), {0}),
    (_circle(PLACES[0], 20_000), {0, 2, 5}),
    (_circle(PLACES[0], 500_000), {0, 1, 2, 3, 5}),
    (_area("Polygon", [_box(-1, 45, 6, 52), _box(2, 48.5, 2.5, 49)]), {1, 3}),
    (_area("MultiPolygon", [[_box(-1, -1, 1, 1)], [_box(4, 45, 5, 46)]]), {1, 4}),
]
"""Bounds, and the places in them, by a look at the map."""


@dataclass(eq=False)
class Address:
    id: int
    kind: Kind
    environment: Environment
    install: Install
    token: str | None
    last_seen: int
    retired: bool = False


@dataclass(eq=False)
class Install:
    name: str
    first_seen: int
    user: str | None = None
    tags: list[str] = field(default_factory=list)
    channels: set[str] = field(default_factory=set)
    profile: dict[str, str] = field(default_factory=dict)
    alias: str | None = None
    push_enabled: bool = True
    in_app_consent: bool = True
    place: int | None = None
    addresses: dict[Kind, Address] = field(default_factory=dict)


@dataclass(eq=False)
class User:
    email: str | None = None
    tags: list[str] = field(default_factory=list)
    channels: set[str] = field(default_factory=set)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class FenceState:
    shape: int
    enabled: bool
    tags: list[str]


@dataclass(eq=False)
class Sent:
    targets: set[int]
    codes: dict[int, int] = field(default_factory=dict)
    events: list[tuple[Install, str, str | None]] = field(default_factory=list)


def folded(names):
    return {name.casefold() for name in names}


class Naive:
    """One app."""

    def __init__(self) -> None:
        self.installs: dict[str, Install] = {}
        self.users: dict[str, User] = {}
        self.numbers: dict[str, int] = {}
        """Of users; set from outside."""
        self.channels: set[str] = set()
        self.fences: dict[int, FenceState] = {}
        self.segments: dict[str, Audience] = {}
        self.sent: dict[int, Sent] = {}
        self.opened: set[tuple[int, int]] = set()
        """(day, device) where an install opened something: the devices that it had then."""
        self.now = 0.0

    @property
    def addresses(self) -> dict[int, Address]:
        return {each.id: each for install in self.installs.values() for each in install.addresses.values()}

    # What happens.

    def register(self, number, name, kind, environment, token, fields):
        now = int(self.now)
        install = self.installs.setdefault(name, Install(name, now))
        self.change(install, fields)
        mine = install.addresses.get(kind)
        if token is not None:
            for other in self.addresses.values():
                if other is not mine and (other.kind, other.environment, other.token) == (kind, environment, token):
                    other.token, other.retired = None, False
        if mine is None:
            install.addresses[kind] = Address(number, kind, environment, install, token, now)
        elif token is not None:
            mine.token, mine.environment, mine.retired = token, environment, False
        elif mine.token is None:
            mine.environment = environment

    def change(self, install, fields):
        for name, value in fields.items():
            if name == "user_id":
                install.user = value
                if value is not None:
                    self.users.setdefault(value, User())
            elif name == "tags":
                install.tags = value
            elif name in ("alias", "push_enabled", "in_app_consent"):
                setattr(install, name, value)
            else:
                install.profile[name] = value or ""
        for each in install.addresses.values():
            if int(self.now) - each.last_seen >= HOUR:
                each.last_seen = int(self.now)

    def delete(self, number):
        install = self.addresses[number].install
        install.addresses = {kind: each for kind, each in install.addresses.items() if each.id != number}
        if not install.addresses:
            del self.installs[install.name]

    def put_user(self, name, fields):
        user = self.users.setdefault(name, User())
        for key, value in fields.items():
            setattr(user, key, value)

    def delete_user(self, name):
        self.users.pop(name, None)
        for install in self.installs.values():
            if install.user == name:
                install.user = None

    def delete_channel(self, uuid):
        self.channels.discard(uuid)
        for each in (*self.installs.values(), *self.users.values()):
            each.channels.discard(uuid)

    def report(self, number, name, event, button):
        install = self.installs[name]
        self.sent[number].events.append((install, event, button))
        if event in ("opened", "clicked"):
            self.opened |= {(int(self.now // DAY), each.id) for each in install.addresses.values()}

    # Who is meant.

    def reachable(self, each):
        return each.token is not None and not each.retired and each.install.push_enabled

    def reach(self, audience, kinds):
        found = self.match(audience)
        return {number for number, each in self.addresses.items() if number in found and each.kind in kinds
                and self.reachable(each)}  # fmt: skip

    def match(self, node: Audience) -> set[int]:  # noqa: PLR0911  # a case for each node
        everyone = self.addresses
        match node:
            case model.And(of):
                return functools.reduce(operator.and_, map(self.match, of))
            case model.Or(of):
                return functools.reduce(operator.or_, map(self.match, of))
            case model.Not(of):
                return set(everyone) - self.match(of)
            case model.PreferredKind(of, kinds):
                return self.preferred(self.match(of), kinds)
            case model.Segment(uuid):
                return self.match(self.segments[uuid]) if uuid in self.segments else set()
            case model.Tags():
                return self.chosen(node, lambda name: self.tagged(name, node.of))
            case model.Channels():
                return self.chosen(node, self.subscribed)
            case model.TagsSegment():
                return self.fold(node)
            case model.Outcome():
                return self.outcome(node) & set(everyone)
        return {number for number, each in everyone.items() if self.holds(node, each)}

    def user(self, each):
        return self.users.get(each.install.user) if each.install.user is not None else None

    def tagged(self, name, of="either"):
        wanted, found = name.casefold(), set()
        for number, each in self.addresses.items():
            user = self.user(each)
            own, theirs = wanted in folded(each.install.tags), user is not None and wanted in folded(user.tags)
            if {"device": own, "user": theirs, "either": own or theirs}[of]:
                found.add(number)
        return found

    def subscribed(self, uuid):
        return {
            number
            for number, each in self.addresses.items()
            if uuid in each.install.channels or (self.user(each) is not None and uuid in self.user(each).channels)
        }

    def chosen(self, node, members):
        found = set(self.addresses)
        if node.any:
            found &= functools.reduce(operator.or_, map(members, node.any))
        for name in node.all:
            found &= members(name)
        for name in node.exclude:
            found -= members(name)
        return found

    def fold(self, node):
        found = None
        for step in node.elements:
            part = self.tagged(step.name)
            if step.association.endswith("NOT"):
                part = set(self.addresses) - part
            if found is not None:
                part = found & part if step.association.startswith("AND") else found | part
            found = part
        return found

    def preferred(self, matched, kinds):
        by_owner = {}
        for number in matched:
            each = self.addresses[number]
            if self.reachable(each):
                owner = ("user", each.install.user) if each.install.user is not None else ("install", each.install.name)
                by_owner.setdefault(owner, []).append(each)
        found = set()
        for theirs in by_owner.values():
            best = next((kind for kind in kinds if any(each.kind is kind for each in theirs)), None)
            found |= {each.id for each in theirs if each.kind is best}
        return found

    def outcome(self, node):
        sent = self.sent[node.notification_id]

        def reported(events, buttons=()):
            installs = {id(install) for install, event, button in sent.events if event in events
                        and (not buttons or button in buttons)}  # fmt: skip
            return {number for number, each in self.addresses.items() if id(each.install) in installs} & sent.targets

        opened = reported(("opened", "clicked"))
        names = {64: "Unregistered", 65: "BadTopic"}
        failed = {n for n, code in sent.codes.items() if code > 1 and (not node.reasons or names[code] in node.reasons)}
        return {
            "targeted": sent.targets,
            "accepted": {number for number, code in sent.codes.items() if code == 1},
            "failed": failed,
            "opened": opened,
            "not_opened": sent.targets - opened,
            "clicked": reported(("clicked",), node.buttons),
        }[node.is_]

    def holds(self, leaf, each):  # noqa: PLR0911  # a case for each leaf
        install, user = each.install, self.user(each)
        locale = install.profile.get("locale", "").replace("_", "-").lower()
        match leaf:
            case model.Broadcast():
                return True
            case model.DeviceIds(ids):
                return each.id in ids
            case model.UserIds(ids):
                return install.user in ids
            case model.UserNumbers(ids):
                return user is not None and self.numbers[install.user] in ids
            case model.UserEmails(emails):
                wanted = {email.lower() for email in emails}
                return user is not None and user.email is not None and user.email.lower() in wanted
            case model.Aliases(names):
                return install.alias in names
            case model.Installs(ids):
                return install.name in ids
            case model.Platforms(wanted):
                return install.profile.get("platform", "") in wanted
            case model.Environments(wanted):
                return each.environment is wanted
            case model.Kinds(wanted):
                return each.kind in wanted
            case model.AppVersion(op, value):
                return compares(install.profile.get("app_version"), op, value)
            case model.OsVersion(op, value):
                return compares(install.profile.get("os_version"), op, value)
            case model.Locales(wanted):
                return locale != "" and locale in [name.replace("_", "-").lower() for name in wanted]
            case model.Languages(wanted):
                names = [name.replace("_", "-").lower() for name in wanted]
                return locale != "" and any(locale == name or locale.startswith(name + "-") for name in names)
            case model.Countries(wanted):
                return install.profile.get("country", "-").lower() in [name.lower() for name in wanted]
            case model.TimeZones(wanted):
                return install.profile.get("time_zone", "-").lower() in [name.lower() for name in wanted]
            case model.Seen():
                return self.seen(leaf, install.first_seen if leaf.which == "first" else each.last_seen)
            case model.UserKnown(wanted):
                return (user is not None) is wanted
            case model.PushEnabled(wanted):
                return install.push_enabled is wanted
            case model.InAppConsent(wanted):
                return install.in_app_consent is wanted
            case model.Attribute():
                return user is not None and has(user.attributes, leaf)
            case model.Located(wanted):
                return (install.place is not None) is wanted
            case model.InGeofences():
                return any(install.place in SHAPES[fence.shape][1] for fence in self.meant(leaf))
            case model.Opened():
                first = int((self.now - leaf.within_days * DAY) // DAY)
                return any(day >= first for day, number in self.opened if number == each.id) is leaf.is_
        raise AssertionError(leaf)

    def meant(self, leaf):
        tags = folded(leaf.tags)
        for number, fence in self.fences.items():
            if fence.enabled and (leaf.any or number in leaf.ids or tags & folded(fence.tags)):
                yield fence

    def seen(self, leaf, time):
        now = int(self.now)
        return (
            (leaf.since is None or time >= leaf.since)
            and (leaf.before is None or time < leaf.before)
            and (leaf.within_days is None or time >= now - leaf.within_days * DAY)
            and (leaf.older_than_days is None or time < now - leaf.older_than_days * DAY)
        )


def compares(mine, op, wanted):
    return mine in PLACE_IN_ORDER and COMPARE[op](PLACE_IN_ORDER[mine], PLACE_IN_ORDER[wanted])


def has(attributes, leaf):  # a case for each operator
    mine = attributes.get(leaf.name)
    if mine is None or leaf.op == "exists":
        return mine is not None
    if leaf.op == "in":
        return any(has(attributes, model.Attribute(name=leaf.name, op="eq", value=each)) for each in leaf.value)
    if leaf.op == "contains":
        return isinstance(mine, str | list) and leaf.value in mine
    if leaf.op == "starts_with":
        return isinstance(mine, str) and mine.startswith(leaf.value)
    own, wanted = typed(mine), typed(leaf.value)
    if wanted[0] == "text" and own[0] == "time":
        own = ("text", mine)
    if own[0] != wanted[0] or own[0] == "other" or (own[0] == "boolean" and leaf.op not in ("eq", "ne")):
        return False
    return COMPARE[leaf.op](own[1], wanted[1])


def typed(value):
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, int | float):
        return "number", value
    if isinstance(value, str):
        return ("time", datetime.fromisoformat(value)) if value[4:5] == "-" and "T" in value else ("text", value)
    return "other", None
