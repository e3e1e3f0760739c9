"""Channels: made, changed, read, listed and deleted; installs and users subscribed and taken off."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated
from uuid import uuid4

import msgspec
from msgspec import Meta, Struct

from pushd.commands.context import Context
from pushd.commands.text import check_text
from pushd.errors import ConflictError, Fault, InvalidRequestError, NotFoundError
from pushd.model.audience import Channels
from pushd.model.channel import META_BYTES_MAX, SUBSCRIPTIONS_MAX, Channel, ChannelChange, NewChannel
from pushd.model.device import Text255
from pushd.store.channels import Subscribed, Subscribers

Uuids = Annotated[list[Text255], Meta(max_length=SUBSCRIPTIONS_MAX)]


class SubscriptionErrors(Struct, frozen=True, omit_defaults=True):
    """Whom a request named and could not subscribe."""

    unknown_installs: list[str] = []
    unknown_users: list[str] = []
    full_installs: list[str] = []
    """They have as many channels as one may have."""
    full_users: list[str] = []

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__struct_fields__)


class SubscriptionChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What changes of the channels of one user or install, by uuid."""

    subscribe: Uuids = []
    unsubscribe: Uuids = []
    only: Uuids | None = None
    """These and no others, in place of the two."""

    def __post_init__(self) -> None:
        if self.only is not None and (self.subscribe or self.unsubscribe):
            raise ValueError("`only` stands alone")
        if not set(self.subscribe).isdisjoint(self.unsubscribe):
            raise ValueError("a channel is in both `subscribe` and `unsubscribe`")


async def create(context: Context, app_id: int, new: NewChannel) -> Channel:
    """The new channel. ConflictError where its uuid is taken."""
    _check(new)
    return await context.whole(_create(context, app_id, new))


async def get(context: Context, app_id: int, channel: str | int) -> Channel:
    """The channel of a uuid or an id; NotFoundError."""
    found = await context.store.channels.get(app_id, channel)
    if found is None:
        raise NotFoundError("There is no such channel")
    return found


def is_known(context: Context, app_id: int, uuid: str) -> bool:
    """Whether an audience of the app may name this channel, as far as this node has heard."""
    try:
        context.index.check(app_id, Channels(any=[uuid]))
    except InvalidRequestError:
        return False
    return True


async def ensure(context: Context, app_id: int, uuids: Sequence[str]) -> None:
    """Nothing, once the app has all of these channels; those that it had not are called as their uuid is."""
    known = await context.store.channels.ids(app_id, uuids)
    for uuid in dict.fromkeys(uuids):
        if uuid not in known:
            with suppress(ConflictError):  # somebody else was faster
                await create(context, app_id, NewChannel(uuid=uuid, name=uuid))


def devices(context: Context, app_id: int, channel: Channel) -> int:
    """How many devices are subscribed to a channel, by their install or their user; reachable or not."""
    return context.index.subscribed(app_id, channel.uuid)


async def subscribers(
    context: Context, app_id: int, channel: str | int, of: Subscribers, *, after: int, limit: int
) -> Sequence[tuple[int, str]]:
    """Who is subscribed: users, or installs themselves, as (number, name), numbers above `after`. NotFoundError."""
    found = await get(context, app_id, channel)
    store = context.store.channels
    return await (store.users if of == "users" else store.installs)(app_id, found.id, after, limit)


async def list_page(context: Context, app_id: int, *, after: int, limit: int) -> Sequence[Channel]:
    """Channels with ids above `after`, ascending."""
    return await context.store.channels.list(app_id, after, limit)


async def in_portal(context: Context, app_id: int, *, limit: int) -> Sequence[Channel]:
    """Channels that apps list to their users, at most so many, by id."""
    return await context.store.channels.in_portal(app_id, limit)


async def update(context: Context, app_id: int, channel: str | int, change: ChannelChange) -> Channel:
    """The channel after the change. NotFoundError, ConflictError."""
    _check(change)
    found = await get(context, app_id, channel)
    return await context.whole(_update(context, app_id, found.id, change))


async def delete(context: Context, app_id: int, channel: str | int) -> None:
    """Nothing, once the channel is gone: no audience may name it any more. NotFoundError."""
    found = await get(context, app_id, channel)
    await context.whole(_delete(context, app_id, found.id))


async def subscribe(
    context: Context, app_id: int, channel: str | int, *, installs: Sequence[str], users: Sequence[str], on: bool
) -> SubscriptionErrors:
    """Who could not be subscribed to a channel (`on`), or taken off it; all others are. NotFoundError.

    A user's subscription covers his devices of now and later; an install's stays its own.
    """
    check_text({"installs": installs, "users": users})
    if not installs and not users:
        raise InvalidRequestError(faults=[Fault("/installs", "names nobody: installs or users are needed")])
    found = await get(context, app_id, channel)
    return await context.whole(_subscribe(context, app_id, found.id, installs, users, on))


async def of_user(context: Context, app_id: int, external_id: str) -> Sequence[Channel]:
    """The channels that a user is subscribed to; NotFoundError."""
    if await context.store.users.get(app_id, external_id) is None:
        raise NotFoundError("There is no such user")
    return await context.store.channels.of_user(app_id, external_id)


async def of_install(context: Context, app_id: int, install_id: str) -> Sequence[Channel]:
    """The channels that an install is subscribed to itself; NotFoundError."""
    if not await context.store.devices.list(app_id, 0, 1, install_id=install_id):
        raise NotFoundError("There is no such install")
    return await context.store.channels.of_install(app_id, install_id)


async def change_of_user(
    context: Context, app_id: int, external_id: str, change: SubscriptionChange
) -> Sequence[Channel]:
    """The channels of a user after the change. NotFoundError."""
    check_text(change)
    await context.whole(_change(context, app_id, change, user=external_id))
    return await context.store.channels.of_user(app_id, external_id)


async def change_of_install(
    context: Context, app_id: int, install_id: str, change: SubscriptionChange
) -> Sequence[Channel]:
    """The channels of an install itself after the change. NotFoundError."""
    check_text(change)
    await context.whole(_change(context, app_id, change, install=install_id))
    return await context.store.channels.of_install(app_id, install_id)


def _check(wanted: NewChannel | ChannelChange) -> None:
    check_text(wanted)
    if wanted.meta and len(msgspec.json.encode(wanted.meta)) > META_BYTES_MAX:
        raise InvalidRequestError(faults=[Fault("/meta", f"has more than {META_BYTES_MAX} bytes as JSON")])


async def _create(context: Context, app_id: int, new: NewChannel) -> Channel:
    made = await context.store.channels.create(app_id, new.uuid or str(uuid4()), new)
    await context.definitions.channels_changed([app_id])
    return made


async def _update(context: Context, app_id: int, channel_id: int, change: ChannelChange) -> Channel:
    changed = await context.store.channels.update(app_id, channel_id, change)
    if changed is None:
        raise NotFoundError("There is no such channel")
    await context.definitions.channels_changed([app_id])
    return changed


async def _delete(context: Context, app_id: int, channel_id: int) -> None:
    if not await context.store.channels.delete(app_id, channel_id):
        raise NotFoundError("There is no such channel")
    await context.definitions.channels_changed([app_id])
    context.store.maintenance.wake()


async def _subscribe(
    context: Context, app_id: int, channel_id: int, installs: Sequence[str], users: Sequence[str], on: bool
) -> SubscriptionErrors:
    errors: dict[str, list[str]] = {}
    if users:
        done = await context.store.channels.subscribe_users(app_id, channel_id, users, on=on)
        await apply(context, done)
        errors |= {"unknown_users": [*done.unknown], "full_users": [*done.full]}
    if installs:
        done = await context.store.channels.subscribe_installs(app_id, channel_id, installs, on=on)
        await apply(context, done)
        errors |= {"unknown_installs": [*done.unknown], "full_installs": [*done.full]}
    return SubscriptionErrors(**errors)


async def _change(
    context: Context, app_id: int, change: SubscriptionChange, *, user: str | None = None, install: str | None = None
) -> None:
    replace = change.only is not None
    add = change.subscribe if change.only is None else change.only
    done = await context.store.channels.change(
        app_id, user=user, install=install, add=add, remove=change.unsubscribe, replace=replace
    )
    await apply(context, done)


async def apply(context: Context, done: Subscribed) -> None:
    """Takes in what subscribing changed, in slices."""
    await context.index.take_in(users=done.users, devices=done.devices)
