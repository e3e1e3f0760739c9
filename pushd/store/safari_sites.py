"""Websites for Safari in the store: their settings and icons, read where a push package is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pushd.model.safari import SiteSettings, StoredSite
from pushd.store.database import Database
from pushd.store.times import seconds

_SHOWN = """
website_push_id, settings, updated_at,
(SELECT array_agg(octet_length(each.icon) ORDER BY each.number)
    FROM unnest(icons) WITH ORDINALITY AS each (icon, number)) AS icon_bytes
"""
_PUT = f"""
INSERT INTO safari_sites (app_id, website_push_id, settings, icons) VALUES ($1, $2, $3, $4)
ON CONFLICT (app_id, website_push_id) DO UPDATE
    SET settings = excluded.settings, icons = excluded.icons, updated_at = clock_timestamp()
RETURNING {_SHOWN}
"""  # noqa: S608  # constants
_PUT_SETTINGS = f"""
UPDATE safari_sites SET settings = $3, updated_at = clock_timestamp() WHERE app_id = $1 AND website_push_id = $2
RETURNING {_SHOWN}
"""  # noqa: S608  # constants
_GET = f"SELECT {_SHOWN} FROM safari_sites WHERE app_id = $1 AND website_push_id = $2"  # noqa: S608  # constants
_LIST = f"SELECT {_SHOWN} FROM safari_sites WHERE app_id = $1 ORDER BY website_push_id"  # noqa: S608  # constants
_ICONS = "SELECT icons FROM safari_sites WHERE app_id = $1 AND website_push_id = $2"
_DELETE = "DELETE FROM safari_sites WHERE app_id = $1 AND website_push_id = $2 RETURNING 1"


class SafariSiteStore:
    """Websites of every app."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self, app_id: int, website_push_id: str, settings: SiteSettings, icons: Sequence[bytes] | None
    ) -> StoredSite | None:
        """The site as it is then, with the icons that it had where there are none; None where it had none."""
        place = (app_id, website_push_id, msgspec.json.encode(settings).decode())
        if icons is None:
            row = await self._database.fetchrow(_PUT_SETTINGS, *place)
        else:
            row = await self._database.fetchrow(_PUT, *place, list(icons))
        return None if row is None else _site(row)

    async def get(self, app_id: int, website_push_id: str) -> StoredSite | None:
        """The site; None where the app has no such one."""
        row = await self._database.fetchrow(_GET, app_id, website_push_id)
        return None if row is None else _site(row)

    async def icons(self, app_id: int, website_push_id: str) -> list[bytes]:
        """The site's icons in their order; none where the app has no such site."""
        icons: list[bytes] | None = await self._database.fetchval(_ICONS, app_id, website_push_id)
        return icons or []

    async def list(self, app_id: int) -> Sequence[StoredSite]:
        """The app's sites, by their ids."""
        return [_site(row) for row in await self._database.fetch(_LIST, app_id)]

    async def delete(self, app_id: int, website_push_id: str) -> bool:
        """Whether the app had such a site, which is gone now."""
        return await self._database.fetchval(_DELETE, app_id, website_push_id) is not None


def _site(row: Any) -> StoredSite:
    return StoredSite(
        website_push_id=row["website_push_id"],
        settings=msgspec.json.decode(row["settings"], type=SiteSettings),
        icon_bytes=list(row["icon_bytes"]),
        updated_at=seconds(row["updated_at"]),
    )
