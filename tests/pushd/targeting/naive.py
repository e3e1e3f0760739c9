"""The index as plain sets and dictionaries, evaluated row by row; and rows made from readable images."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from pushd.model.audience import (
    Aliases,
    And,
    AppVersion,
    Attribute,
    Audience,
    Countries,
    DeviceIds,
    Environments,
    InAppConsent,
    Kinds,
    Languages,
    Locales,
    Not,
    Or,
    OsVersion,
    Platforms,
    PreferredKind,
    PushEnabled,
    Seen,
    Tags,
    TimeZones,
    UserEmails,
    UserIds,
    UserKnown,
    UserNumbers,
)
from pushd.model.device import Environment, Kind, Profile, Route
from pushd.model.rows import DeviceFlag, DeviceRows, Postings, UserRows

ROUTES = {
    1: Route(1, Kind.APNS, Environment.PRODUCTION, "one"),
    2: Route(1, Kind.APNS, Environment.SANDBOX, "one"),
    3: Route(1, Kind.APNS_VOIP, Environment.PRODUCTION, "one"),
    4: Route(2, Kind.APNS, Environment.PRODUCTION, "two"),
    5: Route(2, Kind.FCM, Environment.PRODUCTION, "two"),
}
TAG_NAMES = {1: {1: "News", 2: "Sport", 3: "Straße"}, 2: {11: "News", 12: "sport", 13: "Extra"}}
"""By app: ids are unique over all apps."""
LIVE = int(DeviceFlag.HAS_TOKEN | DeviceFlag.PUSH_ENABLED)


@dataclass(frozen=True)
class DeviceImage:
    id: int
    revision: int = 1
    route: int = 1
    user: int = 0
    flags: int = LIVE
    token: bytes = b"t"
    tags: tuple[int, ...] = ()
    install: int = 0
    profile: int = 0
    first_seen: int = 0
    last_seen: int = 0
    alias: str = ""

    @property
    def app(self):
        return ROUTES[self.route].app_id


@dataclass(frozen=True)
class UserImage:
    id: int
    revision: int = 1
    app: int = 1
    external: str = "u"
    deleted: bool = False
    tags: tuple[int, ...] = ()
    email: str = ""
    attributes: tuple[tuple[str, object], ...] = ()
    quiet: int = 0


def postings(lists, names):
    flat = [tag for tags in lists for tag in tags]
    return Postings(
        offsets=np.cumsum([0, *map(len, lists)]).astype(np.int32),
        ids=np.array(flat, np.int32),
        names={tag: names[tag] for tag in set(flat)},
    )


NOW = 1_800_000_000
"""Some time on the 15th of January 2027."""
DAY = 86_400
PROFILES = {
    1: Profile(1, "ios", "17.4", "1.9", "pt_BR", "BR", "America/Sao_Paulo"),
    2: Profile(1, "ios", "17.4.1", "1.10", "pt-br", "PT", "Europe/Lisbon"),
    3: Profile(1, "android", "14", "1.10-beta.2", "pt", "", ""),
    4: Profile(1, "", "", "next", "de@euro", "de", "Europe/Berlin"),
    5: Profile(2, "ios", "17.4", "2.0", "en-US", "US", "America/New_York"),
    6: Profile(2, "web", "", "2", "", "us", "america/new_york"),
}


ALL_NAMES = {tag: name for names in TAG_NAMES.values() for tag, name in names.items()}


def device_rows(*images, routes=ROUTES, names=ALL_NAMES):
    return DeviceRows(
        ids=np.array([image.id for image in images], np.uint32),
        revisions=np.array([image.revision for image in images], np.int32),
        route_ids=np.array([image.route for image in images], np.int32),
        user_ids=np.array([image.user for image in images], np.uint32),
        flags=np.array([image.flags for image in images], np.uint8),
        tokens=np.array([image.token for image in images] or [b"x"], np.bytes_)[: len(images)],
        tags=postings([image.tags for image in images], names),
        installs=np.array([image.install for image in images], np.int32),
        profile_ids=np.array([image.profile for image in images], np.int32),
        first_seen=np.array([image.first_seen for image in images], np.uint32),
        last_seen=np.array([image.last_seen for image in images], np.uint32),
        aliases={row: image.alias for row, image in enumerate(images) if image.alias},
        routes={image.route: routes[image.route] for image in images},
        profiles={image.profile: PROFILES[image.profile] for image in images if image.profile},
    )


def user_rows(*images, names=ALL_NAMES):
    return UserRows(
        ids=np.array([image.id for image in images], np.uint32),
        revisions=np.array([image.revision for image in images], np.int32),
        app_ids=np.array([image.app for image in images], np.int32),
        external_ids=[image.external for image in images],
        deleted=np.array([image.deleted for image in images], np.bool_),
        tags=postings([image.tags for image in images], names),
        emails={row: image.email for row, image in enumerate(images) if image.email},
        attributes={
            row: {name: list(value) if isinstance(value, tuple) else value for name, value in image.attributes}
            for row, image in enumerate(images)
            if image.attributes
        },
        quiet=np.array([image.quiet for image in images], np.uint32),
    )


ORDER = ["next", "1.9", "1.10-beta.2", "1.10", "14", "17.4", "17.4.1"]
"""Versions, ascending; the first is none."""
COMPARE = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}


def is_so(image, leaf):  # noqa: PLR0911  # a case for each leaf
    """Whether a known device has what a leaf over devices asks for."""
    profile = PROFILES.get(image.profile, Profile(image.app, "", "", "", "", "", ""))
    locale = profile.locale.replace("_", "-").lower()
    match leaf:
        case Platforms(wanted):
            return profile.platform in wanted
        case Environments(wanted):
            return ROUTES[image.route].environment is wanted
        case Kinds(wanted):
            return ROUTES[image.route].kind in wanted
        case AppVersion(op, value):
            return compares(profile.app_version, op, value)
        case OsVersion(op, value):
            return compares(profile.os_version, op, value)
        case Locales(wanted):
            return bool(locale) and locale in [each.replace("_", "-").lower() for each in wanted]
        case Languages(wanted):
            parts = locale.replace("@", "-").split("-")
            heads = {"-".join(parts[:count]) for count in range(1, len(parts) + 1)}
            return bool(locale) and any(each.replace("_", "-").lower() in heads for each in wanted)
        case Countries(wanted):
            return profile.country != "" and profile.country.lower() in [each.lower() for each in wanted]
        case TimeZones(wanted):
            return profile.time_zone != "" and profile.time_zone.lower() in [each.lower() for each in wanted]
        case UserKnown(wanted):
            return (image.user != 0) is wanted
        case PushEnabled(wanted):
            return bool(image.flags & DeviceFlag.PUSH_ENABLED) is wanted
        case InAppConsent(wanted):
            return bool(image.flags & DeviceFlag.NO_IN_APP) is not wanted
        case Seen():
            return seen(image, leaf)
    return True


def compares(mine, op, wanted):
    """Versions of these tests; 2.0 is 2."""
    places = {"2.0": 4.5, "2": 4.5, **{version: place for place, version in enumerate(ORDER)}}
    return places.get(mine, 0) > 0 and COMPARE[op](places[mine], places[wanted])


def seen(image, leaf):
    time = image.first_seen if leaf.which == "first" else image.last_seen
    bounds = [
        leaf.since is None or time >= leaf.since,
        leaf.before is None or time < leaf.before,
        leaf.within_days is None or time >= NOW - leaf.within_days * DAY,
        leaf.older_than_days is None or time < NOW - leaf.older_than_days * DAY,
    ]
    return time > 0 and all(bounds)


def has(user, leaf):  # noqa: PLR0911  # a case for each operator
    """Whether a user has an attribute that compares."""
    values = dict(user.attributes)
    if leaf.name not in values or values[leaf.name] is None:
        return False
    mine = values[leaf.name]
    if leaf.op == "exists":
        return True
    if leaf.op == "in":
        return any(has(user, Attribute(name=leaf.name, op="eq", value=each)) for each in leaf.value)
    if leaf.op == "contains":
        return leaf.value in mine if isinstance(mine, str | tuple) else False
    if leaf.op == "starts_with":
        return isinstance(mine, str) and mine.startswith(leaf.value)
    if type_of(mine) != type_of(leaf.value):
        text = isinstance(mine, str) and type_of(leaf.value) == "text"
        return text and leaf.op != "eq" and COMPARE[leaf.op](mine, leaf.value)
    if type_of(mine) == "time":
        return COMPARE[leaf.op](datetime.fromisoformat(mine), datetime.fromisoformat(leaf.value))
    if type_of(mine) == "boolean":
        return leaf.op in ("eq", "ne") and COMPARE[leaf.op](mine, leaf.value)
    return type_of(mine) in ("number", "text") and COMPARE[leaf.op](mine, leaf.value)


def type_of(value):
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "time" if value[:5] in ("2026-", "2027-") and "T" in value else "text"
    return "other"


class Naive:
    """Newest image of each id wins."""

    def __init__(self):
        self.devices = {}
        self.users = {}
        self.removed = set()

    def apply_devices(self, *images):
        for image in images:
            if image.app not in self.removed and image.revision > self.revision(self.devices, image.id):
                self.devices[image.id] = image

    def apply_users(self, *images):
        for image in images:
            if image.app not in self.removed and image.revision > self.revision(self.users, image.id):
                self.users[image.id] = image

    def remove_app(self, app):
        self.removed.add(app)
        for key, image in self.devices.items():
            if image.app == app:
                self.devices[key] = replace(image, flags=int(DeviceFlag.DELETED))
        for key, image in self.users.items():
            if image.app == app:
                self.users[key] = replace(image, deleted=True)

    @staticmethod
    def revision(images, key):
        return images[key].revision if key in images else 0

    def known(self, app):
        return {d.id for d in self.devices.values() if d.app == app and not d.flags & DeviceFlag.DELETED}

    def known_users(self, app):
        return {u.id: u for u in self.users.values() if u.app == app and not u.deleted}

    def tagged(self, app, name, of):
        def carries(image):
            return any(ALL_NAMES[tag].casefold() == name.casefold() for tag in image.tags)

        own = {key for key in self.known(app) if carries(self.devices[key])}
        users = {key for key, user in self.known_users(app).items() if carries(user)}
        theirs = {key for key in self.known(app) if self.devices[key].user in users}
        return own | theirs if of == "either" else own if of == "device" else theirs

    def owned(self, app, users):
        return {key for key in self.known(app) if self.devices[key].user in users}

    def match(self, app, audience: Audience):
        match audience:
            case And(of):
                return set.intersection(*(self.match(app, child) for child in of))
            case Or(of):
                return set().union(*(self.match(app, child) for child in of))
            case Not(of):
                return self.known(app) - self.match(app, of)
            case Tags():
                return self.match_tags(app, audience)
            case PreferredKind(of, kinds):
                return self.preferred(self.match(app, of), kinds)
        return self.known(app) & self.match_ids(app, audience)

    def match_ids(self, app, leaf):  # noqa: PLR0911  # a case for each leaf
        match leaf:
            case DeviceIds(ids):
                return set(ids)
            case UserNumbers(ids):
                return self.owned(app, set(ids) & set(self.known_users(app)))
            case UserIds(ids):
                return self.owned(app, {key for key, u in self.known_users(app).items() if u.external in ids})
            case UserEmails(emails):
                wanted = {email.lower() for email in emails}
                return self.owned(app, {key for key, u in self.known_users(app).items() if u.email.lower() in wanted})
            case Aliases(names):
                return {key for key in self.known(app) if self.devices[key].alias in names}
            case Attribute():
                return self.owned(app, {key for key, u in self.known_users(app).items() if has(u, leaf)})
        return {key for key in self.known(app) if is_so(self.devices[key], leaf)}

    def preferred(self, matched, kinds):
        owners = {}
        for key in matched:
            image = self.devices[key]
            if image.flags & 7 == LIVE:
                owner = ("user", image.user) if image.user else ("install", image.install or -key)
                owners.setdefault(owner, []).append(key)
        chosen = set()
        for devices in owners.values():
            for kind in kinds:
                if mine := [key for key in devices if ROUTES[self.devices[key].route].kind is kind]:
                    chosen.update(mine)
                    break
        return chosen

    def match_tags(self, app, leaf):
        found = self.known(app)
        if leaf.any:
            found = set().union(*(self.tagged(app, name, leaf.of) for name in leaf.any))
        for name in leaf.all:
            found = found & self.tagged(app, name, leaf.of)
        for name in leaf.exclude:
            found = found - self.tagged(app, name, leaf.of)
        return found

    def state(self, key, kinds):
        """Why a known device is skipped; empty when it is reachable."""
        image = self.devices[key]
        if ROUTES[image.route].kind not in kinds:
            return "other_kind"
        if image.flags & DeviceFlag.RETIRED:
            return "retired"
        if not image.flags & DeviceFlag.PUSH_ENABLED:
            return "push_disabled"
        return "" if image.flags & DeviceFlag.HAS_TOKEN else "no_token"

    def reach(self, app, audience, kinds):
        return {key for key in self.match(app, audience) if not self.state(key, kinds)}

    def skipped(self, app, audience, kinds):
        states = [state for key in self.match(app, audience) if (state := self.state(key, kinds))]
        return {state: states.count(state) for state in states}

    def missing(self, app, audience, kinds):
        """(group, id) of what is named outside `Not` and unknown, and of what is unsubscribed, in order."""
        unknown, unsubscribed = [], []
        for group, leaf in named_leaves(audience):
            names = leaf.emails if group == "emails" else leaf.names if group == "aliases" else leaf.ids
            once = {name.lower(): name for name in reversed(names)} if group == "emails" else dict.fromkeys(names)
            for name in [name for name in dict.fromkeys(names) if group != "emails" or name in once.values()]:
                single = type(leaf)([name])
                if group == "devices":
                    exists = name in self.known(app)
                elif group == "emails":
                    exists = name.lower() in {user.email.lower() for user in self.known_users(app).values()}
                elif group == "aliases":
                    exists = name in {self.devices[key].alias for key in self.known(app)}
                elif group == "users":
                    exists = name in {user.external for user in self.known_users(app).values()}
                else:
                    exists = name in self.known_users(app)
                if not exists:
                    unknown.append((group, name))
                elif not self.reach(app, single, kinds):
                    unsubscribed.append((group, name))
        return unknown, unsubscribed


def named_leaves(audience):
    match audience:
        case DeviceIds():
            yield "devices", audience
        case UserIds():
            yield "users", audience
        case UserNumbers():
            yield "user_numbers", audience
        case UserEmails():
            yield "emails", audience
        case Aliases():
            yield "aliases", audience
        case PreferredKind(of):
            yield from named_leaves(of)
        case And(of) | Or(of):
            # As the index does: what is excluded comes last, and is not reported.
            for child in of:
                if not isinstance(child, Not):
                    yield from named_leaves(child)
