"""Devices and users as plain rows, and an index of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pushd.bitset import Devices
from pushd.model.app import App, Settings
from pushd.model.audience import Broadcast
from pushd.model.device import Environment, Kind, Profile, Route
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.model.quiet import QuietHours, pack
from pushd.model.rows import DeviceFlag, DeviceRows, Postings, UserRows
from pushd.targeting.index import Index

LIVE = int(DeviceFlag.HAS_TOKEN | DeviceFlag.PUSH_ENABLED)


@dataclass(frozen=True)
class Someone:
    """A device, its zone and its user."""

    id: int
    zone: str = ""
    user: int = 0
    install: int = 0


def no_tags(count):
    return Postings(offsets=np.zeros(count + 1, np.int32), ids=np.zeros(0, np.int32), names={})


def user_rows(quiet: dict[int, QuietHours | None], *, revision=1, app_id=1, deleted=False):
    ids = np.array(sorted(quiet), np.uint32)
    return UserRows(
        ids=ids,
        revisions=np.full(len(ids), revision, np.int32),
        app_ids=np.full(len(ids), app_id, np.int32),
        external_ids=[f"user-{each}" for each in ids.tolist()],
        deleted=np.full(len(ids), deleted, np.bool_),
        tags=no_tags(len(ids)),
        quiet=np.array([pack(quiet[each]) for each in ids.tolist()], np.uint32),
    )


def device_rows(people: list[Someone], *, revision=1, app_id=1):
    zones = {zone: number for number, zone in enumerate(sorted({each.zone for each in people} - {""}), 1)}
    numbers = [zones.get(each.zone, 0) + (1_000 * revision if each.zone else 0) for each in people]
    return DeviceRows(
        ids=np.array([each.id for each in people], np.uint32),
        revisions=np.full(len(people), revision, np.int32),
        route_ids=np.full(len(people), app_id, np.int32),
        user_ids=np.array([each.user for each in people], np.uint32),
        flags=np.full(len(people), LIVE, np.uint8),
        tokens=np.array([f"{each.id:064x}".encode() for each in people], "S64"),
        tags=no_tags(len(people)),
        installs=np.array([each.install for each in people], np.int32),
        profile_ids=np.array(numbers, np.int32),
        routes={app_id: Route(app_id, Kind.APNS, Environment.PRODUCTION, "one")},
        profiles={
            number + 1_000 * revision: Profile(app_id, "", "", "", "", "", zone) for zone, number in zones.items()
        },
    )


def index_of(people: list[Someone], quiet: dict[int, QuietHours | None] | None = None):
    index = Index()
    users = {each.user: None for each in people if each.user} | (quiet or {})
    if users:
        index.apply_users(user_rows(users))
    index.apply_devices(device_rows(people))
    return index


def app_of(**settings):
    return App(id=1, name="one", settings=Settings(**settings), created_at=0.0)


def send_of(**fields):
    return Send(**{"audience": Broadcast(), "message": Message(title="hello")} | fields)


def everyone(people):
    return Devices([each.id for each in people])
