"""Locations: reported by devices, read, and forgotten."""

from __future__ import annotations

from msgspec import Struct

from pushd.commands import devices
from pushd.commands.context import Context
from pushd.errors import Fault, InvalidRequestError, NotFoundError
from pushd.model.geofence import Location, LocationReport
from pushd.store.locations import Report
from pushd.targeting.geometry import place


class Kept(Struct, frozen=True):
    """What a report came to."""

    kept: bool
    """False: something newer is known, or the report is older than locations are kept."""


async def report(
    context: Context, app_id: int, device_id: int, wanted: LocationReport, *, install_id: str | None = None
) -> Kept:
    """Whether this is now where the device's install is, committed. InvalidRequestError, NotFoundError."""
    limits, now = context.config.places, context.clock.now()
    at = now if wanted.at is None else wanted.at
    if at > now + limits.location_ahead_s:
        raise InvalidRequestError(faults=[Fault("/at", "lies in the future")])
    too_old = limits.location_keep_s and at < now - limits.location_keep_s
    if too_old:
        await devices.get(context, app_id, device_id, install_id=install_id)
        return Kept(False)
    spot = place(wanted.latitude, wanted.longitude)
    return await context.whole(
        _report(context, Report(app_id, device_id, spot, wanted.accuracy, min(at, now), install_id))
    )


async def get(context: Context, app_id: int, device_id: int, *, install_id: str | None = None) -> Location:
    """Where the device's install was last; NotFoundError, also when that is not known."""
    await devices.get(context, app_id, device_id, install_id=install_id)
    found = await context.store.locations.get(app_id, device_id)
    if found is None:
        raise NotFoundError("It is not known where this device is")
    return found


async def forget(context: Context, app_id: int, device_id: int, *, install_id: str | None = None) -> None:
    """Nothing, once it is forgotten where the device's install was. NotFoundError: there is no such device."""
    await devices.get(context, app_id, device_id, install_id=install_id)
    await context.whole(_forget(context, app_id, device_id))


async def _report(context: Context, wanted: Report) -> Kept:
    done = await context.store.locations.put(wanted)
    context.index.apply_locations(done.rows)
    return Kept(done.kept)


async def _forget(context: Context, app_id: int, device_id: int) -> None:
    context.index.forget_locations(await context.store.locations.forget(app_id, device_id))
