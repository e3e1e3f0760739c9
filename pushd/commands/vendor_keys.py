"""Keys of the dialects: made as the vendor's were, listed and revoked."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from hashlib import sha256
from uuid import uuid4

from pushd.commands.context import Context
from pushd.commands.text import check_text
from pushd.errors import ConflictError, Fault, InvalidRequestError, NotFoundError
from pushd.model.app import Role
from pushd.model.vendor_key import DialectName, NewVendorKey, VendorKey
from pushd.store.vendor_keys import Held

_UUID = re.compile(r"[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
COMPANY_ID_MAX = 2**31 - 1
CLIENT_KEYS = frozenset({DialectName.CONNECTYCUBE, DialectName.KUMULOS, DialectName.BACKENDLESS})
"""Dialects whose vendors give keys to apps; the others' keys are for servers alone."""
SIGNED = frozenset({DialectName.CONNECTYCUBE})
"""Dialects whose requests are signed with the secret, so that it has to be known again."""


async def create(context: Context, app_id: int, new: NewVendorKey) -> tuple[VendorKey, str]:
    """The new key and its secret. InvalidRequestError; ConflictError: it is there, or its identity is another app's."""
    check_text(new)
    if faults := _faults(new):
        raise InvalidRequestError("The key is not valid", faults=faults)
    identity = new.identity or _identity(new.dialect)
    secret = new.secret or _secret(new.dialect)
    place = _place(new.dialect, identity)
    sealed = context.vault.seal(app_id, place, secret.encode()) if new.dialect in SIGNED else None
    key = await context.store.vendor_keys.create(app_id, new.dialect, new.role, identity, secret, sealed, new.name)
    if key is None:
        raise ConflictError("There is such a key already, or its identity belongs to another app")
    return key, secret


async def list_page(context: Context, app_id: int, *, after: int, limit: int) -> Sequence[VendorKey]:
    """Keys with ids above `after`, ascending, revoked ones too."""
    return await context.store.vendor_keys.list(app_id, after, limit)


async def revoke(context: Context, app_id: int, key_id: int) -> VendorKey:
    """The key, revoked; again is nothing. NotFoundError."""
    key = await context.store.vendor_keys.revoke(app_id, key_id)
    if key is None:
        raise NotFoundError("There is no such key")
    context.store.sessions.forget()  # those opened with it are over
    return key


def opened(context: Context, held: Held) -> str:
    """The secret of a key whose requests are signed with it."""
    assert held.sealed is not None
    place = _place(held.key.dialect, held.key.identity)
    return context.vault.open(held.key.app_id, place, held.sealed).decode()


def _place(dialect: DialectName, identity: str) -> int:
    """What a sealed secret is bound to beside its app; no credential has such an id."""
    return int.from_bytes(sha256(f"{dialect}:{identity}".encode()).digest()[:8]) | 1 << 63


def _faults(new: NewVendorKey) -> list[Fault]:
    faults = []
    if new.role is Role.ADMIN:
        faults.append(Fault("/role", "is `server` or `device`"))
    if new.role is Role.DEVICE and new.dialect not in CLIENT_KEYS:
        faults.append(Fault("/role", f"is `server`: {new.dialect} has no keys for apps"))
    if new.dialect is DialectName.BACKENDLESS and new.identity is not None and not _UUID.fullmatch(new.identity):
        faults.append(Fault("/identity", "is an application id: a UUID"))
    if new.dialect is DialectName.APPENATE and new.identity is not None:
        number = int(new.identity) if new.identity.isdigit() and len(new.identity) <= 10 else 0
        if not 0 < number <= COMPANY_ID_MAX:
            faults.append(Fault("/identity", f"is a company id: a number of 1 to {COMPANY_ID_MAX}"))
    return faults


def _identity(dialect: DialectName) -> str:
    """A new one, as the vendor's look."""
    match dialect:
        case DialectName.APPENATE:
            return str(secrets.randbelow(900_000_000) + 100_000_000)
        case DialectName.BACKENDLESS:
            return str(uuid4()).upper()
        case DialectName.KUMULOS:
            return str(uuid4())
        case DialectName.CONNECTYCUBE:
            return secrets.token_urlsafe(11).replace("-", "a").replace("_", "b")
        case DialectName.GRAVITEC:
            return secrets.token_hex(16)


def _secret(dialect: DialectName) -> str:
    match dialect:
        case DialectName.APPENATE:
            return str(uuid4())
        case DialectName.BACKENDLESS:
            return str(uuid4()).upper()
        case _:
            return secrets.token_hex(24)
