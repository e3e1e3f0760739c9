"""Channels of Kumulos's as devices see them: listed, subscribed to and left, by user or by install."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from pushd.commands import channels
from pushd.commands.channels import SubscriptionChange
from pushd.commands.context import Context
from pushd.dialect import Dialect
from pushd.dialects.kumulos import channels as kept
from pushd.dialects.kumulos import wire
from pushd.dialects.kumulos.fields import as_name
from pushd.errors import NotFoundError
from pushd.model.app import Role
from pushd.model.channel import SUBSCRIPTIONS_MAX, Channel
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

PORTAL_MAX = 1_000
"""Channels that are listed to everybody, the oldest ones."""
USERS = "/v1/users/"
"""Beginning of the paths of mobile SDKs, where the name is a user's, or that of an install without one."""


class Who(NamedTuple):
    """Whose channels are meant: one of both."""

    user: str | None
    install: str | None


async def listing(kumulos: Dialect, incoming: Incoming) -> Answer:
    """GET …/channels: those that are shown to everybody, and one's own."""
    caller = await wire.device(kumulos, incoming)
    own = await _own(kumulos.context, caller.app, await _who(kumulos.context, caller.app, incoming))
    portal = await channels.in_portal(kumulos.context, caller.app, limit=PORTAL_MAX)
    mine = {each.id for each in own}
    both = {each.id: each for each in (*portal, *own)}
    return wire.told([_shown(both[each], each in mine) for each in sorted(both)])


async def subscribe(kumulos: Dialect, incoming: Incoming) -> Answer:
    """POST …/channels/subscriptions."""
    return await _changed(kumulos, incoming, "subscribe")


async def unsubscribe(kumulos: Dialect, incoming: Incoming) -> Answer:
    """DELETE …/channels/subscriptions."""
    return await _changed(kumulos, incoming, "unsubscribe")


async def replace(kumulos: Dialect, incoming: Incoming) -> Answer:
    """PUT …/channels/subscriptions: these and no others; none of `{}`."""
    return await _changed(kumulos, incoming, "only")


async def create(kumulos: Dialect, incoming: Incoming) -> Answer:
    """POST /v1/channels: made, and at once subscribed to by whom the body names. Back ends may call it, too."""
    caller = await wire.either(kumulos, incoming)
    given = await wire.body(kumulos, incoming)
    user, install = given.text("userIdentifier"), given.text("installId")
    new = kept.new_of(given)
    who = None
    if user is not None:
        who = await _named(kumulos.context, caller.app, user)
    elif install is not None:
        await channels.of_install(kumulos.context, caller.app, install)
        who = Who(None, install)
    made = await kept.made_of(kumulos, caller.app, new)
    if who is not None:
        await _change(kumulos.context, caller.app, who, SubscriptionChange(subscribe=[made.uuid]))
    told = kept.shown(made, caller.app) if caller.role is Role.SERVER else {}
    return wire.told({**told, **_shown(made, who is not None)}, 201)


async def _changed(kumulos: Dialect, incoming: Incoming, name: str) -> Answer:
    caller = await wire.device(kumulos, incoming)
    given = await wire.body(kumulos, incoming)
    uuids = given.get("uuids")
    if uuids is None and name != "only":
        given.bad("uuids", "is required")
    elif uuids is not None and not (
        isinstance(uuids, list) and len(uuids) <= SUBSCRIPTIONS_MAX and all(as_name(each) for each in uuids)
    ):
        given.bad("uuids", f"is not a list of at most {SUBSCRIPTIONS_MAX} texts")
    given.check()
    names = list(dict.fromkeys(str(each) for each in uuids or ()))
    who = await _who(kumulos.context, caller.app, incoming)
    await _change(kumulos.context, caller.app, who, msgspec.structs.replace(SubscriptionChange(), **{name: names}))
    return wire.done()


async def _change(context: Context, app_id: int, who: Who, wanted: SubscriptionChange) -> None:
    try:
        if who.user is not None:
            await channels.change_of_user(context, app_id, who.user, wanted)
        elif who.install is not None:
            await channels.change_of_install(context, app_id, who.install, wanted)
    except NotFoundError:
        # Who asks was found before: what is not there is a channel (K9).
        raise NotFoundError("One or more of the channels were not found") from None


async def _who(context: Context, app_id: int, incoming: Incoming) -> Who:
    """Whom the path names; NotFoundError."""
    name = wire.path_text(incoming)
    if incoming.route.startswith(USERS):
        return await _named(context, app_id, name)
    await channels.of_install(context, app_id, name)
    return Who(None, name)


async def _named(context: Context, app_id: int, name: str) -> Who:
    """The user of a name, or the install that it is the id of; NotFoundError."""
    try:
        await channels.of_user(context, app_id, name)
    except NotFoundError:
        await channels.of_install(context, app_id, name)
        return Who(None, name)
    return Who(name, None)


async def _own(context: Context, app_id: int, who: Who) -> Sequence[Channel]:
    if who.user is not None:
        return await channels.of_user(context, app_id, who.user)
    return await channels.of_install(context, app_id, who.install or "")


def _shown(channel: Channel, subscribed: bool) -> dict[str, Any]:
    """A channel as SDKs read it: uuid and subscribed have to be there."""
    return {"uuid": channel.uuid, "name": channel.name, "subscribed": subscribed, "meta": channel.meta}
