"""Whom an audience reaches now: counted without sending, and what of it is not there."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from msgspec import Struct

from pushd.commands.context import Context
from pushd.commands.past import asks, gather
from pushd.commands.text import check_text
from pushd.content.kinds import kinds
from pushd.model.audience import Audience, Installs
from pushd.model.device import Kind
from pushd.model.message import PushType
from pushd.targeting.index import Resolution


class Named(Struct, frozen=True, omit_defaults=True):
    """Targets that a request named, by how it named them."""

    devices: list[int] = []
    users: list[str] = []
    user_numbers: list[int] = []
    emails: list[str] = []
    aliases: list[str] = []
    installs: list[str] = []


class TargetErrors(Struct, frozen=True, omit_defaults=True):
    """Targets that a request named and that it cannot reach."""

    unknown: Named | None = None
    """There is no such device, user or install."""
    unsubscribed: Named | None = None
    """It is there, and has no address now that this message could go to."""
    count: int = 0
    """How many they are; each list holds its first 1,000."""


class Count(Struct, frozen=True, kw_only=True):
    """What a send to this audience would reach."""

    devices: int
    platforms: dict[str, int]
    """By platform; `unknown`: the app does not say. What has no devices is left out, here and below."""
    kinds: dict[str, int]
    """By kind of address."""
    environments: dict[str, int]
    skipped: dict[str, int]
    """Devices of the audience that would not be sent to, by reason."""
    errors: TargetErrors | None


async def resolve(
    context: Context, app_id: int, audience: Audience, reach: AbstractSet[Kind], *, in_app: bool = False
) -> Resolution:
    """Whom the audience reaches now, as of the moment it returns.

    InvalidRequestError past the limits, and for channels, segments, tags and notifications that the app does not have.
    Small audiences are answered without a pause, large ones in slices between which others get their turn. What only
    the store knows is read before: UnavailableError when that takes too long. `in_app`: whom an in-app message reaches.
    """
    if not in_app and (one := context.index.one_user(app_id, audience, reach)) is not None:
        return one
    if type(audience) is Installs and len(audience.ids) == 1 and not in_app:
        pairs = await context.store.past.installs(app_id, audience.ids)
        devices = [device for _, device in pairs if device is not None]
        if (found := context.index.one_install(app_id, devices, reach)) is not None:
            return found
    context.index.check_names(app_id, audience)
    expanded = context.index.expand(app_id, audience)
    gathered = await gather(context, app_id, audience, expanded) if asks(expanded) else None
    return await context.index.resolve_in_slices(app_id, expanded, reach, gathered=gathered, in_app=in_app)


async def count(context: Context, app_id: int, audience: Audience, push_type: PushType) -> Count:
    """What a send of this type would reach, were it made now."""
    check_text({"audience": audience})
    found = await resolve(context, app_id, audience, kinds(push_type))
    by_kind: dict[str, int] = {}
    by_environment: dict[str, int] = {}
    for route, devices in context.index.routes(app_id, found.devices):
        by_kind[route.kind.value] = by_kind.get(route.kind.value, 0) + len(devices)
        by_environment[route.environment.value] = by_environment.get(route.environment.value, 0) + len(devices)
    platforms = context.index.holders.platforms(app_id, found.devices)
    if unknown := len(found.devices) - sum(platforms.values()):
        platforms["unknown"] = unknown
    return Count(
        devices=len(found.devices),
        platforms=platforms,
        kinds=by_kind,
        environments=by_environment,
        skipped=found.skipped,
        errors=target_errors(found),
    )


async def kinds_reached(context: Context, app_id: int, audience: Audience, reach: AbstractSet[Kind]) -> frozenset[Kind]:
    """What sorts of address, of those asked for, the audience has now. Errors as those of `resolve`."""
    found = await resolve(context, app_id, audience, reach)
    return frozenset(route.kind for route, _ in context.index.routes(app_id, found.devices))


def target_errors(found: Resolution) -> TargetErrors | None:
    """What was named and cannot be reached; None when all can."""
    if not found.missing:
        return None
    return TargetErrors(unknown=_named(found.unknown), unsubscribed=_named(found.unsubscribed), count=found.missing)


def _named(groups: Mapping[str, list[int] | list[str]]) -> Named | None:
    given = {name: ids for name, ids in groups.items() if ids}
    return Named(**given) if given else None  # type: ignore[arg-type]  # each group has the type of its field
