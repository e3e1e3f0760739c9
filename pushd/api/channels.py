"""Channels over HTTP: /channels, who is subscribed, and the channels of one user or install."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, structs

from pushd.api.operation import EVERYONE, Listing, Operation, Page, Reply
from pushd.api.request import Request
from pushd.commands import channels
from pushd.commands.channels import SubscriptionChange, SubscriptionErrors
from pushd.commands.context import Context
from pushd.errors import ConflictError
from pushd.model.channel import SUBSCRIBERS_MAX, Channel, ChannelChange, ChannelWithDevices, NewChannel
from pushd.model.device import Text255
from pushd.web.caller import Caller

Names = Annotated[list[Text255], Meta(max_length=SUBSCRIBERS_MAX)]


class OneChannel(Struct, frozen=True):
    """A channel in the path."""

    uuid: Text255


class Subscribers(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whom to subscribe, or to take off: installs by install id, users by external id."""

    installs: Names = []
    users: Names = []


class SubscribersPage(Page, frozen=True, kw_only=True):
    """A page of who is subscribed to a channel in the path."""

    uuid: Text255
    of: Literal["users", "installs"] = "users"


class Subscriber(Struct, frozen=True):
    """Somebody who is subscribed."""

    name: str
    """The external id of a user, or the install id."""


class Unsubscribed(Struct, frozen=True):
    """Whom a request named in vain; everyone else it named is done."""

    errors: SubscriptionErrors


class OneUser(Struct, frozen=True):
    """A user in the path."""

    external_id: Text255


class OneInstall(Struct, frozen=True):
    """An install in the path."""

    install_id: Text255


class OwnChannels(Struct, frozen=True):
    """The channels of one user, or of one install itself."""

    items: list[Channel]


async def create(context: Context, caller: Caller, request: Request[NewChannel, None]) -> Channel:
    """POST /channels."""
    return await channels.create(context, caller.app, request.body)


async def listing(context: Context, caller: Caller, request: Request[None, Page]) -> Listing[Channel]:
    """GET /channels."""
    found = await channels.list_page(context, caller.app, after=request.after(), limit=request.limit)
    return request.listing(found, [channel.id for channel in found])


async def show(context: Context, caller: Caller, request: Request[None, OneChannel]) -> ChannelWithDevices:
    """GET /channels/{uuid}."""
    found = await channels.get(context, caller.app, request.params.uuid)
    return ChannelWithDevices(**structs.asdict(found), devices=channels.devices(context, caller.app, found))


async def subscribers(context: Context, caller: Caller, request: Request[None, SubscribersPage]) -> Listing[Subscriber]:
    """GET /channels/{uuid}/subscribers."""
    params = request.params
    found = await channels.subscribers(
        context, caller.app, params.uuid, params.of, after=request.after(), limit=request.limit
    )
    return request.listing([Subscriber(name) for _, name in found], [number for number, _ in found])


async def update(context: Context, caller: Caller, request: Request[ChannelChange, OneChannel]) -> Channel:
    """PATCH /channels/{uuid}."""
    return await channels.update(context, caller.app, request.params.uuid, request.body)


async def delete(context: Context, caller: Caller, request: Request[None, OneChannel]) -> None:
    """DELETE /channels/{uuid}."""
    await channels.delete(context, caller.app, request.params.uuid)


async def subscribe(context: Context, caller: Caller, request: Request[Subscribers, OneChannel]) -> Reply[object]:
    """POST /channels/{uuid}/subscribe."""
    return await _subscribe(context, caller, request, on=True)


async def unsubscribe(context: Context, caller: Caller, request: Request[Subscribers, OneChannel]) -> Reply[object]:
    """POST /channels/{uuid}/unsubscribe."""
    return await _subscribe(context, caller, request, on=False)


async def _subscribe(
    context: Context, caller: Caller, request: Request[Subscribers, OneChannel], *, on: bool
) -> Reply[object]:
    body = request.body
    errors = await channels.subscribe(
        context, caller.app, request.params.uuid, installs=body.installs, users=body.users, on=on
    )
    return Reply(Unsubscribed(errors), status=200) if errors else Reply(None, status=204)


async def of_user(context: Context, caller: Caller, request: Request[None, OneUser]) -> OwnChannels:
    """GET /users/{external_id}/channels."""
    return OwnChannels([*await channels.of_user(context, caller.app, request.params.external_id)])


async def change_of_user(
    context: Context, caller: Caller, request: Request[SubscriptionChange, OneUser]
) -> OwnChannels:
    """PATCH /users/{external_id}/channels."""
    found = await channels.change_of_user(context, caller.app, request.params.external_id, request.body)
    return OwnChannels([*found])


async def of_install(context: Context, caller: Caller, request: Request[None, OneInstall]) -> OwnChannels:
    """GET /installs/{install_id}/channels."""
    return OwnChannels([*await channels.of_install(context, caller.app, request.params.install_id)])


async def change_of_install(
    context: Context, caller: Caller, request: Request[SubscriptionChange, OneInstall]
) -> OwnChannels:
    """PATCH /installs/{install_id}/channels."""
    found = await channels.change_of_install(context, caller.app, request.params.install_id, request.body)
    return OwnChannels([*found])


_SUBSCRIBING = "204 when everyone could be; 200 with `errors` when some are not there, or have too many channels."

OPERATIONS = (
    Operation(
        name="createChannel",
        method="POST",
        path="/channels",
        tag="channels",
        summary="Makes a channel",
        description="A uuid is made up where none is given.",
        handler=create,
        body=NewChannel,
        answer=Channel,
        statuses=(201,),
        errors=(ConflictError,),
        example={"uuid": "news", "name": "News", "show_in_portal": True, "meta": {"colour": "red"}},
    ),
    Operation(
        name="listChannels",
        method="GET",
        path="/channels",
        tag="channels",
        summary="Channels, oldest first",
        handler=listing,
        params=Page,
        answer=Listing[Channel],
    ),
    Operation(
        name="getChannel",
        method="GET",
        path="/channels/{uuid}",
        tag="channels",
        summary="One channel",
        handler=show,
        params=OneChannel,
        answer=ChannelWithDevices,
    ),
    Operation(
        name="listSubscribers",
        method="GET",
        path="/channels/{uuid}/subscribers",
        tag="channels",
        summary="Who is subscribed to a channel",
        description="Users, or with `of=installs` the installs that are subscribed themselves, longest known first.",
        handler=subscribers,
        params=SubscribersPage,
        answer=Listing[Subscriber],
    ),
    Operation(
        name="updateChannel",
        method="PATCH",
        path="/channels/{uuid}",
        tag="channels",
        summary="Changes a channel",
        description="Absent fields stay. With another uuid it keeps its subscribers.",
        handler=update,
        params=OneChannel,
        body=ChannelChange,
        answer=Channel,
        errors=(ConflictError,),
        example={"name": "World news"},
    ),
    Operation(
        name="deleteChannel",
        method="DELETE",
        path="/channels/{uuid}",
        tag="channels",
        summary="Forgets a channel",
        description="No send may name it any more; everyone is taken off it in the background.",
        handler=delete,
        params=OneChannel,
        statuses=(204,),
    ),
    Operation(
        name="subscribe",
        method="POST",
        path="/channels/{uuid}/subscribe",
        tag="channels",
        summary="Subscribes installs and users to a channel",
        description="A user's subscription covers the devices that are registered later. " + _SUBSCRIBING,
        handler=subscribe,
        params=OneChannel,
        body=Subscribers,
        answer=Unsubscribed,
        statuses=(204, 200),
        example={"users": ["ada", "grace"]},
    ),
    Operation(
        name="unsubscribe",
        method="POST",
        path="/channels/{uuid}/unsubscribe",
        tag="channels",
        summary="Takes installs and users off a channel",
        description=_SUBSCRIBING,
        handler=unsubscribe,
        params=OneChannel,
        body=Subscribers,
        answer=Unsubscribed,
        statuses=(204, 200),
        example={"installs": ["6F1A"]},
    ),
    Operation(
        name="listChannelsOfUser",
        method="GET",
        path="/users/{external_id}/channels",
        tag="channels",
        summary="The channels that a user is subscribed to",
        handler=of_user,
        params=OneUser,
        answer=OwnChannels,
    ),
    Operation(
        name="changeChannelsOfUser",
        method="PATCH",
        path="/users/{external_id}/channels",
        tag="channels",
        summary="Subscribes a user to some channels and takes him off others",
        description="`only` replaces what he is subscribed to.",
        handler=change_of_user,
        params=OneUser,
        body=SubscriptionChange,
        answer=OwnChannels,
        errors=(ConflictError,),
        example={"subscribe": ["news"], "unsubscribe": ["sports"]},
    ),
    Operation(
        name="listChannelsOfInstall",
        method="GET",
        path="/installs/{install_id}/channels",
        tag="channels",
        summary="The channels that an install is subscribed to itself",
        handler=of_install,
        roles=EVERYONE,
        params=OneInstall,
        answer=OwnChannels,
    ),
    Operation(
        name="changeChannelsOfInstall",
        method="PATCH",
        path="/installs/{install_id}/channels",
        tag="channels",
        summary="Subscribes an install to some channels and takes it off others",
        description="`only` replaces what it is subscribed to. Its user's subscriptions are not its own.",
        handler=change_of_install,
        roles=EVERYONE,
        params=OneInstall,
        body=SubscriptionChange,
        answer=OwnChannels,
        errors=(ConflictError,),
        example={"only": ["news"]},
    ),
)
