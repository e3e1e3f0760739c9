"""A population for audiences, written into PostgreSQL by the server itself: users, installs, devices, places, fences.

One app. Its devices are one per install, 90 % `apns` and 10 % `apns_voip`, 4 % disabled, 3 % retired, 1 % without a
token; 80 % belong to one of half as many users.

- 2,000 tags and 500 channels, popular by Zipf's law (exponent 1): up to 3 tags a device, 1 for every fifth user; a
  channel for every second device and every tenth user;
- 2,000 profiles (platform, versions, locale, country, time zone), again by Zipf's law;
- e-mail addresses for a quarter of the users, attributes (`plan`, `age`) for half of them, aliases for a tenth of the
  installs;
- first seen within two years, last seen within 90 days;
- places for 60 % of the installs, in a region of 300 km; 200 fences there, from 100 m to 30 km, half of them polygons,
  each with one of ten tags;
- 50 segments.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
import orjson

from pushd.model.audience import (
    And,
    AppVersion,
    Audience,
    Countries,
    Languages,
    Not,
    Or,
    Platforms,
    Seen,
    Tags,
)
from pushd.model.device import Platform

SEED = 7
TAGS, CHANNELS, PROFILES, FENCES, SEGMENTS = 2_000, 500, 2_000, 200, 50
FIRST_ID = 65_536
TOKEN_BYTES = 64
TOWN = (50.0, 10.0)
LOCALES = ("en-US", "de-DE", "fr-FR", "pt-BR", "es-ES", "ja-JP", "en-GB", "it-IT", "nl-NL", "pl-PL")

_NAMES = """
INSERT INTO labels (app_id, kind, name, folded)
SELECT $1, 0, 'Tag-' || n, 'tag-' || n FROM generate_series(1, $2) n ORDER BY n;
"""
_CHANNELS = """
WITH made AS (
    INSERT INTO labels (app_id, kind, folded) SELECT $1, 1, 'channel-' || n FROM generate_series(1, $2) n ORDER BY n
    RETURNING id, folded
)
INSERT INTO channels (app_id, uuid, name, show_in_portal, label)
SELECT $1, folded, folded, false, id FROM made ORDER BY id
"""
_PROFILES = """
INSERT INTO profiles (app_id, platform, os_version, app_version, locale, country, time_zone)
SELECT DISTINCT $1::int, (ARRAY['ios', 'ios', 'android'])[1 + n % 3], (14 + n % 5) || '.' || n % 4,
    1 + n % 4 || '.' || (n / 7) % 12, ($3::text[])[1 + (n / 3) % 10], right(($3::text[])[1 + (n / 3) % 10], 2),
    (ARRAY['Europe/Berlin', 'America/New_York', 'Asia/Tokyo'])[1 + n % 3]
FROM generate_series(1, $2::int) n
"""
_ROUTES = """
INSERT INTO routes (app_id, kind, environment, bundle)
VALUES ($1, 0, 0, 'com.example.shop'), ($1, 1, 0, 'com.example.shop')
"""
_BLOCKS = """
INSERT INTO id_blocks (space, start, size, app_id, next)
SELECT $2, 65536 * b, 65536, $1, least(65536 * (b + 1), 65536 + $3::int)
FROM generate_series(1, 1 + ($3::int - 1) / 65536) b
"""
# floor(exp(random() * ln(n + 1))) is 1 to n with weights near 1/k.
_USERS = """
INSERT INTO users (id, app_id, external_id, email, tags, channels, attributes)
SELECT 65535 + n, $1, 'customer-' || lpad(n::text, 8, '0'),
    CASE WHEN n % 4 = 0 THEN 'customer' || n || '@example.com' END,
    CASE WHEN n % 5 = 0 THEN ARRAY[$3 + floor(exp(random() * ln(2001)))::int] END,
    CASE WHEN n % 10 = 0 THEN ARRAY[$4 + floor(exp(random() * ln(501)))::int] END,
    CASE WHEN n % 2 = 0 THEN '{"plan":"' || (ARRAY['free', 'pro', 'gold'])[floor(exp(random() * ln(4)))::int]
        || '","age":' || 18 + n % 60 || '}' END
FROM generate_series($5::int, $6::int) n WHERE n <= $2
"""
_INSTALLS = """
INSERT INTO installs (id, app_id, name, user_id, tags, channels, profile_id, alias, push_enabled, created_at,
    last_seen_at)
SELECT n, $1, 'install-' || n, CASE WHEN o < 0.8 THEN 65536 + floor(random() * $3)::int END,
    array_remove(ARRAY[a, nullif(b, a), nullif(nullif(c, a), b)], NULL),
    CASE WHEN n % 2 = 0 THEN ARRAY[$5 + floor(exp(random() * ln(501)))::int] END,
    ($6::int[])[least(cardinality($6::int[]), floor(exp(random() * ln(cardinality($6::int[]) + 1)))::int)],
    CASE WHEN n % 10 = 0 THEN 'alias-' || n / 20 END, random() >= 0.04,
    to_timestamp($7::int - floor(random() * 63072000)), to_timestamp($7::int - floor(random() * random() * 7776000))
FROM (
    SELECT n, random() AS o, $4 + floor(exp(random() * ln(2001)))::int AS a,
        $4 + floor(exp(random() * ln(2001)))::int AS b, $4 + floor(exp(random() * ln(2001)))::int AS c
    FROM generate_series($8::int, $9::int) n WHERE n <= $2
) n
"""
_DEVICES = """
INSERT INTO devices (id, app_id, install, kind, route_id, user_id, flags, token, labels, profile_id, alias, first_seen,
    last_seen, registered_at)
SELECT 65535 + i.id, i.app_id, i.id, k, ($2::int[])[1 + k], i.user_id,
    CASE WHEN r < 0.01 THEN 0 WHEN r < 0.04 THEN 5 ELSE 1 END + CASE WHEN i.push_enabled THEN 2 ELSE 0 END,
    CASE WHEN r >= 0.01 THEN encode(sha256(i.id::text::bytea), 'hex')::bytea END, i.tags || i.channels, i.profile_id,
    i.alias, extract(epoch FROM i.created_at)::int, extract(epoch FROM i.last_seen_at)::int, i.created_at
FROM (SELECT i.*, random() AS r, (random() < 0.1)::int AS k FROM installs i WHERE i.app_id = $1
    AND i.id >= $3::int AND i.id <= $4::int) i
"""
_LOCATIONS = """
INSERT INTO install_locations (install, app_id, revision, latitude, longitude, at)
SELECT n, $1, 1, (50 + 3 * (random() - 0.5)) * 1e7, (10 + 4 * (random() - 0.5)) * 1e7, now()
FROM generate_series($3::int, $4::int) n WHERE n % 10 < 6 AND n <= $2
"""
INDEXES = (
    "CREATE INDEX devices_labels ON devices USING gin (labels) WHERE deleted_at IS NULL",
    "CREATE INDEX devices_users ON devices (user_id) WHERE deleted_at IS NULL",
    "CREATE INDEX devices_profiles ON devices (profile_id) WHERE deleted_at IS NULL",
    "CREATE INDEX devices_last_seen ON devices (last_seen) WHERE deleted_at IS NULL",
    "CREATE INDEX users_tags ON users USING gin (tags) WHERE tags IS NOT NULL",
    "CREATE INDEX users_attributes ON users USING gin ((attributes::jsonb) jsonb_path_ops)",
    "CREATE INDEX places ON install_locations USING gist (point(longitude, latitude))",
)
"""What somebody who asks this database for audiences would make beside what pushd has."""
CHUNK = 500_000


async def fill(connection: Any, app_id: int, devices: int) -> None:
    """Writes so many devices, and what belongs to them, for an app that has none."""
    now, users = int(time.time()), devices // 2
    await connection.execute("SELECT setseed(0.5)")
    await connection.execute(_NAMES.strip(" ;\n"), app_id, TAGS)
    await connection.execute(_CHANNELS, app_id, CHANNELS)
    await connection.execute(_PROFILES, app_id, PROFILES, list(LOCALES))
    await connection.execute(_ROUTES, app_id)
    first_tag = await connection.fetchval("SELECT min(id) FROM labels WHERE app_id = $1 AND kind = 0", app_id)
    first_channel = await connection.fetchval("SELECT min(id) FROM labels WHERE app_id = $1 AND kind = 1", app_id)
    profiles = await connection.fetchval("SELECT array_agg(id ORDER BY id) FROM profiles WHERE app_id = $1", app_id)
    routes = await connection.fetchval("SELECT array_agg(id ORDER BY kind) FROM routes WHERE app_id = $1", app_id)
    for space, count in ((1, devices), (2, users)):
        await connection.execute(_BLOCKS, app_id, space, count)
    for start in range(1, devices + 1, CHUNK):
        span = (start, start + CHUNK - 1)
        await connection.execute(_USERS, app_id, users, first_tag - 1, first_channel - 1, *span)
        await connection.execute(
            _INSTALLS, app_id, devices, users, first_tag - 1, first_channel - 1, profiles, now, *span
        )
        await connection.execute(_DEVICES, app_id, routes, *span)
        await connection.execute(_LOCATIONS, app_id, devices, *span)
    await _define(connection, app_id)


async def index_for_sql(connection: Any) -> None:
    """Makes the indexes that SQL audiences need, and gathers statistics."""
    for statement in INDEXES:
        await connection.execute(statement, timeout=1_200)
    await connection.execute(
        "VACUUM ANALYZE users, installs, devices, install_locations, labels, profiles", timeout=1_200
    )


async def _define(connection: Any, app_id: int) -> None:
    random = np.random.default_rng(SEED)
    for number in range(1, FENCES + 1):
        await connection.execute(
            "INSERT INTO geofences (app_id, name, bounds, enabled, tags, created_at, updated_at)"
            " VALUES ($1, $2, $3, true, $4, now(), now())",
            *(app_id, f"fence {number}", bounds(random, number), [f"group-{number % 10}"]),
        )
    for number in range(1, SEGMENTS + 1):
        await connection.execute(
            "INSERT INTO segments (app_id, uuid, name, audience) VALUES ($1, $2, $2, $3)",
            *(app_id, f"segment-{number}", msgspec.json.encode(segment(number)).decode()),
        )


def bounds(random: np.random.Generator, number: int) -> str:
    """A fence in the region: a circle, or a polygon of 50 corners."""
    latitude, longitude = TOWN[0] + float(random.uniform(-1.4, 1.4)), TOWN[1] + float(random.uniform(-1.9, 1.9))
    radius = float(10 ** random.uniform(2, 4.5))
    if number % 2:
        geometry: dict[str, Any] = {"type": "Point", "coordinates": [longitude, latitude]}
        return orjson.dumps({"type": "Feature", "properties": {"radius": radius}, "geometry": geometry}).decode()
    angles = np.sort(random.uniform(0, 2 * np.pi, 50))
    degrees = radius / 1e5
    ring = np.c_[longitude + degrees * np.cos(angles), latitude + degrees * np.sin(angles)].tolist()
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    return orjson.dumps({"type": "Feature", "properties": {"orderAdded": []}, "geometry": geometry}).decode()


def segment(number: int) -> Audience:
    """The audience of a segment: filters of several sorts."""
    return And(
        [
            Platforms([Platform.IOS if number % 2 else Platform.ANDROID]),
            AppVersion("gte", f"2.{number % 12}"),
            Or([Languages([LOCALES[number % 10][:2]]), Countries([LOCALES[(number + 3) % 10][3:]])]),
            Seen(which="last", within_days=7 + number % 30),
            Not(Tags(any=[f"tag-{number}", f"tag-{number + 100}"])),
        ]
    )
