"""Sessions in the store: of their tokens only digests are kept; use moves their end on. Those seen are remembered."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from pushd.clock import Clock
from pushd.model.account import Session
from pushd.model.app import Role
from pushd.model.vendor_key import DialectName
from pushd.service import Service
from pushd.store.database import Database
from pushd.store.literals import octets
from pushd.store.remembered import REMEMBERED_MAX, Remembered
from pushd.store.sweeping import SWEPT_ROWS, sweep
from pushd.store.times import moment, seconds
from pushd.store.together import Together

STEPS = 10
"""Times in a session's life that its use is written down."""
LOW_BITS = 2**31 - 1
"""Of an id, by which the change feed names a session."""

_COLUMNS = """
id, app_id, dialect, user_id, created_at, ends_at, (SELECT role FROM vendor_keys k WHERE k.id = sessions.key_id) AS role
"""
_OPEN = f"""
INSERT INTO sessions (digest, app_id, dialect, user_id, created_at, ends_at, key_id) VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING {_COLUMNS}
"""  # noqa: S608  # constants
_FIND = f"""
SELECT digest, {_COLUMNS} FROM sessions WHERE digest = ANY ($1::text::bytea[])
    AND NOT EXISTS (SELECT FROM vendor_keys k WHERE k.id = sessions.key_id AND k.revoked_at IS NOT NULL)
"""  # noqa: S608  # constants
_PROLONG = "UPDATE sessions SET ends_at = $2 WHERE id = $1 AND ends_at < $2"
_LOG_IN = f"""
WITH changed AS (UPDATE sessions SET user_id = $2 WHERE id = $1 RETURNING *)
SELECT {_COLUMNS}, note_change(21::smallint, app_id, ARRAY[(id & {LOW_BITS})::int]) FROM changed AS sessions
"""  # noqa: S608  # constants
_CLOSE = "DELETE FROM sessions WHERE digest = $1"
_CLOSE_ONE = "DELETE FROM sessions WHERE id = $1 AND app_id = $2 AND dialect = $3 AND ($4::int IS NULL OR user_id = $4)"
_CLOSE_OTHERS = "DELETE FROM sessions WHERE app_id = $1 AND dialect = $2 AND user_id = $3 AND id <> $4"
_PURGE = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE ends_at < $1 LIMIT $2)"


class SessionStore(Service):
    """Sessions of every app and dialect. Those seen are known until the change feed tells of them, or of any key."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._together = Together(self._fetch)
        self._known: Remembered[bytes, Session] = Remembered()
        self._digests: dict[int, bytes] = {}
        """Of sessions that are known, by the low bits of their ids."""

    async def start(self) -> None:
        """Begins to delete sessions that are over."""
        self.spawn(sweep("sessions", self.purge, self._clock), "sessions")

    async def open(
        self,
        app_id: int,
        dialect: DialectName,
        user_id: int | None,
        *,
        token_bytes: int,
        lives_s: float,
        now: float,
        key_id: int | None = None,
    ) -> tuple[Session, str]:
        """A new session and its token, in hexadecimal; it has the role of its key, and ends with it."""
        token = secrets.token_hex(token_bytes)
        row = await self._database.fetchrow(
            _OPEN, _digest(token), app_id, dialect.value, user_id, moment(now), moment(now + lives_s), key_id
        )
        return _session(row), token

    async def find(self, token: str, *, lives_s: float, now: float) -> Session | None:
        """The session of a token, which lives so long from now on; None where it is unknown or over."""
        digest = _digest(token)
        session = self._known.get(digest)
        if session is None or session.ends_at <= now:  # another daemon may have moved its end on
            session = await self._read(digest)
            if session is None or session.ends_at <= now:
                return None
        if session.ends_at < now + lives_s * (1 - 1 / STEPS):
            await self._database.execute(_PROLONG, session.id, moment(now + lives_s))
            self._known.replace(digest, session, msgspec.structs.replace(session, ends_at=now + lives_s))
        return session

    async def _read(self, digest: bytes) -> Session | None:
        session = await self._known.read(digest, lambda: self._together.get(digest))
        if session is not None and self._known.get(digest) is session:
            if len(self._digests) >= 2 * REMEMBERED_MAX:
                self.forget()
            self._digests[session.id & LOW_BITS] = digest
        return session

    async def _fetch(self, digests: Sequence[bytes]) -> dict[bytes, Session]:
        wanted = octets(digests)
        return {row["digest"]: _session(row) for row in await self._database.fetch(_FIND, wanted)}

    async def log_in(self, session: Session, user_id: int | None) -> Session | None:
        """The session as this user's, or nobody's; None where it is gone."""
        row = await self._database.fetchrow(_LOG_IN, session.id, user_id)
        await self.heard((session.id,))
        return None if row is None else _session(row)

    async def close(self, token: str) -> None:
        """Nothing, once the token is good for nothing."""
        digest = _digest(token)
        await self._database.execute(_CLOSE, digest)
        self._known.forget((digest,))

    async def close_one(self, own: Session, session_id: int, user_id: int | None) -> bool:
        """Whether there was such a session of this user, or of anybody, which is over now; beside `own` in its app."""
        place = session_id, own.app_id, own.dialect.value, user_id
        status = await self._database.execute(_CLOSE_ONE, *place)
        await self.heard((session_id,))
        return status != "DELETE 0"

    async def close_others(self, own: Session) -> None:
        """Nothing, once all other sessions of the one's user are over."""
        await self._database.execute(_CLOSE_OTHERS, own.app_id, own.dialect.value, own.user_id, own.id)
        self.forget()

    async def heard(self, ids: Sequence[int]) -> None:
        """Reads sessions again, which are closed, or another user's now; of their ids the low 31 bits matter."""
        self._known.forget(self._digests.pop(each & LOW_BITS, b"") for each in ids)

    def forget(self) -> None:
        """Reads every session again."""
        self._known.forget()
        self._digests.clear()

    async def purge(self, now: float) -> bool:
        """Whether more may be left of the sessions that are over, some of which are deleted."""
        status = await self._database.execute(_PURGE, moment(now), SWEPT_ROWS)
        return status.endswith(f" {SWEPT_ROWS}")


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def _session(row: Any) -> Session:
    return Session(
        id=row["id"],
        app_id=row["app_id"],
        dialect=DialectName(row["dialect"]),
        user_id=row["user_id"],
        created_at=seconds(row["created_at"]),
        ends_at=seconds(row["ends_at"]),
        role=Role(row["role"] or Role.DEVICE),
    )
