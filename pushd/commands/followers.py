"""Followers: browsers that register themselves from a site's pages, which hold no key, and what they ask for since.

A page can keep no secret, so nobody vouches for what it says. A follower is therefore named by us: by the address that
it shows, which only its own browser and its push service know, so that a browser that has lost its storage is who it
was. It is given the key that its beacons are signed with, and proves with it whose tags it changes and whose
subscription it renews; nothing else in the app can be named from a page. How many come is bounded by address and app.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from protocols import vapid
from pushd.commands import beacons, devices, installs
from pushd.commands.context import Context
from pushd.commands.registration import check_attributes
from pushd.errors import ConflictError, ForbiddenError
from pushd.model.credential import VapidKeys
from pushd.model.device import Environment, Kind, Platform, Registration, Route, Shape, Subscription

LOCALE_CHARS_MAX = 35


class Following(Struct, frozen=True, kw_only=True):
    """What a browser shows that wants to follow."""

    subscription: Subscription
    locale: Annotated[str, Meta(max_length=255)] | None = None
    time_zone: Annotated[str, Meta(max_length=255)] | None = None
    """Both as the browser has them; what is no such name is passed over."""
    shape: Shape = Shape.OWN
    """Whose worker reads its pushes."""


class Follower(Struct, frozen=True, kw_only=True):
    """Who a browser is."""

    install_id: str
    key: str
    """A secret of its own: with it it signs beacons, and proves who it is."""
    beacons: str
    """The path of its beacons on this host."""


def push_keys(context: Context, app_id: int) -> VapidKeys | None:
    """The VAPID keys that pages of an app subscribe with; None where it has none."""
    credential_id = context.keyring.find(Route(app_id, Kind.WEBPUSH, Environment.PRODUCTION, ""))
    secret = None if credential_id is None else context.keyring.secret(credential_id)
    return secret if isinstance(secret, VapidKeys) else None


def public_text(secret: VapidKeys) -> str:
    """The key that pages subscribe with, in base64url; "" where it cannot be used."""
    try:
        return vapid.public_text(vapid.load_private(secret.private_key).public_key())
    except ValueError:
        return ""


async def follow(context: Context, app_id: int, wanted: Following, network: str) -> Follower:
    """Who the browser is, once it is registered. InvalidRequestError, ConflictError, TooManyRequestsError."""
    context.followers.admit(app_id, network, context.clock.monotonic())
    name = sha256(b"%d\n%s" % (app_id, wanted.subscription.endpoint.encode())).hexdigest()
    return await _register(context, app_id, name, wanted, push_enabled=True)


async def renew(context: Context, app_id: int, install_id: str, key: str, wanted: Following) -> Follower:
    """The same browser with the address that it has now.

    ForbiddenError where the key is not its own; InvalidRequestError, ConflictError, TooManyRequestsError.
    """
    admit(context, app_id, install_id, key)
    return await _register(context, app_id, install_id, wanted)


def admit(context: Context, app_id: int, install_id: str, key: str) -> None:
    """Counts what a follower asks for. ForbiddenError where the key is not its own, TooManyRequestsError."""
    if not context.beacons.is_key(app_id, install_id, key):
        raise ForbiddenError("This is not the key of this follower")
    context.followers.admit_call(app_id, install_id, context.clock.monotonic())


async def leave(context: Context, app_id: int, install_id: str) -> None:
    """Nothing, once nothing more is sent there; alias and tags stay. NotFoundError."""
    await installs.set_push_enabled(context, app_id, install_id, False)


async def _register(
    context: Context, app_id: int, install_id: str, wanted: Following, *, push_enabled: bool | UnsetType = UNSET
) -> Follower:
    if push_keys(context, app_id) is None:
        raise ConflictError("The app has no VAPID credential, which browsers subscribe with")
    locale = wanted.locale if wanted.locale and len(wanted.locale) <= LOCALE_CHARS_MAX else UNSET
    registration = Registration(
        install_id=install_id,
        kind=Kind.WEBPUSH,
        shape=wanted.shape,
        platform=Platform.WEB,
        locale=locale,
        time_zone=wanted.time_zone or UNSET,
        push_enabled=push_enabled,
        subscription=wanted.subscription,
    )
    wrong = {fault.pointer for fault in check_attributes(registration)}
    if "/locale" in wrong:
        registration = replace(registration, locale=UNSET)
    if "/time_zone" in wrong:
        registration = replace(registration, time_zone=UNSET)
    await devices.register(context, app_id, registration)
    known = beacons.key_of(context, app_id, install_id)
    return Follower(install_id=install_id, key=known.key, beacons=known.path)
