"""API keys: made, listed and revoked."""

from __future__ import annotations

from collections.abc import Sequence

from pushd.commands.context import Context
from pushd.commands.text import check_text
from pushd.errors import ConflictError, Fault, InvalidRequestError, NotFoundError
from pushd.model.app import Key, Role


async def create(context: Context, app_id: int | None, role: Role, name: str) -> tuple[Key, str]:
    """The new key, and its secret, which nothing can show again.

    Admin keys belong to no app, the others to one: InvalidRequestError.
    """
    check_text({"name": name})
    if (role is Role.ADMIN) is (app_id is not None):
        detail = "an admin key belongs to no app" if role is Role.ADMIN else "a key of this role belongs to an app"
        raise InvalidRequestError(faults=[Fault("/role", detail)])
    return await context.store.keys.create(app_id, role, name)


async def list_page(context: Context, app_id: int | None, *, after: int, limit: int) -> Sequence[Key]:
    """Keys of the app (None: the installation's own) with ids above `after`, ascending, revoked ones too."""
    return await context.store.keys.list(app_id, after, limit)


async def revoke(context: Context, app_id: int | None, key_id: int, *, own_id: int) -> Key:
    """The key, revoked; again is nothing. NotFoundError; ConflictError for the key that asks."""
    if key_id == own_id:
        raise ConflictError("A key cannot revoke itself: use another one")
    key = await context.store.keys.revoke(app_id, key_id)
    if key is None:
        raise NotFoundError("There is no such key")
    return key
