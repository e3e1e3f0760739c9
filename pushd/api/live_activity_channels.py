"""Broadcast channels of Live Activities over HTTP: /live-activity-channels."""

from __future__ import annotations

from msgspec import Struct

from pushd.api.operation import Listing, Operation, Page, Reply
from pushd.api.request import Request
from pushd.commands import live_activity_channels as channels
from pushd.commands.context import Context
from pushd.errors import ConflictError, IdempotencyMismatchError, NotFoundError, UnavailableError
from pushd.model.device import DeviceId, Environment
from pushd.model.live_activity import BundleId, LiveActivityChannel, LiveActivityChannelBody
from pushd.web.caller import Caller


class OneChannel(Struct, frozen=True):
    """A channel in the path, by the id of its device."""

    channel: DeviceId


class ChannelsPage(Page, frozen=True):
    """Which channels to list."""

    bundle: BundleId | None = None
    environment: Environment | None = None


async def create(
    context: Context, caller: Caller, request: Request[LiveActivityChannelBody, None]
) -> Reply[LiveActivityChannel]:
    """POST /live-activity-channels."""
    made, replayed = await channels.create(context, caller.app, request.body, request.idempotency())
    return Reply(made, headers={"Idempotency-Replayed": "true"} if replayed else {})


async def listing(
    context: Context, caller: Caller, request: Request[None, ChannelsPage]
) -> Listing[LiveActivityChannel]:
    """GET /live-activity-channels."""
    found = await channels.list_page(
        context,
        caller.app,
        after=request.after(),
        limit=request.limit,
        bundle=request.params.bundle,
        environment=request.params.environment,
    )
    return request.listing(found, [each.id for each in found])


async def show(context: Context, caller: Caller, request: Request[None, OneChannel]) -> LiveActivityChannel:
    """GET /live-activity-channels/{channel}."""
    return await channels.get(context, caller.app, request.params.channel)


async def delete(context: Context, caller: Caller, request: Request[None, OneChannel]) -> None:
    """DELETE /live-activity-channels/{channel}."""
    await channels.delete(context, caller.app, request.params.channel)


OPERATIONS = (
    Operation(
        name="createLiveActivityChannel",
        method="POST",
        path="/live-activity-channels",
        tag="live activities",
        summary="Makes a broadcast channel at Apple",
        description="One push to a channel updates the Live Activities of everyone who subscribed to it (iOS 18). The "
        "answer's `id` is a device's: name it in the audience of a message with `push_type` `channel`. With "
        "`channel_id` a channel that Apple has already is taken over. A bundle has 10,000 channels at most in each "
        "environment.",
        handler=create,
        body=LiveActivityChannelBody,
        answer=LiveActivityChannel,
        statuses=(201,),
        errors=(ConflictError, IdempotencyMismatchError, NotFoundError, UnavailableError),
        idempotent=True,
        example={"bundle": "com.example.orchard", "environment": "production", "stores": True},
    ),
    Operation(
        name="listLiveActivityChannels",
        method="GET",
        path="/live-activity-channels",
        tag="live activities",
        summary="Broadcast channels, oldest first, compared with Apple's",
        description="`at_apple` is false for channels that Apple does not know, and null where Apple could not be "
        "asked.",
        handler=listing,
        params=ChannelsPage,
        answer=Listing[LiveActivityChannel],
    ),
    Operation(
        name="getLiveActivityChannel",
        method="GET",
        path="/live-activity-channels/{channel}",
        tag="live activities",
        summary="One broadcast channel, compared with Apple's",
        handler=show,
        params=OneChannel,
        answer=LiveActivityChannel,
    ),
    Operation(
        name="deleteLiveActivityChannel",
        method="DELETE",
        path="/live-activity-channels/{channel}",
        tag="live activities",
        summary="Deletes a broadcast channel, at Apple and here",
        description="One that Apple does not know any more is forgotten here.",
        handler=delete,
        params=OneChannel,
        statuses=(204,),
        errors=(ConflictError, UnavailableError),
    ),
)
