"""What a batch of events does: the install registered, changed and unsubscribed, what it reports, and where it is."""

from __future__ import annotations

from collections.abc import Coroutine
from itertools import groupby
from typing import Any

import msgspec
from msgspec import UNSET

from pushd.commands import apps, devices, inbox, installs, locations, receipts, users
from pushd.commands.context import Context
from pushd.commands.inbox import Owner
from pushd.commands.registration import check_attributes
from pushd.dialect import Dialect
from pushd.dialects.kumulos import events, wire
from pushd.dialects.kumulos.events import PLATFORMS, Act, Address, Batch, Change, Gone
from pushd.errors import PushdError
from pushd.model.device import Device, Environment, Kind, Registration, Shape
from pushd.model.geofence import LocationReport
from pushd.model.in_app import InboxReport
from pushd.web.answer import Answer
from pushd.web.caller import Caller
from pushd.web.incoming import Incoming

ADDRESSES_MAX = 100
"""Of one install that are looked at: it has one of each kind."""


async def take(kumulos: Dialect, incoming: Incoming) -> Answer:
    """POST /v1/app-installs/{installId}/events: 202, whatever stands in it; a body that is no list is refused."""
    caller = await wire.device(kumulos, incoming)
    install_id = wire.path_text(incoming)
    given = wire.elements(await wire.raw(kumulos, incoming))
    await _apply(kumulos.context, caller, install_id, events.parse(given))
    return wire.told({}, 202)


async def put(kumulos: Dialect, incoming: Incoming) -> Answer:
    """PUT /v1/app-installs/{installId}: how SDKs of old tell what an install is."""
    caller = await wire.device(kumulos, incoming)
    install_id = wire.path_text(incoming)
    given = await wire.body(kumulos, incoming)
    await _apply(kumulos.context, caller, install_id, Batch(acts=[events.tracked(dict(given.given))]))
    return wire.told({})


async def _apply(context: Context, caller: Caller, install_id: str, batch: Batch) -> None:
    if batch.acts:
        await _acts(context, caller.app, install_id, batch.acts)
    if batch.receipts:
        await _tolerant(receipts.keep_of_install(context, caller.app, batch.receipts, install_id))
    if batch.reports:
        await _reports(context, caller.app, install_id, batch.reports)
    if batch.locations:
        await _locations(context, caller.app, install_id, batch.locations)


async def _acts(context: Context, app_id: int, install_id: str, acts: list[Act]) -> None:
    """Does what is to be done to an install: runs of registrations together, and its parting between them."""
    known = await devices.list_page(context, app_id, after=0, limit=ADDRESSES_MAX, install_id=install_id)
    home = await _home(context, app_id, install_id, known, acts)
    for parts, run in groupby(acts, key=lambda act: isinstance(act, Gone)):
        if parts:
            await _tolerant(installs.unsubscribe(context, app_id, install_id))
        else:
            wanted = [_registration(home, act) for act in run if isinstance(act, Address | Change)]
            await _tolerant(devices.register_many(context, app_id, [_sound(each) for each in wanted]))
    for act in acts:
        if isinstance(act, Change) and act.attributes is not None:
            await _tolerant(users.merge_attributes(context, app_id, act.fields["user_id"], act.attributes))


async def _home(context: Context, app_id: int, install_id: str, known: list[Device], acts: list[Act]) -> Registration:
    """The address that changes of the install are told with: one that it has, or will have, or might have."""
    addresses = [act for act in acts if isinstance(act, Address)]
    telling: list[Address | Change] = [*addresses, *(act for act in acts if isinstance(act, Change))]
    named = [act.bundle for act in telling if act.bundle]
    if known:
        kind, environment = known[0].kind, known[0].environment
        bundle = named[0] if named else known[0].bundle
    else:
        guessed = [act.kind for act in telling if act.kind is not None]
        upper = install_id == install_id.upper() and install_id != install_id.lower()  # as iOS writes its UUIDs
        kind = guessed[0] if guessed else Kind.APNS if upper else Kind.FCM
        environment = addresses[0].environment if addresses else Environment.PRODUCTION
        bundle = named[0] if named else ""
    if not bundle and kind is Kind.APNS:
        bundle = (await apps.get(context, app_id)).settings.default_bundle or ""
    return Registration(install_id=install_id, kind=kind, environment=environment, bundle=bundle)


def _registration(home: Registration, act: Address | Change) -> Registration:
    """What an act says of the install, as a registration."""
    if isinstance(act, Change):
        tells = act.kind is not None and home.kind in PLATFORMS
        return Registration(
            install_id=home.install_id,
            kind=home.kind,
            environment=home.environment,
            platform=PLATFORMS[home.kind] if tells else UNSET,
            **act.fields,
        )
    return Registration(
        install_id=home.install_id,
        kind=act.kind,
        token=act.token,
        subscription=act.subscription,
        environment=act.environment,
        shape=Shape.KUMULOS,
        bundle=act.bundle or (UNSET if act.kind is Kind.WEBPUSH else home.bundle),
        platform=PLATFORMS[act.kind],
    )


def _sound(registration: Registration) -> Registration:
    """The registration without what of its install's attributes cannot be."""
    faults = {fault.pointer.split("/")[1] for fault in check_attributes(registration)}
    fine = faults & {"locale", "time_zone", "app_version", "os_version", "bundle"}
    return msgspec.structs.replace(registration, **dict.fromkeys(fine, UNSET)) if fine else registration


async def _reports(
    context: Context, app_id: int, install_id: str, reports: list[tuple[str | None, InboxReport]]
) -> None:
    """What was done with in-app messages, by the install; what it does not have, by the user that it was then."""
    whole = [each for _, each in reports]
    done = await _tolerant(inbox.report(context, app_id, Owner(install_id=install_id), whole))
    if done is not None and not done.unknown:
        return
    for name in {name for name, _ in reports if name not in (None, install_id)}:
        theirs = [each for user, each in reports if user == name]
        await _tolerant(inbox.report(context, app_id, Owner(user_id=name), theirs))


async def _locations(context: Context, app_id: int, install_id: str, reports: list[LocationReport]) -> None:
    found = await devices.list_page(context, app_id, after=0, limit=1, install_id=install_id)
    now = context.clock.now()
    for each in reports if found else ():
        at = now if each.at is None else min(each.at, now)
        await _tolerant(locations.report(context, app_id, found[0].id, msgspec.structs.replace(each, at=at)))


async def _tolerant(work: Coroutine[Any, Any, Any]) -> Any:
    """What the work gives; None where it cannot be done, now or ever. What may be done later is raised."""
    try:
        return await work
    except PushdError as error:
        if error.retryable:
            raise
        return None
