"""Backendless' device registrations: an install of one address with its channels, and with an end where it has one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pushd.commands import apps, channels, devices, expirations
from pushd.commands.channels import SubscriptionChange
from pushd.dialect import Dialect
from pushd.dialects.backendless import users, wire
from pushd.dialects.backendless.wire import Code, Who
from pushd.errors import ForbiddenError, InvalidRequestError, NotFoundError
from pushd.model.app import Role
from pushd.model.channel import SUBSCRIPTIONS_MAX
from pushd.model.device import Device, Kind, Platform, Registration, Shape
from pushd.model.schedule import INSTANT_MAX
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

PURPOSE = int.from_bytes(b"breg")
"""Of handles that name registrations."""
DEFAULT = "default"
TRIES_MAX = 3
TEXT_CHARS_MAX = 255
VERSION_CHARS_MAX = 64
TOKEN_CHARS_MAX = 4_096
ADDRESSES_MAX = 100
_SYSTEMS = {
    "IOS": (Kind.APNS, Platform.IOS),
    "OSX": (Kind.APNS, Platform.MACOS),
    "ANDROID": (Kind.FCM, Platform.ANDROID),
}
_NAMES = {Platform.MACOS: "OSX", Platform.ANDROID: "ANDROID", Platform.HUAWEI: "ANDROID", Platform.IOS: "IOS"}


async def register(dialect: Dialect, incoming: Incoming) -> Answer:
    """POST messaging/registrations: again for the same device it takes the place of what was there."""
    who = await wire.who(dialect, incoming)
    body = await wire.body(dialect, incoming)
    named = channels_of(body.get("channels"))
    ends_at = end_of(body.get("expiration"), dialect.context.clock.now())
    registration = registration_of(
        body,
        user=await users.external_id(dialect, who),
        bundle=(await apps.get(dialect.context, who.app_id)).settings.default_bundle or "",
    )
    device = await _until(dialect, who, registration, ends_at)
    only = SubscriptionChange(only=named)
    await channels.ensure(dialect.context, who.app_id, named)
    await channels.change_of_install(dialect.context, who.app_id, registration.install_id, only)
    return wire.told({"registrationId": _handle(dialect, who, device)})


async def _until(dialect: Dialect, who: Who, registration: Registration, ends_at: float | None) -> Device:
    """The device, registered, and its install until this instant."""
    for _ in range(TRIES_MAX):
        try:
            device = await devices.register(dialect.context, who.app_id, registration)
        except InvalidRequestError as error:
            raise wire.wrong("deviceToken", error.faults[0].detail if error.faults else "is invalid") from None
        if await expirations.expire_at(dialect.context, who.app_id, registration.install_id, ends_at):
            return device
        # It was over and went, between the two. One that is made anew has no end yet.
    raise NotFoundError("The device was taken away again")


async def show(dialect: Dialect, incoming: Incoming) -> Answer:
    """GET messaging/registrations/{device}: one for each address."""
    who = await wire.who(dialect, incoming)
    install_id = wire.values(incoming)[0]
    found = await _addresses(dialect, who, install_id)
    if not found:
        raise wire.coded(NotFoundError("Unable to retrieve device registration: unknown device ID"), Code.DEVICE)
    context = dialect.context
    tokens = await context.store.devices.tokens(who.app_id, [each.id for each in found])
    ends_at = await expirations.end_of(context, who.app_id, install_id)
    subscribed = sorted(each.uuid for each in await channels.of_install(context, who.app_id, install_id))
    return wire.told(
        [
            {
                "id": _handle(dialect, who, each),
                "deviceToken": tokens[each.id],
                "deviceId": install_id,
                "os": _NAMES.get(each.platform or Platform.OTHER, "IOS" if each.kind is Kind.APNS else "ANDROID"),
                "osVersion": each.os_version,
                "expiration": ends_at,
                "channels": subscribed,
            }
            for each in found
            if each.id in tokens
        ]
    )


async def unregister(dialect: Dialect, incoming: Incoming) -> Answer:
    """DELETE messaging/registrations/{device}."""
    who = await wire.who(dialect, incoming)
    found = await _addresses(dialect, who, wire.values(incoming)[0])
    if not found:
        raise wire.coded(NotFoundError("Unable to unregister the device: unknown device ID"), Code.UNREGISTER)
    for each in found:
        with suppress(NotFoundError):  # somebody else was faster
            await devices.delete(dialect.context, who.app_id, each.id)
    return wire.told({"result": True})


async def delete_channel(dialect: Dialect, incoming: Incoming) -> Answer:
    """DELETE messaging/channels/{name}: of servers, for it takes the channel from everybody."""
    who = await wire.who(dialect, incoming)
    if who.role is Role.DEVICE:
        raise wire.coded(ForbiddenError("Only keys of servers delete channels"), Code.PERMISSION)
    await channels.delete(dialect.context, who.app_id, wire.values(incoming)[0])
    return wire.told({"result": True})


def _handle(dialect: Dialect, who: Who, device: Device) -> str:
    return dialect.context.handles.make(PURPOSE, who.app_id, device.id)


async def _addresses(dialect: Dialect, who: Who, install_id: str) -> list[Device]:
    """The addresses of an install that are alive."""
    if not 0 < len(install_id) <= TEXT_CHARS_MAX or "\0" in install_id:
        return []
    found = await devices.list_page(dialect.context, who.app_id, after=0, limit=ADDRESSES_MAX, install_id=install_id)
    return [each for each in found if each.token_hint and each.retired_at is None]


def channels_of(given: Any) -> list[str]:
    """The channels that a body names, or the one of all; InvalidRequestError."""
    said = given.split(",") if isinstance(given, str) else [] if given is None else given
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        raise wire.wrong("channels", "are not a list of names")
    found = list(dict.fromkeys(each.strip() for each in said if each.strip())) or [DEFAULT]
    if len(found) > SUBSCRIPTIONS_MAX or any(len(each) > TEXT_CHARS_MAX or "\0" in each for each in found):
        raise wire.wrong("channels", f"are more than {SUBSCRIPTIONS_MAX}, or longer than {TEXT_CHARS_MAX} characters")
    return found


def end_of(given: Any, now: float) -> float | None:
    """UNIX seconds of the end; SDKs say it in seconds or in milliseconds."""
    if given is None or given in ("", 0) or given is False:
        return None
    value = wire.number(given)
    if value is None or not now < wire.seconds(value) <= INSTANT_MAX:
        raise wire.wrong("expiration", "is not a time to come", Code.EXPIRATION)
    return wire.seconds(value)


def registration_of(body: dict[str, Any], *, user: str | None, bundle: str) -> Registration:
    """What a body registers, for this user or nobody; InvalidRequestError."""
    system = wire.text(body.get("os")).strip().upper()
    if system not in _SYSTEMS:
        detail = "is a system that has no push any more" if system == "WP" else f"is none of {', '.join(_SYSTEMS)}"
        raise wire.wrong("os", detail)
    kind, platform = _SYSTEMS[system]
    device, token = (wire.text(body.get(name)).strip() for name in ("deviceId", "deviceToken"))
    if not 0 < len(device) <= TEXT_CHARS_MAX:
        raise wire.wrong("deviceId", f"is not a text of 1 to {TEXT_CHARS_MAX} characters")
    if not 0 < len(token) <= TOKEN_CHARS_MAX:
        raise wire.wrong("deviceToken", f"is not a text of 1 to {TOKEN_CHARS_MAX} characters")
    return Registration(
        install_id=device,
        kind=kind,
        token=token,
        bundle=bundle if kind is Kind.APNS else "",
        user_id=user,
        platform=platform,
        shape=Shape.BACKENDLESS,
        os_version=wire.text(body.get("osVersion"))[:VERSION_CHARS_MAX] or None,
    )
