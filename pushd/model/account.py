"""Accounts: users who log in with a password, and sessions of apps and users."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from pushd.model.app import Role
from pushd.model.vendor_key import DialectName

PASSWORD_CHARS_MAX = 256


class Account(Struct, frozen=True, kw_only=True):
    """A user who can log in."""

    user_id: int
    """The user's numeric id."""
    app_id: int
    external_id: str
    login: str | None
    """As it was folded; either this or the e-mail address is there."""
    email: str | None
    fields: dict[str, Any]
    """What the dialect's users have beside."""
    created_at: float
    updated_at: float


class Session(Struct, frozen=True, kw_only=True):
    """Somebody's permission to call, until it ends."""

    id: int
    app_id: int
    dialect: DialectName
    user_id: int | None
    """The numeric id of who has logged in; None: nobody yet."""
    created_at: float
    ends_at: float
    role: Role = Role.DEVICE
    """Of the key that it was opened with: a server's may send as it likes."""


class AccountQuery(Struct, frozen=True, kw_only=True):
    """Which accounts are looked for: those that have one of each that is not None."""

    user_ids: list[int] | None = None
    logins: list[str] | None = None
    emails: list[str] | None = None
    external_ids: list[str] | None = None
    tags: list[str] | None = None
    newest_first: bool = False
    """By numeric id; else ascending."""


class AccountPage(Struct, frozen=True, kw_only=True):
    """Some of the accounts that were looked for."""

    accounts: list[tuple[Account, list[str]]]
    """Each with its user's tags."""
    total: int
    """How many there are of all."""
