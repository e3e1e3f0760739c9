"""The index as plain sets and dictionaries, evaluated row by row; and rows made from readable images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pushd.model.audience import (
    And,
    Audience,
    DeviceIds,
    Not,
    Or,
    Tags,
    UserIds,
    UserNumbers,
)
from pushd.model.device import Environment, Kind, Route
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


def postings(lists, names):
    flat = [tag for tags in lists for tag in tags]
    return Postings(
        offsets=np.cumsum([0, *map(len, lists)]).astype(np.int32),
        ids=np.array(flat, np.int32),
        names={tag: names[tag] for tag in set(flat)},
    )


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
        routes={image.route: routes[image.route] for image in images},
    )


def user_rows(*images, names=ALL_NAMES):
    return UserRows(
        ids=np.array([image.id for image in images], np.uint32),
        revisions=np.array([image.revision for image in images], np.int32),
        app_ids=np.array([image.app for image in images], np.int32),
        external_ids=[image.external for image in images],
        deleted=np.array([image.deleted for image in images], np.bool_),
        tags=postings([image.tags for image in images], names),
    )


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
        return self.known(app) & self.match_ids(app, audience)

    def match_ids(self, app, leaf):
        match leaf:
            case DeviceIds(ids):
                return set(ids)
            case UserNumbers(ids):
                return self.owned(app, set(ids) & set(self.known_users(app)))
            case UserIds(ids):
                return self.owned(app, {key for key, u in self.known_users(app).items() if u.external in ids})
        return set(self.devices)

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
            for name in dict.fromkeys(leaf.ids):
                single = type(leaf)([name])
                if group == "devices":
                    exists = name in self.known(app)
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
        case And(of) | Or(of):
            # As the index does: what is excluded comes last, and is not reported.
            for child in of:
                if not isinstance(child, Not):
                    yield from named_leaves(child)
