"""Brings the schema up to date: numbered SQL files, each applied once, with checksums, under an advisory lock."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from pushd.errors import ConfigError
from pushd.store.database import Database

log = structlog.get_logger(__name__)

DIRECTORY = Path(__file__).parent / "migrations"

_LOCK = "SELECT pg_advisory_xact_lock(7000, 0)"
"""Two daemons that start at once migrate one after the other."""
_LOCK_TIMEOUT_MS = 10_000
"""A migration waits no longer than this for a table: behind it everything else would wait too."""

_CREATE = """
CREATE TABLE IF NOT EXISTS migrations (
    number     int PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """A migration and when it was applied (UNIX seconds), or that it is not."""

    number: int
    name: str
    applied_at: float | None


def read_migrations(directory: Path = DIRECTORY) -> list[Migration]:
    """The migrations of a directory, in order."""
    found = []
    for path in sorted(directory.glob("[0-9]*.sql")):
        number, _, name = path.stem.partition("_")
        found.append(Migration(int(number), name, path.read_text(encoding="utf-8")))
    assert [each.number for each in found] == list(range(1, len(found) + 1)), "migrations are numbered without gaps"
    return found


async def migrate(database: Database, migrations: list[Migration] | None = None) -> list[Migration]:
    """The migrations that were missing and are applied now, each in a transaction of its own.

    ConfigError when an applied file was changed since, or when the database was written by a newer pushd.
    """
    wanted = read_migrations() if migrations is None else migrations
    applied: list[Migration] = []
    for migration in wanted:
        async with database.transaction() as connection:
            await connection.execute(_LOCK, timeout=database.config.bulk_timeout_s)
            await connection.execute(_CREATE)
            await _check(connection, wanted)
            if await connection.fetchval("SELECT 1 FROM migrations WHERE number = $1", migration.number):
                continue
            await connection.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")
            await connection.execute(migration.sql, timeout=database.config.bulk_timeout_s)
            await connection.execute(
                "INSERT INTO migrations (number, name, checksum) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
        applied.append(migration)
        log.info("migration_applied", number=migration.number, name=migration.name)
    return applied


async def status(database: Database) -> list[MigrationStatus]:
    """Every migration that this pushd knows, and when each was applied."""
    applied: dict[int, float] = {}
    if await database.fetchval("SELECT to_regclass('migrations')::text"):
        rows = await database.fetch("SELECT number, extract(epoch FROM applied_at)::float8 AS at FROM migrations")
        applied = {row["number"]: row["at"] for row in rows}
    return [MigrationStatus(each.number, each.name, applied.get(each.number)) for each in read_migrations()]


async def _check(connection: Any, known: list[Migration]) -> None:
    by_number = {each.number: each for each in known}
    for row in await connection.fetch("SELECT number, name, checksum FROM migrations ORDER BY number"):
        mine = by_number.get(row["number"])
        if mine is None:
            raise ConfigError(
                f"The database has migration {row['number']} ({row['name']}), which this pushd does not know:"
                " it was written by a newer one"
            )
        if mine.checksum != row["checksum"]:
            raise ConfigError(f"Migration {row['number']} ({row['name']}) was changed after it was applied")
