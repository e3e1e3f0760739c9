"""Channels of Kumulos's as back ends keep them: made, changed and deleted, and who is subscribed."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from pushd.commands import channels, imports
from pushd.dialect import Dialect
from pushd.dialects.kumulos import wire
from pushd.dialects.kumulos.fields import Fields, wrong
from pushd.errors import ConflictError, NotFoundError
from pushd.model.channel import SUBSCRIBERS_MAX, Channel, ChannelChange, NewChannel
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming
from pushd.web.upload import FORM

CSV = "text/csv"
FILE_TYPES = frozenset({FORM, CSV, "application/octet-stream"})
_ERRORS = {
    "unknownInstallIds": "unknown_installs",
    "unknownUserIds": "unknown_users",
    "fullInstallIds": "full_installs",
    "fullUserIds": "full_users",
}
"""The last two are ours: they have as many channels as one may have."""


async def create(kumulos: Dialect, incoming: Incoming) -> Answer:
    """POST /channels."""
    caller = await wire.server(kumulos, incoming)
    made = await made_of(kumulos, caller.app, new_of(await wire.body(kumulos, incoming)))
    return wire.told(shown(made, caller.app), 201)


async def change(kumulos: Dialect, incoming: Incoming) -> Answer:
    """PUT /channels/{id}."""
    caller = await wire.server(kumulos, incoming)
    number = wire.path_number(incoming, "channel")
    given = await wire.body(kumulos, incoming)
    uuid, name, show = given.text("uuid"), given.text("name", empty=True), given.truth("showInPortal")
    meta = given.object("meta")
    given.check()
    wanted = ChannelChange(
        uuid=UNSET if uuid is None else uuid,
        name=UNSET if name is None else name,
        show_in_portal=UNSET if show is None else show,
        meta=meta if "meta" in given.given else UNSET,
    )
    try:
        made = await channels.update(kumulos.context, caller.app, number, wanted)
    except ConflictError as error:
        raise wrong("uuid", _lower(error.detail)) from None
    return wire.told(shown(made, caller.app))


async def delete(kumulos: Dialect, incoming: Incoming) -> Answer:
    """DELETE /channels/{id}."""
    caller = await wire.server(kumulos, incoming)
    await channels.delete(kumulos.context, caller.app, wire.path_number(incoming, "channel"))
    return wire.done()


async def subscribe(kumulos: Dialect, incoming: Incoming) -> Answer:
    """POST /v2/channels/{uuid}/subscriptions."""
    return await _subscribed(kumulos, incoming, on=True)


async def unsubscribe(kumulos: Dialect, incoming: Incoming) -> Answer:
    """DELETE /v2/channels/{uuid}/subscriptions, which has a body."""
    return await _subscribed(kumulos, incoming, on=False)


async def subscribe_file(kumulos: Dialect, incoming: Incoming) -> Answer:
    """POST /v2/channels/{uuid}/subscribers-file: in whichever field of the form the file is."""
    caller = await wire.server(kumulos, incoming)
    uuid = wire.path_text(incoming)
    await channels.get(kumulos.context, caller.app, uuid)
    config = kumulos.context.config
    most = config.imports.part_bytes_max * config.imports.parts_max
    upload = await incoming.upload(types=FILE_TYPES, bytes_max=most, idle_s=config.http.body_timeout_s)
    chunks = upload.chunks(suffix=".csv", types=frozenset({CSV}))
    await imports.subscribers_file(kumulos.context, caller.app, uuid, chunks)
    return wire.told({}, 202)


def new_of(given: Fields) -> NewChannel:
    """The channel that a body describes; InvalidRequestError."""
    uuid = given.text("uuid", required=True)
    name, show = given.text("name", empty=True), given.truth("showInPortal")
    meta = given.object("meta")
    if show and not name:
        given.bad("name", "is required of a channel that is shown in the portal")
    given.check()
    return NewChannel(uuid=uuid, name=name or "", show_in_portal=bool(show), meta=meta)


async def made_of(kumulos: Dialect, app_id: int, new: NewChannel) -> Channel:
    """The new channel; InvalidRequestError where its uuid is taken."""
    try:
        return await channels.create(kumulos.context, app_id, new)
    except ConflictError as error:
        raise wrong("uuid", _lower(error.detail)) from None


def shown(channel: Channel, app_id: int) -> dict[str, Any]:
    """A channel as back ends are told of it."""
    return {
        "appId": app_id,
        "uuid": channel.uuid,
        "name": channel.name,
        "showInPortal": channel.show_in_portal,
        "meta": channel.meta,
        "updatedAt": wire.plain(channel.updated_at),
        "createdAt": wire.plain(channel.created_at),
        "id": channel.id,
    }


async def _subscribed(kumulos: Dialect, incoming: Incoming, *, on: bool) -> Answer:
    caller = await wire.server(kumulos, incoming)
    uuid = wire.path_text(incoming)
    given = await wire.body(kumulos, incoming)
    installs, users = given.names("installIds", SUBSCRIBERS_MAX), given.names("userIds", SUBSCRIBERS_MAX)
    if not installs and not users and not given.faults:
        given.bad("installIds", "is required, or userIds")
    given.check()
    try:
        errors = await channels.subscribe(
            kumulos.context,
            caller.app,
            uuid,
            installs=list(dict.fromkeys(installs)),
            users=list(dict.fromkeys(users)),
            on=on,
        )
    except NotFoundError:
        raise NotFoundError("Channel not found") from None
    if not errors:
        return wire.done()
    said = {name: each for key in ("installIds", "userIds") for name, each in _spelt(given.get(key)).items()}
    found = msgspec.to_builtins(errors)
    told = {name: [said[each] for each in found[own]] for name, own in _ERRORS.items() if found.get(own)}
    return wire.told({"errors": told})


def _spelt(given: Any) -> dict[str, Any]:
    return {str(each): each for each in given} if isinstance(given, list) else {}


def _lower(detail: str) -> str:
    return detail[:1].lower() + detail[1:]
