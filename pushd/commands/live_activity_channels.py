"""Broadcast channels of Live Activities: made at Apple and kept as devices, compared with what Apple knows, deleted."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import structlog

from pushd.commands import devices
from pushd.commands.context import Context
from pushd.commands.registration import channel_install
from pushd.errors import ConflictError, Fault, InvalidRequestError, NotFoundError, PushdError, UnavailableError
from pushd.gateways.apns import ApnsGateway
from pushd.gateways.apns_channels import ChannelManagement, Place
from pushd.model.device import Environment, GatewayName, Kind, Registration, Route
from pushd.model.live_activity import LiveActivityChannel, LiveActivityChannelBody
from pushd.store.fold import ENVIRONMENT_NUMBERS

log = structlog.get_logger(__name__)

PLACES_MAX = 16
"""Bundles and environments of one page that Apple is asked about; channels of others are shown unasked."""


async def create(
    context: Context, app_id: int, wanted: LiveActivityChannelBody, idempotency: tuple[str, bytes] | None = None
) -> tuple[LiveActivityChannel, bool]:
    """The channel, known to Apple and to audiences; and whether the same key had brought it before.

    ConflictError: no credential for the bundle, no capability, too many channels. NotFoundError: Apple has no channel
    of the id that was given. InvalidRequestError, IdempotencyMismatchError, UnavailableError.
    """
    if idempotency is not None:
        known = await context.store.live_activity_channels.find(app_id, *idempotency)
        if known is not None:
            return known, True
    return await context.whole(_create(context, app_id, wanted, idempotency))


async def list_page(
    context: Context,
    app_id: int,
    *,
    after: int,
    limit: int,
    bundle: str | None = None,
    environment: Environment | None = None,
) -> list[LiveActivityChannel]:
    """Channels with ids above `after`, ascending, each with whether Apple knows it, as far as Apple could be asked."""
    number = None if environment is None else ENVIRONMENT_NUMBERS[environment]
    store = context.store.live_activity_channels
    found = await store.list(app_id, after, limit, bundle=bundle, environment=number)
    wheres = list(dict.fromkeys((each.environment, each.bundle) for each in found))[:PLACES_MAX]
    lists = await asyncio.gather(*(_known_to_apple(context, app_id, *where) for where in wheres))
    known = dict(zip(wheres, lists, strict=True))
    return [_compared(each, known.get((each.environment, each.bundle))) for each in found]


async def get(context: Context, app_id: int, device_id: int) -> LiveActivityChannel:
    """The channel, with whether Apple knows it, where Apple could be asked. NotFoundError."""
    channel = await _kept(context, app_id, device_id)
    try:
        stores = await _management(context).read(_place(context, app_id, channel), channel.channel_id)
    except (ConflictError, UnavailableError) as error:
        log.info("channel_not_compared", app=app_id, device=device_id, why=error.detail)
        return channel
    if stores is None:
        return msgspec.structs.replace(channel, at_apple=False)
    return msgspec.structs.replace(channel, at_apple=True, stores=stores)


async def delete(context: Context, app_id: int, device_id: int) -> None:
    """Nothing, once the channel is gone, at Apple and here. NotFoundError, ConflictError, UnavailableError."""
    channel = await _kept(context, app_id, device_id)
    await context.whole(_delete(context, app_id, channel))


async def _create(
    context: Context, app_id: int, wanted: LiveActivityChannelBody, idempotency: tuple[str, bytes] | None
) -> tuple[LiveActivityChannel, bool]:
    management, place = _management(context), _place(context, app_id, wanted)
    if wanted.channel_id is not None:
        channel_id, stores = wanted.channel_id, await _read(management, place, wanted.channel_id)
        return await _keep(context, app_id, wanted, channel_id, stores, idempotency), False
    channel_id = await management.create(place, stores=wanted.stores)
    try:
        kept = await _keep(context, app_id, wanted, channel_id, wanted.stores, idempotency)
    except PushdError:
        await _undo(management, place, channel_id)
        raise
    if kept.channel_id == channel_id:
        return kept, False
    # The same request came twice at once, and the other one was first.
    await _undo(management, place, channel_id)
    return kept, True


async def _keep(
    context: Context,
    app_id: int,
    wanted: LiveActivityChannelBody,
    channel_id: str,
    stores: bool,
    idempotency: tuple[str, bytes] | None,
) -> LiveActivityChannel:
    """The channel as a device and with what devices do not say; another one, if its key brought that first."""
    registration = Registration(
        install_id=channel_install(channel_id),
        kind=Kind.APNS_CHANNEL,
        token=channel_id,
        environment=wanted.environment,
        bundle=wanted.bundle,
    )
    device = await devices.register(context, app_id, registration)
    channel = LiveActivityChannel(
        id=device.id,
        channel_id=channel_id,
        bundle=wanted.bundle,
        environment=wanted.environment,
        stores=stores,
        reachable=device.reachable,
        created_at=context.clock.now(),
    )
    kept = await context.store.live_activity_channels.put(app_id, channel, idempotency)
    if kept.id != channel.id:
        await devices.delete(context, app_id, channel.id)
        return kept
    return msgspec.structs.replace(kept, at_apple=True)


async def _undo(management: ChannelManagement, place: Place, channel_id: str) -> None:
    """Takes back what was made at Apple and is not kept here; where that fails, Apple's own list still shows it."""
    try:
        await management.delete(place, channel_id)
    except PushdError as error:
        log.warning("channel_left_at_apple", bundle=place.bundle, environment=place.environment, why=error.detail)


async def _read(management: ChannelManagement, place: Place, channel_id: str) -> bool:
    try:
        stores = await management.read(place, channel_id)
    except ValueError as error:
        raise InvalidRequestError(faults=[Fault("/channel_id", str(error))]) from None
    if stores is None:
        raise NotFoundError("Apple has no such channel for this bundle and environment")
    return stores


async def _delete(context: Context, app_id: int, channel: LiveActivityChannel) -> None:
    if not await _management(context).delete(_place(context, app_id, channel), channel.channel_id):
        log.info("channel_was_gone", app=app_id, device=channel.id)
    with suppress(NotFoundError):  # somebody may have deleted the device before its channel
        await devices.delete(context, app_id, channel.id)
    await context.store.live_activity_channels.delete(app_id, channel.id)


async def _known_to_apple(
    context: Context, app_id: int, environment: Environment, bundle: str
) -> frozenset[str] | None:
    """Every channel of a bundle at Apple; None where Apple could not be asked."""
    wanted = LiveActivityChannelBody(bundle=bundle, environment=environment)
    try:
        return frozenset(await _management(context).list(_place(context, app_id, wanted)))
    except (ConflictError, UnavailableError) as error:
        log.info("channels_not_compared", app=app_id, bundle=bundle, why=error.detail)
        return None


def _compared(channel: LiveActivityChannel, known: frozenset[str] | None) -> LiveActivityChannel:
    return channel if known is None else msgspec.structs.replace(channel, at_apple=channel.channel_id in known)


async def _kept(context: Context, app_id: int, device_id: int) -> LiveActivityChannel:
    channel = await context.store.live_activity_channels.get(app_id, device_id)
    if channel is None:
        raise NotFoundError("There is no such channel")
    return channel


def _management(context: Context) -> ChannelManagement:
    gateway = context.gateways.get(GatewayName.APNS)
    if not isinstance(gateway, ApnsGateway):
        raise UnavailableError("This daemon does not send to APNs")
    return gateway.channels


def _place(context: Context, app_id: int, channel: LiveActivityChannel | LiveActivityChannelBody) -> Place:
    """Where a channel is managed; ConflictError where the app has no credential for it."""
    route = Route(app_id, Kind.APNS_CHANNEL, channel.environment, channel.bundle)
    credential_id = context.keyring.find(route)
    if credential_id is None:
        detail = f"The app has no APNs credential for {channel.bundle} in {channel.environment.value}"
        raise ConflictError(detail)
    return Place(credential_id, channel.environment, channel.bundle)
