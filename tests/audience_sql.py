"""Audiences as SQL over the tables, written apart from the index: what a model test and a benchmark compare it with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from pushd.model import audience as model
from pushd.model.audience import Audience
from pushd.model.device import Kind

DAY_S = 86_400
SIGNS = {"eq": "=", "ne": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
ENVIRONMENTS = {"production": 0, "sandbox": 1}
TIME = r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$"
# Numbers without zeros at the end, whether it is a release, and what a pre-release is called.
_VERSION = (
    r"ROW(string_to_array(regexp_replace(substring({0} from '^[vV]?([0-9]+(?:\.[0-9]+)*)'), '(\.0+)+$', ''), '.')"
    r"::int[], ({0} !~ '-')::int, coalesce(substring({0} from '-(.*)$'), '') COLLATE "
    '"C")'
)
# Metres from the centre of the earth, of places in units of 10^-7 degrees (WGS 84).
_CURVE = "(6378137.0 / sqrt(1 - 0.0066943799901413165 * power(sin(radians(l.latitude / 1e7)), 2)))"
_XYZ = (
    f"{_CURVE} * cos(radians(l.latitude / 1e7)) * cos(radians(l.longitude / 1e7))",
    f"{_CURVE} * cos(radians(l.latitude / 1e7)) * sin(radians(l.longitude / 1e7))",
    f"{_CURVE} * 0.9933056200098587 * sin(radians(l.latitude / 1e7))",
)


@dataclass(frozen=True)
class FenceRow:
    """A geofence as its row says."""

    id: int
    enabled: bool
    tags: frozenset[str]
    bounds: Mapping[str, Any]


@dataclass
class Catalog:
    """What an app's audiences may name, read from the tables."""

    app_id: int
    now: float
    tags: Mapping[str, int] = field(default_factory=dict)
    """Ids of labels by folded name."""
    channels: Mapping[str, int] = field(default_factory=dict)
    segments: Mapping[str, Audience] = field(default_factory=dict)
    fences: Sequence[FenceRow] = ()
    reasons: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    """(gateway, code) pairs by the name of a failure."""
    accepted: Sequence[tuple[int, int]] = ((0, 1),)

    @classmethod
    async def read(cls, connection: Any, app_id: int, now: float, **more: Any) -> Catalog:
        """What the app has now."""
        tags = await connection.fetch("SELECT folded, id FROM labels WHERE app_id = $1 AND kind = 0", app_id)
        channels = await connection.fetch(
            "SELECT uuid, label FROM channels WHERE app_id = $1 AND deleted_at IS NULL", app_id
        )
        segments = await connection.fetch("SELECT uuid, audience FROM segments WHERE app_id = $1", app_id)
        fences = await connection.fetch("SELECT id, enabled, tags, bounds FROM geofences WHERE app_id = $1", app_id)
        return cls(
            app_id,
            now,
            tags={row["folded"]: row["id"] for row in tags},
            channels={row["uuid"]: row["label"] for row in channels},
            segments={row["uuid"]: msgspec.json.decode(row["audience"], type=Audience) for row in segments},
            fences=[
                FenceRow(
                    row["id"],
                    row["enabled"],
                    frozenset(tag.casefold() for tag in row["tags"]),
                    orjson.loads(row["bounds"]),
                )
                for row in fences
            ],
            **more,
        )


def matching(catalog: Catalog, audience: Audience) -> tuple[str, list[Any]]:
    """A query, and its arguments, for the ids of all devices of an audience, reachable or not."""
    writer = _Writer(catalog)
    return (
        f"SELECT d.id FROM devices d WHERE {writer.everyone('d')} AND {writer.holds(audience, 'd')}",
        writer.arguments,
    )


def reached(catalog: Catalog, audience: Audience, kinds: Sequence[Kind]) -> tuple[str, list[Any]]:
    """A query, and its arguments, for the ids of those that a send to these kinds reaches."""
    writer = _Writer(catalog)
    query = (
        f"SELECT d.id FROM devices d WHERE {writer.everyone('d')} AND d.flags & 7 = 3"
        f" AND d.kind = ANY ({writer.given([kind.number for kind in kinds], 'smallint[]')})"
        f" AND {writer.holds(audience, 'd')}"
    )
    return query, writer.arguments


class _Writer:
    """Writes one query. A condition is true, false or null, and null is as good as false."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.arguments: list[Any] = []
        self._aliases = 0

    def given(self, value: Any, kind: str) -> str:
        """A parameter."""
        self.arguments.append(value)
        return f"${len(self.arguments)}::{kind}"

    def everyone(self, d: str) -> str:
        """That a row is a device of the app."""
        return f"{d}.app_id = {int(self._catalog.app_id)} AND {d}.deleted_at IS NULL"

    def holds(self, node: Audience, d: str) -> str:
        """That a device is in an audience."""
        return _CONDITIONS[type(node)](self, node, d)

    def alias(self) -> str:
        """A name of its own for a table."""
        self._aliases += 1
        return f"t{self._aliases}"

    @property
    def catalog(self) -> Catalog:
        """What the app has."""
        return self._catalog


def _no(condition: str) -> str:
    return f"({condition}) IS NOT TRUE"


def _all(conditions: Sequence[str]) -> str:
    return "(" + " AND ".join(conditions or ["true"]) + ")"


def _any(conditions: Sequence[str]) -> str:
    return "(" + " OR ".join(conditions or ["false"]) + ")"


def _users(w: _Writer, d: str, condition: str) -> str:
    """That the user of a device, `u`, is so."""
    app = int(w.catalog.app_id)
    return f"{d}.user_id IN (SELECT u.id FROM users u WHERE u.app_id = {app} AND u.deleted_at IS NULL AND {condition})"


def _profiles(w: _Writer, d: str, condition: str) -> str:
    """That the profile of a device, `p`, is so."""
    return f"{d}.profile_id IN (SELECT p.id FROM profiles p WHERE p.app_id = {int(w.catalog.app_id)} AND {condition})"


def _labelled(w: _Writer, d: str, labels: Sequence[int | None], of: str, column: str) -> str:
    """That a device carries one of these labels, itself or through its user."""
    known = ",".join(str(label) for label in labels if label is not None)
    if not known:
        return "false"
    t = w.alias()
    own = f"SELECT {t}.id FROM devices {t} WHERE {t}.labels && ARRAY[{known}] AND {w.everyone(t)}"
    theirs = (
        f"SELECT {t}.id FROM users u JOIN devices {t} ON {t}.user_id = u.id"
        f" WHERE u.{column} && ARRAY[{known}] AND u.deleted_at IS NULL AND {w.everyone(t)}"
    )
    wanted = {"device": own, "user": theirs, "either": f"{own} UNION ALL {theirs}"}[of]
    return f"{d}.id IN ({wanted})"


def _tags(w: _Writer, leaf: model.Tags, d: str) -> str:
    def carries(names: Sequence[str]) -> str:
        return _labelled(w, d, [w.catalog.tags.get(name.casefold()) for name in names], leaf.of, "tags")

    return _chosen(leaf, carries)


def _channels(w: _Writer, leaf: model.Channels, d: str) -> str:
    def carries(uuids: Sequence[str]) -> str:
        return _labelled(w, d, [w.catalog.channels.get(uuid) for uuid in uuids], "either", "channels")

    return _chosen(leaf, carries)


def _chosen(leaf: model.Tags | model.Channels, carries: Callable[[Sequence[str]], str]) -> str:
    return _all(
        ([carries(leaf.any)] if leaf.any else [])
        + [carries([name]) for name in leaf.all]
        + ([_no(carries(leaf.exclude))] if leaf.exclude else [])
    )


def _tags_segment(w: _Writer, leaf: model.TagsSegment, d: str) -> str:
    so_far = ""
    for element in leaf.elements:
        tagged = _labelled(w, d, [w.catalog.tags.get(element.name.casefold())], "either", "tags")
        part = _no(tagged) if element.association.endswith("NOT") else tagged
        word = "AND" if element.association.startswith("AND") else "OR"
        so_far = f"({so_far} {word} {part})" if so_far else f"({part})"
    return so_far


def _segment(w: _Writer, leaf: model.Segment, d: str) -> str:
    stored = w.catalog.segments.get(leaf.id)
    return "false" if stored is None else w.holds(stored, d)


def _installs(w: _Writer, leaf: model.Installs, d: str) -> str:
    app, names = int(w.catalog.app_id), w.given(leaf.ids, "text[]")
    return f"{d}.install IN (SELECT i.id FROM installs i WHERE i.app_id = {app} AND i.name = ANY ({names}))"


def _outcome(w: _Writer, leaf: model.Outcome, d: str) -> str:
    number = w.given(leaf.notification_id, "bigint")
    sent = f"{d}.id IN (SELECT unnest(n.devices) FROM notifications n WHERE n.id = {number})"

    def reported(events: str, more: str = "true") -> str:
        return (
            f"{d}.install IN (SELECT r.install FROM receipts r WHERE r.notification_id = {number}"
            f" AND r.event IN ({events}) AND {more})"
        )

    def ended(pairs: Sequence[tuple[int, int]]) -> str:
        codes = ", ".join(f"({gateway}, {code})" for gateway, code in pairs) or "(-1, -1)"
        return (
            f"{d}.id IN (SELECT o.device_id FROM outcomes o WHERE o.notification_id = {number}"
            f" AND (o.gateway, o.code) IN ({codes}))"
        )

    match leaf.is_:
        case "targeted":
            return sent
        case "accepted":
            return ended(w.catalog.accepted)
        case "failed":
            names = leaf.reasons or list(w.catalog.reasons)
            return ended([pair for name in names for pair in w.catalog.reasons[name]])
        case "clicked":
            more = f"r.button = ANY ({w.given(leaf.buttons, 'text[]')})" if leaf.buttons else "true"
            return _all([sent, reported("4", more)])
        case "opened":
            return _all([sent, reported("3, 4")])
    return _all([sent, _no(reported("3, 4"))])


def _opened(w: _Writer, leaf: model.Opened, d: str) -> str:
    first = math.floor((w.catalog.now - leaf.within_days * DAY_S) / DAY_S) * DAY_S
    number = "get_byte(o.devices, k) * 16777216 + get_byte(o.devices, k + 1) * 65536"
    opened = (
        f"{d}.id IN (SELECT {number} + get_byte(o.devices, k + 2) * 256 + get_byte(o.devices, k + 3)"
        f" FROM opened_day_deltas o CROSS JOIN generate_series(0, length(o.devices) - 4, 4) AS k"
        f" WHERE o.app_id = {int(w.catalog.app_id)} AND o.day >= to_timestamp({first}))"
    )
    return opened if leaf.is_ else _no(opened)


def _in_geofences(w: _Writer, leaf: model.InGeofences, d: str) -> str:
    tags = {tag.casefold() for tag in leaf.tags}
    conditions = [
        _inside(w, fence)
        for fence in w.catalog.fences
        if fence.enabled and (leaf.any or fence.id in leaf.ids or tags & fence.tags)
    ]
    if not conditions:
        return "false"
    app = int(w.catalog.app_id)
    return f"{d}.install IN (SELECT l.install FROM install_locations l WHERE l.app_id = {app} AND {_any(conditions)})"


def _inside(w: _Writer, fence: FenceRow) -> str:
    """That a place, `l`, is in a fence; polygons are plane ones, away from poles and the antimeridian."""
    geometry = fence.bounds["geometry"]
    if geometry["type"] == "Point":
        return _in_circle(*geometry["coordinates"][:2], fence.bounds["properties"]["radius"])
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    return _any([_all([_in_ring(rings[0]), *(_no(_in_ring(hole)) for hole in rings[1:])]) for rings in polygons])


def _in_circle(longitude: float, latitude: float, radius_m: float) -> str:
    phi, lam = math.radians(latitude), math.radians(longitude)
    curve = 6378137.0 / math.sqrt(1 - 0.0066943799901413165 * math.sin(phi) ** 2)
    centre = (
        curve * math.cos(phi) * math.cos(lam),
        curve * math.cos(phi) * math.sin(lam),
        curve * 0.9933056200098587 * math.sin(phi),
    )
    chord = 2 * 6371008.8 * math.sin(radius_m / (2 * 6371008.8))
    squares = " + ".join(f"power({axis} - ({own!r}), 2)" for axis, own in zip(_XYZ, centre, strict=True))
    up = radius_m / 110_000
    aside = up / max(math.cos(phi), 0.01)
    box = _box(longitude - aside, latitude - up, longitude + aside, latitude + up)
    near = f"{PLACE} <@ {box}" if abs(longitude) + aside < 179 and abs(latitude) + up < 85 else "true"
    return f"({near} AND {squares} <= {chord * chord!r})"


PLACE = "point(l.longitude, l.latitude)"
"""What an index over places is of."""


def _in_ring(ring: Sequence[Sequence[float]]) -> str:
    # In units of places, not degrees: the geometric operators take what is 10^-6 apart for the same.
    corners = ",".join(f"({longitude * 1e7!r},{latitude * 1e7!r})" for longitude, latitude, *_ in ring[:-1])
    west, east = min(each[0] for each in ring), max(each[0] for each in ring)
    south, north = min(each[1] for each in ring), max(each[1] for each in ring)
    return f"({PLACE} <@ {_box(west, south, east, north)} AND {PLACE} <@ polygon '({corners})')"


def _box(west: float, south: float, east: float, north: float) -> str:
    return f"box(point({east * 1e7!r}, {north * 1e7!r}), point({west * 1e7!r}, {south * 1e7!r}))"


def _located(w: _Writer, leaf: model.Located, d: str) -> str:
    there = f"{d}.install IN (SELECT l.install FROM install_locations l WHERE l.app_id = {int(w.catalog.app_id)})"
    return there if leaf.is_ else _no(there)


def _preferred_kind(w: _Writer, node: model.PreferredKind, d: str) -> str:
    t = w.alias()
    kinds = w.given([kind.number for kind in node.kinds], "int[]")
    owner = f"coalesce('u' || {t}.user_id, 'i' || {t}.install)"
    ranked = (
        f"SELECT {t}.id, rank() OVER (PARTITION BY {owner} ORDER BY array_position({kinds}, {t}.kind::int)) AS place"
        f" FROM devices {t} WHERE {w.everyone(t)} AND {t}.flags & 7 = 3 AND {t}.kind = ANY ({kinds})"
        f" AND {w.holds(node.of, t)}"
    )
    return f"{d}.id IN (SELECT ranked.id FROM ({ranked}) ranked WHERE ranked.place = 1)"


def _versions(column: str) -> Callable[[_Writer, Any, str], str]:
    def versions(w: _Writer, leaf: model.AppVersion | model.OsVersion, d: str) -> str:
        value = w.given(leaf.value, "text")
        mine, wanted = _VERSION.format(f"p.{column}"), _VERSION.format(value)
        there = f"p.{column} ~ '^[vV]?[0-9]'"
        return _profiles(w, d, f"{there} AND {mine} {SIGNS[leaf.op]} {wanted}")

    return versions


def _locale(text: str) -> str:
    return text.replace("_", "-").lower()


_LOCALE = "lower(replace(p.locale, '_', '-'))"


def _languages(w: _Writer, leaf: model.Languages, d: str) -> str:
    wanted = [w.given(_locale(each), "text") for each in leaf.any]
    speaks = [
        f"({_LOCALE} = {each} OR starts_with({_LOCALE}, {each} || '-') OR starts_with({_LOCALE}, {each} || '@'))"
        for each in wanted
    ]
    return _profiles(w, d, f"p.locale <> '' AND {_any(speaks)}")


def _one_of(column: str, fold: Callable[[str], str]) -> Callable[[_Writer, Any, str], str]:
    def one_of(w: _Writer, leaf: Any, d: str) -> str:
        return _profiles(w, d, f"{column} <> '' AND {column} = ANY ({w.given([fold(x) for x in leaf.any], 'text[]')})")

    return one_of


def _seen(w: _Writer, leaf: model.Seen, d: str) -> str:
    column, now = f"{d}.{leaf.which}_seen", int(w.catalog.now)
    conditions = [f"{column} > 0"]
    for bound, sign in (
        (leaf.since, ">="),
        (leaf.before, "<"),
        (leaf.within_days and now - leaf.within_days * DAY_S, ">="),
        (leaf.older_than_days and now - leaf.older_than_days * DAY_S, "<"),
    ):
        if bound is not None:
            conditions.append(f"{column} {sign} {int(bound)}")
    return _all(conditions)


def _environments(w: _Writer, leaf: model.Environments, d: str) -> str:
    app, number = int(w.catalog.app_id), ENVIRONMENTS[leaf.is_.value]
    return f"{d}.route_id IN (SELECT r.id FROM routes r WHERE r.app_id = {app} AND r.environment = {number})"


def _attribute(w: _Writer, leaf: model.Attribute, d: str) -> str:
    if leaf.op == "eq" and isinstance(leaf.value, str) and not _is_time(leaf.value):
        # What an index over documents helps with.
        wanted = orjson.dumps({leaf.name: leaf.value}).decode()
        return _users(w, d, f"u.attributes::jsonb @> {w.given(wanted, 'jsonb')}")
    value = f"(u.attributes::jsonb -> {w.given(leaf.name, 'text')})"
    return _users(w, d, _has(w, leaf.op, leaf.value, value))


def _has(w: _Writer, op: str, wanted: Any, value: str) -> str:  # noqa: PLR0911  # a case for each operator
    text, kind = f"(({value} #>> '{{}}') COLLATE \"C\")", f"jsonb_typeof({value})"
    if op == "exists":
        return f"{kind} <> 'null'"
    if op == "in":
        return _any([_has(w, "eq", each, value) for each in wanted])
    if op in ("contains", "starts_with"):
        given = w.given(wanted, "text")
        if op == "starts_with":
            return f"({kind} = 'string' AND starts_with({text}, {given}))"
        return f"CASE {kind} WHEN 'string' THEN position({given} in {text}) > 0 WHEN 'array' THEN {value} ? {given} END"
    if isinstance(wanted, bool):
        if op not in ("eq", "ne"):
            return f"({value} IS NULL AND false)"
        return f"CASE {kind} WHEN 'boolean' THEN {value}::bool {SIGNS[op]} {w.given(wanted, 'bool')} END"
    if not isinstance(wanted, str):
        return f"CASE {kind} WHEN 'number' THEN {value}::float8 {SIGNS[op]} {w.given(float(wanted), 'float8')} END"
    given = w.given(wanted, "text")
    if _is_time(wanted):
        return (
            f"CASE WHEN {kind} = 'string' AND {text} ~ '{TIME}'"
            f" THEN {text}::timestamptz {SIGNS[op]} {given}::timestamptz END"
        )
    return f"({kind} = 'string' AND {text} {SIGNS[op]} {given})"


def _is_time(text: str) -> bool:
    return len(text) >= 20 and text[4] == "-" and text[10] in "Tt "


_CONDITIONS: Mapping[type, Callable[[_Writer, Any, str], str]] = {
    model.Broadcast: lambda _, __, ___: "true",
    model.DeviceIds: lambda w, leaf, d: f"{d}.id = ANY ({w.given(leaf.ids, 'int[]')})",
    model.UserIds: lambda w, leaf, d: _users(w, d, f"u.external_id = ANY ({w.given(leaf.ids, 'text[]')})"),
    model.UserNumbers: lambda w, leaf, d: _users(w, d, f"u.id = ANY ({w.given(leaf.ids, 'int[]')})"),
    model.UserEmails: lambda w, leaf, d: _users(
        w, d, f"lower(u.email) = ANY ({w.given([each.lower() for each in leaf.emails], 'text[]')})"
    ),
    model.Aliases: lambda w, leaf, d: f"{d}.alias = ANY ({w.given(leaf.names, 'text[]')})",
    model.Tags: _tags,
    model.Channels: _channels,
    model.Segment: _segment,
    model.Installs: _installs,
    model.TagsSegment: _tags_segment,
    model.Outcome: _outcome,
    model.Opened: _opened,
    model.InGeofences: _in_geofences,
    model.Located: _located,
    model.Platforms: _one_of("p.platform", str),
    model.Environments: _environments,
    model.Kinds: lambda w, leaf, d: f"{d}.kind = ANY ({w.given([kind.number for kind in leaf.any], 'smallint[]')})",
    model.PreferredKind: _preferred_kind,
    model.AppVersion: _versions("app_version"),
    model.OsVersion: _versions("os_version"),
    model.Locales: _one_of(_LOCALE, _locale),
    model.Languages: _languages,
    model.Countries: _one_of("lower(p.country)", str.lower),
    model.TimeZones: _one_of("lower(p.time_zone)", str.lower),
    model.Seen: _seen,
    model.UserKnown: lambda _, leaf, d: f"{d}.user_id IS {'NOT ' if leaf.is_ else ''}NULL",
    model.PushEnabled: lambda _, leaf, d: f"{d}.flags & 2 {'<>' if leaf.is_ else '='} 0",
    model.InAppConsent: lambda _, leaf, d: f"{d}.flags & 16 {'=' if leaf.is_ else '<>'} 0",
    model.Attribute: _attribute,
    model.And: lambda w, node, d: _all([w.holds(each, d) for each in node.of]),
    model.Or: lambda w, node, d: _any([w.holds(each, d) for each in node.of]),
    model.Not: lambda w, node, d: _no(w.holds(node.of, d)),
}
