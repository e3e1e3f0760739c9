"""Names and numbers of tags and routes, remembered: they are made once and never change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pushd.model.device import Environment, Kind, Profile, Route, Shape
from pushd.model.rows import DeviceRows, Postings
from pushd.store.database import Database
from pushd.store.fold import ENVIRONMENT_NUMBERS, PROFILE, Folded, Install

REMEMBERED_MAX = 500_000
"""Tags, and routes, kept in memory; past it all are forgotten and looked up again."""

KINDS = tuple(Kind)
ENVIRONMENTS = tuple(ENVIRONMENT_NUMBERS)

LABEL_TAG = 0
"""The kind of labels that are tags; the others are channels."""

_KNOWN_TAGS = "SELECT folded FROM labels WHERE app_id = $1 AND folded = ANY ($2) AND kind = $3"

ProfileKey = tuple[int, str, str, str, str, str, str]
"""As `Profile`."""
RouteKey = tuple[int, int, int, str, str]
"""App, number of the kind, number of the environment, bundle, shape."""


class Names:
    """Tag ids by name and route ids by route, and back; what is missing is made or read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tag_ids: dict[tuple[int, str], int] = {}
        self._tag_names: dict[int, str] = {}
        self._route_ids: dict[RouteKey, int] = {}
        self._routes: dict[int, Route] = {}
        self._profile_ids: dict[ProfileKey, int] = {}
        self._profiles: dict[int, Profile] = {}

    async def tag_ids(self, wanted: Iterable[tuple[int, Sequence[str]]]) -> dict[tuple[int, str], int]:
        """Ids of tags by (app id, folded name), made where they are new; spellings that fold alike are one tag."""
        known: dict[tuple[int, str], int] = {}
        missing: dict[tuple[int, str], str] = {}
        for app_id, names in wanted:
            for name in names:
                key = (app_id, name.casefold())
                number = self._tag_ids.get(key)
                if number is None:
                    missing.setdefault(key, name)
                else:
                    known[key] = number
        if missing:
            rows = await self._database.fetch(
                "SELECT * FROM tags_of($1, $2, $3)",
                [app_id for app_id, _ in missing],
                list(missing.values()),
                [folded for _, folded in missing],
            )
            for row in rows:
                known[row["app_id"], row["folded"]] = row["id"]
                self._remember_tag(row["app_id"], row["folded"], row["id"], row["name"])
        return known

    async def route_ids(self, folded: Folded) -> list[int]:
        """Route ids of folded addresses, made where they are new; 0 where the bundle was never named."""
        keys = [
            None
            if address.bundle is None
            else (
                folded.installs[address.install - 1].app_id,
                address.kind,
                address.environment,
                address.bundle,
                address.shape or "",
            )
            for address in folded.addresses
        ]
        missing = {key for key in keys if key is not None and key not in self._route_ids}
        known: dict[RouteKey, int] = {}
        for key in sorted(missing):
            known[key] = await self._database.fetchval("SELECT route_of($1, $2, $3, $4, $5)", *key)
        for key, number in known.items():
            self._remember_route(key, number)
        return [0 if key is None else known.get(key) or self._route_ids[key] for key in keys]

    async def profile_ids(self, installs: Sequence[Install]) -> list[int]:
        """Ids of the profiles that these installs come with, made where they are new; 0 where nothing is named."""
        keys: list[ProfileKey | None] = [
            (
                each.app_id,
                each.platform or "",
                each.os_version or "",
                each.app_version or "",
                each.locale or "",
                each.country or "",
                each.time_zone or "",
            )
            if each.mask & PROFILE
            else None
            for each in installs
        ]
        known: dict[ProfileKey, int] = {}
        for key in sorted({key for key in keys if key is not None and key not in self._profile_ids}):
            known[key] = await self._database.fetchval("SELECT profile_of($1, $2, $3, $4, $5, $6, $7)", *key)
        for key, number in known.items():
            self._remember_profile(key, number)
        return [0 if key is None else known.get(key, 0) or self._profile_ids.get(key, 0) for key in keys]

    async def name_devices(self, rows: DeviceRows) -> DeviceRows:
        """The same rows with the names of their tags, and what is behind their route and profile ids."""
        await self.name_tags(rows.tags)
        await self._name_profiles(rows)
        wanted = np.unique(rows.route_ids).tolist()
        missing = [number for number in wanted if number not in self._routes]
        routes: dict[int, Route] = {}
        if missing:
            for row in await self._database.fetch("SELECT * FROM routes WHERE id = ANY($1)", missing):
                key = (row["app_id"], row["kind"], row["environment"], row["bundle"], row["shape"])
                routes[row["id"]] = self._remember_route(key, row["id"])
        rows.routes = {number: routes.get(number) or self._routes[number] for number in wanted}
        return rows

    async def _name_profiles(self, rows: DeviceRows) -> None:
        wanted = [number for number in np.unique(rows.profile_ids).tolist() if number]
        missing = [number for number in wanted if number not in self._profiles]
        profiles: dict[int, Profile] = {}
        if missing:
            for row in await self._database.fetch(
                "SELECT app_id, platform, os_version, app_version, locale, country, time_zone, id FROM profiles "
                "WHERE id = ANY($1)",
                missing,
            ):
                *key, number = row
                profiles[number] = self._remember_profile(tuple(key), number)
        rows.profiles = {number: profiles.get(number) or self._profiles[number] for number in wanted}

    async def name_tags(self, tags: Postings) -> None:
        """Fills in the names of every tag id of the postings."""
        tags.names = await self.tag_names(tags.ids)

    async def tag_names(self, ids: NDArray[np.int32] | Sequence[int]) -> dict[int, str]:
        """The names of tags by id."""
        wanted = np.unique(ids).tolist() if len(ids) else []
        missing = [number for number in wanted if number not in self._tag_names]
        names: dict[int, str] = {}
        if missing:
            for row in await self._database.fetch(
                "SELECT id, app_id, kind, name, folded FROM labels WHERE id = ANY($1)", missing
            ):
                name = row["name"] if row["kind"] == LABEL_TAG else channel_label(row["id"])
                names[row["id"]] = name
                self._remember_tag(row["app_id"], row["folded"], row["id"], name)
        return {number: names.get(number) or self._tag_names[number] for number in wanted}

    async def known_tags(self, app_id: int, folded: Sequence[str]) -> set[str]:
        """Those of these folded names that are tags of the app, carried by anyone now or not."""
        missing = [name for name in folded if (app_id, name) not in self._tag_ids]
        rows = await self._database.fetch(_KNOWN_TAGS, app_id, missing, LABEL_TAG) if missing else []
        return set(folded) - set(missing) | {row["folded"] for row in rows}

    def _remember_tag(self, app_id: int, folded: str, number: int, name: str) -> None:
        if len(self._tag_names) >= REMEMBERED_MAX:
            self._tag_names.clear()
            self._tag_ids.clear()
        self._tag_names[number] = name
        self._tag_ids[app_id, folded] = number

    def _remember_route(self, key: RouteKey, number: int) -> Route:
        if len(self._routes) >= REMEMBERED_MAX:
            self._routes.clear()
            self._route_ids.clear()
        app_id, kind, environment, bundle, shape = key
        route = Route(app_id, KINDS[kind], ENVIRONMENTS[environment], bundle, Shape(shape))
        self._routes[number] = route
        self._route_ids[key] = number
        return route

    def _remember_profile(self, key: ProfileKey, number: int) -> Profile:
        if len(self._profiles) >= REMEMBERED_MAX:
            self._profiles.clear()
            self._profile_ids.clear()
        profile = self._profiles[number] = Profile(*key)
        self._profile_ids[key] = number
        return profile


def channel_label(label_id: int) -> str:
    """What stands for a channel where tags have their name: no tag has a NUL in it."""
    return f"\0{label_id}"


def environment_of(number: int) -> Environment:
    """The environment that a stored number means."""
    return ENVIRONMENTS[number]
