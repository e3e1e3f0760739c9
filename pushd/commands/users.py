"""Users: written singly and in bulk, read, listed and deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET

from pushd.commands.context import Context
from pushd.commands.text import check_text, text_faults
from pushd.errors import Fault, InvalidRequestError, NotFoundError
from pushd.model.attributes import check as check_attributes
from pushd.model.quiet import check as check_quiet
from pushd.model.user import User, UserChange


async def put(context: Context, app_id: int, change: UserChange) -> User:
    """The user after the change; created when new."""
    check_text(change)
    if faults := _faults(change, text=False):
        raise InvalidRequestError("The user is not valid", faults=faults)
    await context.whole(_put(context, app_id, [change]))
    return await get(context, app_id, change.external_id)


async def merge_attributes(context: Context, app_id: int, external_id: str, attributes: Mapping[str, Any]) -> User:
    """The user with these attributes beside those that he has; created when new. InvalidRequestError."""
    known = await context.store.users.get(app_id, external_id)
    merged = {**({} if known is None else known.attributes), **attributes}
    return await put(context, app_id, UserChange(external_id=external_id, attributes=merged))


async def put_many(
    context: Context, app_id: int, changes: Sequence[UserChange]
) -> tuple[list[int], dict[int, list[Fault]]]:
    """Numeric ids of the users that were written, in order; and the faults of those that were not, by position.

    Calls of one app are written one after the other, in the order in which they were begun.
    """
    foul = bool(text_faults(changes))
    bad = {row: faults for row, change in enumerate(changes) if (faults := _faults(change, text=foul))}
    good = [change for row, change in enumerate(changes) if row not in bad] if bad else list(changes)
    return (await context.whole(_put(context, app_id, good, in_turn=True)) if good else []), bad


def _faults(change: UserChange, *, text: bool) -> list[Fault]:
    """The faults of a change; of its texts only where they are to be looked at."""
    faults = list(text_faults(change)) if text else []
    if change.attributes is not UNSET and not faults:
        faults += check_attributes(change.attributes)
    if change.quiet_hours:
        faults += check_quiet(change.quiet_hours, "/quiet_hours")
    return faults


async def get(context: Context, app_id: int, external_id: str) -> User:
    """The user; NotFoundError."""
    user = await context.store.users.get(app_id, external_id)
    if user is None:
        raise NotFoundError("There is no such user")
    return user


async def list_page(context: Context, app_id: int, *, after: int, limit: int) -> list[User]:
    """Users with numeric ids above `after`, ascending."""
    return [*await context.store.users.list(app_id, after, limit)]


async def delete(context: Context, app_id: int, external_id: str) -> None:
    """Nothing, once the user is gone; installs stay and belong to nobody. NotFoundError."""
    await context.whole(_delete(context, app_id, external_id))


async def _put(context: Context, app_id: int, changes: list[UserChange], *, in_turn: bool = False) -> list[int]:
    ids, rows = await context.store.users.put_many(app_id, changes, in_turn=in_turn)
    await context.index.take_in(users=rows)
    numbers: list[int] = ids.tolist()
    return numbers


async def _delete(context: Context, app_id: int, external_id: str) -> None:
    gone = await context.store.users.delete(app_id, external_id)
    if gone is None:
        raise NotFoundError("There is no such user")
    context.index.apply_users(gone.users)
    context.index.apply_devices(gone.devices)
    context.store.sessions.forget()  # his are closed
