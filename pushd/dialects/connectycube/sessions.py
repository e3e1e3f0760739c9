"""ConnectyCube's sessions: opened with an auth key, logged in and out, closed."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from pushd.commands import accounts
from pushd.dialect import Dialect
from pushd.dialects.connectycube import users, wire
from pushd.dialects.connectycube.signature import key_of
from pushd.errors import ConflictError, InvalidRequestError, NotFoundError, UnauthorizedError
from pushd.model.account import Account, Session
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

TOKEN_BYTES = 20
GUEST_LIVES_S = 86_400.0


async def open_session(cube: Dialect, incoming: Incoming) -> Answer:
    """POST /session: whatever token comes along does not matter."""
    given = await wire.body(cube, incoming)
    key = await key_of(cube, given, incoming)
    user, account, lives_s = wire.inside(given, "user"), None, wire.LIVES_S
    if given.get("provider"):
        raise wire.wrong("provider", "is not supported here: log in with login or email, and password")
    if wire.truth(user.get("guest"), "guest"):
        account, lives_s = await users.signed_up(cube, key.app_id, user | _guest()), GUEST_LIVES_S
    elif user:
        account = await _known_or_new(cube, key.app_id, user)
    own, token = await accounts.open_session(
        cube.context,
        key.app_id,
        wire.NAME,
        None if account is None else account.user_id,
        token_bytes=TOKEN_BYTES,
        lives_s=lives_s,
        key_id=key.id,
    )
    nonce = wire.number(given.get("nonce"), "nonce") or 0
    return wire.told(await _session(cube, own, token, account, nonce), 201, _expires(cube, lives_s))


async def show_session(cube: Dialect, incoming: Incoming) -> Answer:
    """GET /session."""
    own = await wire.session(cube, incoming)
    return wire.told(await _session(cube, own, wire.token(incoming), None), headers=_expires(cube, wire.LIVES_S))


async def close_session(cube: Dialect, incoming: Incoming) -> Answer:
    """DELETE /session."""
    await wire.session(cube, incoming)
    await accounts.close_session(cube.context, wire.token(incoming))
    return wire.done()


async def close_one(cube: Dialect, incoming: Incoming) -> Answer:
    """DELETE /session/{id}: one of one's own, or for servers anybody's."""
    own = await wire.session(cube, incoming)
    try:
        await accounts.close_session_of(cube.context, own, wire.path_number(incoming))
    except NotFoundError:
        raise NotFoundError("Session not found") from None
    return wire.done()


async def close_others(cube: Dialect, incoming: Incoming) -> Answer:
    """DELETE /session/list: all of the user's but this one."""
    own = await wire.session(cube, incoming)
    await wire.account(cube, own)
    await accounts.close_other_sessions(cube.context, own)
    return wire.done()


async def log_in(cube: Dialect, incoming: Incoming) -> Answer:
    """POST /login: the session becomes the user's."""
    own = await wire.session(cube, incoming)
    account = await users.logged_in(cube, own.app_id, await wire.body(cube, incoming))
    await accounts.log_in_session(cube.context, own, account.user_id)
    return wire.told(await users.shown(cube, account), 202, _expires(cube, wire.LIVES_S))


async def log_out(cube: Dialect, incoming: Incoming) -> Answer:
    """DELETE /login: the session is nobody's again."""
    await accounts.log_in_session(cube.context, await wire.session(cube, incoming), None)
    return wire.done()


async def _known_or_new(cube: Dialect, app_id: int, user: dict[str, Any]) -> Account:
    """Who logs in; nobody of this name: he signs up by it."""
    try:
        return await users.logged_in(cube, app_id, user)
    except UnauthorizedError as error:
        try:
            return await users.signed_up(cube, app_id, user)
        except (ConflictError, InvalidRequestError):
            raise error from None


def _guest() -> dict[str, Any]:
    return {"login": f"guest_{secrets.token_hex(12)}", "password": secrets.token_hex(16), "email": None}


def _expires(cube: Dialect, lives_s: float) -> dict[str, str]:
    at = datetime.fromtimestamp(cube.context.clock.now() + lives_s, UTC)
    return {"CB-Token-ExpirationDate": at.strftime("%Y-%m-%d %H:%M:%S UTC")}


async def _session(cube: Dialect, own: Session, token: str, account: Account | None, nonce: int = 0) -> dict[str, Any]:
    """Types are those that Dart's parser insists on."""
    made = {
        "id": own.id,
        "user_id": own.user_id or 0,
        "application_id": own.app_id,
        "token": token,
        "nonce": nonce,
        "ts": int(own.created_at),
        "created_at": wire.iso(own.created_at),
        "updated_at": wire.iso(own.created_at),
    }
    return {"session": made if account is None else made | await users.shown(cube, account)}
