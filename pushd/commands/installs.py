"""Installs by the id that each gave itself: looked at, tagged and given an alias, whatever addresses they have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from msgspec import Struct

from pushd.commands import devices
from pushd.commands.context import Context
from pushd.commands.devices import DeviceChange
from pushd.commands.text import check_text
from pushd.errors import Fault, InvalidRequestError, NotFoundError
from pushd.model.device import Device

ADDRESSES_MAX = 100
"""Of one install that are looked at: it has one of each kind."""
TAGS_MAX = 1_000


class Install(Struct, frozen=True, kw_only=True):
    """An install and what all of its addresses share."""

    install_id: str
    user_id: str | None
    alias: str | None
    tags: list[str]
    reachable: bool
    """Any of its addresses has a live token and push enabled."""


async def get(context: Context, app_id: int, install_id: str) -> Install:
    """The install; NotFoundError."""
    found = await _addresses(context, app_id, install_id)
    return Install(
        install_id=install_id,
        user_id=found[0].user_id,
        alias=found[0].alias,
        tags=found[0].tags,
        reachable=any(device.reachable for device in found),
    )


async def set_alias(context: Context, app_id: int, install_id: str, alias: str | None) -> None:
    """Nothing, once the install has this alias, or none. NotFoundError, InvalidRequestError."""
    check_text({"alias": alias})
    first = (await _addresses(context, app_id, install_id))[0]
    await devices.change(context, app_id, first.id, DeviceChange(alias=alias))


async def set_push_enabled(context: Context, app_id: int, install_id: str, enabled: bool) -> None:
    """Nothing, once the install is pushed to, or is not. NotFoundError."""
    first = (await _addresses(context, app_id, install_id))[0]
    await devices.change(context, app_id, first.id, DeviceChange(push_enabled=enabled))


async def add_tag(context: Context, app_id: int, install_id: str, tag: str) -> None:
    """Nothing, once the install has the tag, as first spelt in the app. NotFoundError, InvalidRequestError."""
    await add_tags(context, app_id, install_id, [tag])


async def add_tags(context: Context, app_id: int, install_id: str, added: list[str]) -> None:
    """Nothing, once the install has the tags, as first spelt in the app. NotFoundError, InvalidRequestError."""
    check_text({"tags": added})

    def together(tags: list[str]) -> list[str]:
        known = {each.casefold(): each for each in added} | {each.casefold(): each for each in tags}
        return [*known.values()]

    await _retag(context, app_id, install_id, together)


async def remove_tag(context: Context, app_id: int, install_id: str, tag: str) -> bool:
    """Whether the install had the tag, in any case of its letters; it has not now. NotFoundError."""
    had = False

    def without(tags: list[str]) -> list[str]:
        nonlocal had
        had = tag.casefold() in {each.casefold() for each in tags}
        return [each for each in tags if each.casefold() != tag.casefold()]

    await _retag(context, app_id, install_id, without)
    return had


async def set_tags(context: Context, app_id: int, install_id: str, tags: list[str]) -> None:
    """Nothing, once the install has these tags and no others. NotFoundError, InvalidRequestError."""
    check_text({"tags": tags})
    await _retag(context, app_id, install_id, lambda _: tags)


async def unsubscribe(context: Context, app_id: int, install_id: str) -> None:
    """Nothing, once the install has no address to push to. It stays known, with its user, tags and channels."""
    check_text({"install_id": install_id})
    await context.whole(_unsubscribe(context, app_id, install_id))


async def _unsubscribe(context: Context, app_id: int, install_id: str) -> None:
    context.index.apply_devices(await context.store.devices.forget_addresses(app_id, install_id))


async def _retag(context: Context, app_id: int, install_id: str, change: Callable[[list[str]], list[str]]) -> None:
    async with _turn(app_id, install_id):  # between reading tags and writing them nobody else here does
        first = (await _addresses(context, app_id, install_id))[0]
        tags = change(first.tags)
        if len(tags) > TAGS_MAX:
            raise InvalidRequestError("Too many tags", faults=[Fault("/tags", f"are more than {TAGS_MAX}")])
        if tags != first.tags:
            await devices.change(context, app_id, first.id, DeviceChange(tags=tags))


async def _addresses(context: Context, app_id: int, install_id: str) -> list[Device]:
    if "\0" in install_id:  # PostgreSQL has no such text
        raise NotFoundError("There is no such install")
    found = await devices.list_page(context, app_id, after=0, limit=ADDRESSES_MAX, install_id=install_id)
    if not found:
        raise NotFoundError("There is no such install")
    return found


_turns: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()


@asynccontextmanager
async def _turn(app_id: int, install_id: str) -> AsyncIterator[None]:
    lock = _turns.setdefault((app_id, install_id), asyncio.Lock())
    async with lock:
        yield
