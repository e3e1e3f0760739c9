"""External ids of users by the number that another file knows them by, on disk however many they are."""

from __future__ import annotations

import sqlite3
from itertools import islice
from pathlib import Path

from pushd.cli.exports.fields import InvalidRowError, Names
from pushd.cli.exports.records import Service
from pushd.cli.exports.rows import Rows

BATCH = 10_000


class Externals:
    """Read from an export of users, once."""

    def __init__(self, service: Service, path: Path) -> None:
        """Reads the export; FileError where it is none. Users without an external id are left out."""
        self._database = sqlite3.connect("", check_same_thread=False)  # a file of SQLite's own, gone with the process
        self._database.execute("CREATE TABLE externals (number TEXT PRIMARY KEY, name TEXT) WITHOUT ROWID")
        names = Names(service.columns, {}, {})
        pairs = (pair for row in Rows(path) if (pair := _pair(names, row.values)) is not None)
        while batch := list(islice(pairs, BATCH)):
            self._database.executemany("INSERT OR REPLACE INTO externals VALUES (?, ?)", batch)
        self._database.commit()

    def of(self, number: str) -> str | None:
        """The external id; None where the user has none."""
        found = self._database.execute("SELECT name FROM externals WHERE number = ?", (number,)).fetchone()
        return None if found is None else str(found[0])


def _pair(names: Names, values: object) -> tuple[str, str] | None:
    assert isinstance(values, dict)
    said = names.said(values)
    try:
        number, name = said.text("_number"), said.text("user_id")
    except InvalidRowError:
        return None
    return (number, name) if number and name else None
