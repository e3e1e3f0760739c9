"""Accounts in the store: written beside their users, found by login or e-mail address."""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson

from pushd.model.account import Account, AccountPage, AccountQuery
from pushd.model.rows import UserRows
from pushd.model.user import UserChange
from pushd.store.database import Database
from pushd.store.names import Names
from pushd.store.times import moment, seconds
from pushd.store.users import UserStore

_COLUMNS = """
SELECT a.user_id, a.app_id, u.external_id, a.login, a.email, a.fields, a.created_at, a.updated_at, a.password
FROM accounts a JOIN users u ON u.id = a.user_id
"""
_PAGE_COLUMNS = """
SELECT a.user_id, a.app_id, u.external_id, a.login, a.email, a.fields, a.created_at, a.updated_at, u.tags
"""
_FROM = "FROM accounts a JOIN users u ON u.id = a.user_id"
_CONDITIONS = {
    "user_ids": "a.user_id = ANY (${}::int[])",
    "logins": "a.login = ANY (${}::text[])",
    "emails": "a.email = ANY (${}::text[])",
    "external_ids": "u.external_id = ANY (${}::text[])",
    "tags": "u.tags && ARRAY(SELECT id FROM labels WHERE app_id = $1 AND kind = 0 AND folded = ANY (${}::text[]))",
}
"""By field of a query; the argument's number is filled in."""
_GET = f"{_COLUMNS} WHERE a.app_id = $1 AND a.user_id = $2"
_BY_LOGIN = f"{_COLUMNS} WHERE a.app_id = $1 AND a.login = $2"
_BY_EMAIL = f"{_COLUMNS} WHERE a.app_id = $1 AND a.email = $2"
_NUMBER = "SELECT id FROM users WHERE app_id = $1 AND external_id = $2 AND deleted_at IS NULL"
_INSERT = """
INSERT INTO accounts (user_id, app_id, login, email, password, fields, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
"""
# Whoever was faster has moved the time of its last change: what is written here was made of what he replaced.
_UPDATE = """
UPDATE accounts SET login = $3, email = $4, password = coalesce($5, password), fields = $6,
    updated_at = greatest($7, updated_at + interval '1 microsecond')
WHERE app_id = $1 AND user_id = $2 AND updated_at = $8 RETURNING user_id
"""


class AccountStore:
    """Accounts of every app."""

    def __init__(self, database: Database, users: UserStore, names: Names) -> None:
        self._database = database
        self._names = names
        self._users = users

    async def create(
        self,
        app_id: int,
        user: UserChange,
        *,
        login: str | None,
        email: str | None,
        password: bytes,
        fields: dict[str, Any],
        now: float,
    ) -> UserRows | None:
        """The user's image, once user and account are committed; None where login, address or user has an account."""
        timeout_s = self._database.config.write_timeout_s
        try:
            async with self._database.transaction() as connection:
                rows = await self._users.put_within(connection, app_id, [user])
                number = await connection.fetchval(_NUMBER, app_id, user.external_id, timeout=timeout_s)
                told = orjson.dumps(fields).decode()
                await connection.execute(
                    _INSERT, number, app_id, login, email, password, told, moment(now), timeout=timeout_s
                )
        except asyncpg.UniqueViolationError:
            return None
        return rows

    async def update(self, account: Account, password: bytes | None, now: float) -> bool | None:
        """Whether the account is like this now; not, where it is gone, or has changed since it was read.

        None where its login or address is another's.
        """
        told = orjson.dumps(account.fields).decode()
        own = (account.app_id, account.user_id, account.login, account.email)
        try:
            return bool(
                await self._database.fetchval(_UPDATE, *own, password, told, moment(now), moment(account.updated_at))
            )
        except asyncpg.UniqueViolationError:
            return None

    async def get(self, app_id: int, user_id: int) -> Account | None:
        """The account of a user; None when he has none."""
        row = await self._database.fetchrow(_GET, app_id, user_id)
        return None if row is None else _account(row)

    async def find(self, app_id: int, *, login: str | None, email: str | None) -> tuple[Account, bytes] | None:
        """The account with this login, or this address, and what its password came to."""
        query, name = (_BY_LOGIN, login) if login is not None else (_BY_EMAIL, email)
        row = await self._database.fetchrow(query, app_id, name)
        return None if row is None else (_account(row), bytes(row["password"]))

    async def page(self, app_id: int, query: AccountQuery, *, offset: int, limit: int) -> AccountPage:
        """Accounts that are looked for, behind so many others, and how many there are; names are folded."""
        wanted = {name: getattr(query, name) for name in _CONDITIONS if getattr(query, name) is not None}
        conditions = [_CONDITIONS[name].format(number) for number, name in enumerate(wanted, 2)]
        where = f"WHERE {' AND '.join(['a.app_id = $1', *conditions])}"
        # Every account has its user: who asks for nothing of users has none of them looked up to be counted.
        counted = _FROM if any("u." in each for each in conditions) else "FROM accounts a"
        order = "DESC" if query.newest_first else "ASC"
        count, args = len(wanted) + 2, (app_id, *wanted.values())
        rows = await self._database.fetch(
            f"{_PAGE_COLUMNS} {_FROM} {where} ORDER BY a.user_id {order} LIMIT ${count} OFFSET ${count + 1}",
            *(*args, limit, offset),
        )
        total = await self._database.fetchval(f"SELECT count(*) {counted} {where}", *args)  # constants
        names = await self._names.tag_names([tag for row in rows for tag in row["tags"] or ()])
        told = [(_account(row), [names[tag] for tag in row["tags"] or ()]) for row in rows]
        return AccountPage(accounts=told, total=total)


def _account(row: Any) -> Account:
    return Account(
        user_id=row["user_id"],
        app_id=row["app_id"],
        external_id=row["external_id"],
        login=row["login"],
        email=row["email"],
        fields=orjson.loads(row["fields"]),
        created_at=seconds(row["created_at"]),
        updated_at=seconds(row["updated_at"]),
    )
