"""Geofences: made, changed, read, listed and deleted; and who is in them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import orjson
from msgspec import UNSET, Struct, UnsetType

from pushd.commands.context import Context
from pushd.commands.text import check_text
from pushd.content.check import validate
from pushd.errors import ConflictError, Fault, InvalidRequestError, NotFoundError
from pushd.model.audience import DeviceIds
from pushd.model.geofence import Geofence, GeofenceChange, NewGeofence, Trigger
from pushd.store.store import Store
from pushd.targeting.fences import shape_in
from pushd.targeting.geojson import shape_of
from pushd.targeting.index import Index
from pushd.targeting.presence import Presence

SLICE_S = 0.005
"""Of looking through who is in a fence, before others get their turn."""


class GeofenceView(Struct, frozen=True, kw_only=True):
    """A geofence as the API shows it."""

    id: int
    name: str
    bounds: dict[str, Any]
    enabled: bool
    tags: list[str]
    on_enter: Trigger | None
    on_exit: Trigger | None
    activation_count: int
    """How often an install has entered it."""
    active_users: int
    """Users in it now, and installs that belong to none."""
    evaluating: bool
    """True for as long as it is worked out who is in its new bounds; audiences see the old ones until then."""
    created_at: float
    updated_at: float


class GeofenceStats(Struct, frozen=True, kw_only=True):
    """What happens in a geofence."""

    activation_count: int
    exit_count: int
    last_activated_at: float | None
    active_users: int
    active_devices: int


async def create(context: Context, app_id: int, wanted: NewGeofence) -> GeofenceView:
    """The new geofence. InvalidRequestError; ConflictError when the app has as many as it may, or as long ones."""
    fields = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
    change = GeofenceChange(**fields)
    await _check(context, app_id, change)
    await _check_room(context, app_id, 0, change)
    most = context.config.places.geofences_per_app_max
    made = await context.whole(_create(context, app_id, change, most))
    if made is None:
        raise ConflictError(f"The app has {most:,} geofences: no more are allowed")
    return await get(context, app_id, made)


async def get(context: Context, app_id: int, geofence_id: int) -> GeofenceView:
    """The geofence; NotFoundError."""
    return await _view(context, await _stored(context, app_id, geofence_id))


async def list_page(context: Context, app_id: int, *, after: int, limit: int) -> list[GeofenceView]:
    """Geofences with ids above `after`, ascending."""
    return [await _view(context, each) for each in await context.store.geofences.list(app_id, after, limit)]


async def update(context: Context, app_id: int, geofence_id: int, wanted: GeofenceChange) -> GeofenceView:
    """The geofence after the change; who is in new bounds is worked out in the background.

    InvalidRequestError, NotFoundError, ConflictError.
    """
    await _check(context, app_id, wanted)
    await _check_room(context, app_id, geofence_id, wanted)
    if not await context.whole(_change(context, app_id, geofence_id, wanted)):
        raise NotFoundError("There is no such geofence")
    return await get(context, app_id, geofence_id)


async def delete(context: Context, app_id: int, geofence_id: int) -> None:
    """Nothing, once the geofence is gone, with what its crossings had still to send. NotFoundError."""
    if not await context.whole(_delete(context, app_id, geofence_id)):
        raise NotFoundError("There is no such geofence")


async def stats(context: Context, app_id: int, geofence_id: int) -> GeofenceStats:
    """What has happened in a geofence, and who is in it; NotFoundError."""
    stored = await _stored(context, app_id, geofence_id)
    there = await _presence(context, app_id, geofence_id)
    return GeofenceStats(
        activation_count=stored.activation_count,
        exit_count=stored.exit_count,
        last_activated_at=stored.last_activated_at,
        active_users=there.users,
        active_devices=there.devices,
    )


async def refresh(store: Store, index: Index, ids: Sequence[int]) -> None:
    """Nothing, once the index knows these geofences as they are now, or as gone."""
    images = await store.geofences.images(ids)
    for geofence_id in set(ids) - {image.id for image in images}:
        index.remove_geofence(geofence_id)
    for image in images:
        shape = await asyncio.to_thread(shape_in, image) if index.places.lacks_shape(image) else None
        index.define_geofence(replace(image, shape=shape))
        await asyncio.sleep(0)


async def _create(context: Context, app_id: int, wanted: GeofenceChange, most: int) -> int | None:
    made = await context.store.geofences.create(app_id, wanted, most)
    if made is not None:
        await refresh(context.store, context.index, [made])
    return made


async def _change(context: Context, app_id: int, geofence_id: int, wanted: GeofenceChange) -> bool:
    changed = await context.store.geofences.change(app_id, geofence_id, wanted)
    if changed:
        await refresh(context.store, context.index, [geofence_id])
    return changed


async def _delete(context: Context, app_id: int, geofence_id: int) -> bool:
    deleted = await context.store.geofences.delete(app_id, geofence_id)
    if deleted:
        context.index.remove_geofence(geofence_id)
    return deleted


async def _stored(context: Context, app_id: int, geofence_id: int) -> Geofence:
    found = await context.store.geofences.get(app_id, geofence_id)
    if found is None:
        raise NotFoundError("There is no such geofence")
    return found


async def _view(context: Context, stored: Geofence) -> GeofenceView:
    app = context.index.places.app(stored.app_id)
    there = await _presence(context, stored.app_id, stored.id)
    return GeofenceView(
        id=stored.id,
        name=stored.name,
        bounds=stored.bounds,
        enabled=stored.enabled,
        tags=stored.tags,
        on_enter=stored.on_enter,
        on_exit=stored.on_exit,
        activation_count=stored.activation_count,
        active_users=there.users,
        evaluating=app is not None and stored.id in app.coming,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
    )


async def _presence(context: Context, app_id: int, geofence_id: int) -> Presence:
    steps = context.index.presence(app_id, geofence_id)
    begun = perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            there: Presence = end.value
            return there
        if perf_counter() - begun > SLICE_S:
            await asyncio.sleep(0)
            begun = perf_counter()


async def _check(context: Context, app_id: int, wanted: GeofenceChange) -> None:
    check_text(wanted)
    if wanted.tags is not UNSET:
        folded = [tag.casefold() for tag in wanted.tags]
        if len(set(folded)) < len(folded):
            twice = next(at for at, tag in enumerate(folded) if tag in folded[:at])
            raise InvalidRequestError(faults=[Fault(f"/tags/{twice}", "is there twice")])
    if wanted.bounds is not UNSET:
        limits = context.config.places
        if len(orjson.dumps(wanted.bounds)) > limits.bounds_bytes_max:
            raise InvalidRequestError(faults=[Fault("/bounds", f"is longer than {limits.bounds_bytes_max:,} bytes")])
        check = partial(shape_of, vertices_max=limits.vertices_max, radius_max_m=limits.radius_max_m)
        await asyncio.to_thread(check, wanted.bounds)
    for name, trigger in (("on_enter", wanted.on_enter), ("on_exit", wanted.on_exit)):
        await _check_trigger(context, app_id, name, trigger)


async def _check_room(context: Context, app_id: int, geofence_id: int, wanted: GeofenceChange) -> None:
    """Returns when the bounds of the app's geofences, with these, are not longer than they may be together."""
    if wanted.bounds is UNSET:
        return
    most = context.config.places.bounds_bytes_per_app_max
    if await context.store.geofences.bounds_bytes(app_id, geofence_id) + len(orjson.dumps(wanted.bounds)) > most:
        raise ConflictError(f"The bounds of the app's geofences may have {most:,} bytes together")


async def _check_trigger(context: Context, app_id: int, name: str, trigger: Trigger | UnsetType | None) -> None:
    """Nothing, when the send could be accepted now; InvalidRequestError with its faults at their places."""
    if trigger is UNSET or trigger is None:
        return
    app = await context.store.apps.get(app_id)
    if app is None:
        raise NotFoundError("There is no such app")
    send = trigger.send(DeviceIds(ids=[1]))
    try:
        validate(send, app.settings, context.keyring.gateways(app_id), shapes=context.index.shapes(app_id))
    except InvalidRequestError as error:
        faults = [Fault(f"/{name}{fault.pointer}", fault.detail) for fault in error.faults]
        raise InvalidRequestError(error.detail, faults=faults) from None
