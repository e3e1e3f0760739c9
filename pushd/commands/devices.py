"""Devices: registered singly and in bulk, read, listed, changed and deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from pushd.commands.context import Context
from pushd.commands.registration import check, check_attributes
from pushd.commands.subscriptions import PushRules
from pushd.credentials.vapid_keys import current_fingerprint
from pushd.errors import Fault, InvalidRequestError, NotFoundError
from pushd.model.credential import VapidKeys
from pushd.model.device import (
    Country,
    Device,
    Locale,
    Platform,
    Registration,
    Route,
    Tag,
    Text255,
    TimeZone,
    Version,
)
from pushd.model.rows import DeviceFlag, DeviceRows

PLACED_ROWS = 128
"""New devices whose places are taken in at once: some 10 ms where they are in fences."""


class DeviceChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What may change of a device without a registration: absent fields stay, `null` clears."""

    push_enabled: bool | UnsetType = UNSET
    in_app_consent: bool | UnsetType = UNSET
    user_id: Text255 | UnsetType | None = UNSET
    tags: Annotated[list[Tag], Meta(max_length=1000)] | UnsetType = UNSET
    platform: Platform | UnsetType | None = UNSET
    locale: Locale | UnsetType | None = UNSET
    time_zone: TimeZone | UnsetType | None = UNSET
    app_version: Version | UnsetType | None = UNSET
    os_version: Version | UnsetType | None = UNSET
    country: Country | UnsetType | None = UNSET
    alias: Text255 | UnsetType | None = UNSET


async def register(context: Context, app_id: int, registration: Registration) -> Device:
    """The device of this address; created when new. InvalidRequestError."""
    good, bad = check([registration], rules(context, app_id))
    if bad:
        raise InvalidRequestError("The registration is not valid", faults=bad[0])
    (device_id,) = await context.whole(_register(context, app_id, good))
    return await get(context, app_id, device_id)


async def register_many(
    context: Context, app_id: int, registrations: Sequence[Registration]
) -> tuple[list[int], dict[int, list[Fault]]]:
    """Ids of the devices that were registered, in order; and the faults of those that were not, by position.

    Calls of one app are written one after the other, in the order in which they were begun.
    """
    checked, bad = check(registrations, rules(context, app_id))
    good = [each for row, each in enumerate(checked) if row not in bad] if bad else checked
    return (await context.whole(_register(context, app_id, good, in_turn=True)) if good else []), bad


async def get(context: Context, app_id: int, device_id: int, *, install_id: str | None = None) -> Device:
    """The device; NotFoundError, also when it is not of the install that the caller had to name."""
    device = await context.store.devices.get(app_id, device_id)
    if device is None or install_id not in (None, device.install_id):
        raise NotFoundError("There is no such device")
    return device


async def list_page(
    context: Context, app_id: int, *, after: int, limit: int, install_id: str | None = None, user_id: str | None = None
) -> list[Device]:
    """Devices with ids above `after`, ascending; of one install or one user where these are named."""
    return [*await context.store.devices.list(app_id, after, limit, install_id=install_id, user_id=user_id)]


async def change(
    context: Context, app_id: int, device_id: int, wanted: DeviceChange, *, install_id: str | None = None
) -> Device:
    """The device after the change; all but its address is its install's. NotFoundError, InvalidRequestError."""
    device = await get(context, app_id, device_id, install_id=install_id)
    fields = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
    registration = Registration(
        install_id=device.install_id, kind=device.kind, environment=device.environment, **fields
    )
    if faults := check_attributes(registration):
        raise InvalidRequestError("The change is not valid", faults=faults)
    await context.whole(_register(context, app_id, [registration]))
    return await get(context, app_id, device_id, install_id=install_id)


async def delete(context: Context, app_id: int, device_id: int, *, install_id: str | None = None) -> None:
    """Nothing, once the device is gone; its id is never used again. NotFoundError."""
    await get(context, app_id, device_id, install_id=install_id)
    await context.whole(_delete(context, app_id, device_id))


def rules(context: Context, app_id: int) -> PushRules:
    """What subscriptions of an app are checked with; its key is looked up once, when one needs it."""
    known: dict[tuple[str, str], str] = {}

    def current_key(registration: Registration) -> str:
        bundle = registration.bundle if isinstance(registration.bundle, str) else ""
        place = registration.environment.value, bundle
        if place not in known:
            route = Route(app_id, registration.kind, registration.environment, bundle)
            credential_id = context.keyring.find(route)
            secret = None if credential_id is None else context.keyring.secret(credential_id)
            known[place] = current_fingerprint(secret) if isinstance(secret, VapidKeys) else ""
        return known[place]

    return PushRules(context.guard, app_id, current_key)


async def _register(
    context: Context, app_id: int, registrations: list[Registration], *, in_turn: bool = False
) -> list[int]:
    done = await context.store.devices.register_many(app_id, registrations, context.clock.now(), in_turn=in_turn)
    await context.index.take_in(users=done.users, devices=done.rows)
    await settle_in(context, app_id, done.rows)
    ids: list[int] = done.ids.tolist()
    return ids


async def settle_in(context: Context, app_id: int, rows: DeviceRows) -> None:
    """Nothing, once devices that are new on installs whose place is known are there too."""
    app = context.index.places.app(app_id)
    if app is None or not app.located:
        return
    fresh = rows.ids[(rows.revisions == 1) & (rows.flags & DeviceFlag.DELETED == 0)]
    for at in range(0, len(fresh), PLACED_ROWS):
        found = await context.store.locations.images(fresh[at : at + PLACED_ROWS])
        context.index.apply_locations(found)


async def _delete(context: Context, app_id: int, device_id: int) -> None:
    context.index.apply_devices(await context.store.devices.delete_many(app_id, [device_id], context.clock.now()))
