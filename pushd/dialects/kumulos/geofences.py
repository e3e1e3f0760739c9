"""Geofences of Kumulos's, as back ends make them."""

from __future__ import annotations

from pushd.commands import geofences
from pushd.commands.geofences import GeofenceView
from pushd.dialect import Dialect
from pushd.dialects.kumulos import wire
from pushd.dialects.kumulos.fields import Fields
from pushd.model.geofence import NewGeofence
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

TAGS_MAX = 100


async def create(kumulos: Dialect, incoming: Incoming) -> Answer:
    """POST /v1/geofences."""
    caller = await wire.server(kumulos, incoming)
    made = await geofences.create(kumulos.context, caller.app, parse(await wire.body(kumulos, incoming)))
    return wire.told(_shown(made, caller.app), 201)


def parse(given: Fields) -> NewGeofence:
    """The geofence that a body describes; InvalidRequestError. Its bounds are judged where it is made."""
    name, bounds = given.text("name", required=True), given.within("boundsGeoJson", required=True)
    enabled = given.truth("isEnabled")
    tags = given.names("tags", TAGS_MAX) if given.get("tags") != [] else []
    given.check()
    return NewGeofence(
        name=name or "",
        bounds={} if bounds is None else dict(bounds.given),
        enabled=enabled is not False,
        tags=tags,
    )


def _shown(fence: GeofenceView, app_id: int) -> dict[str, object]:
    return {
        "id": fence.id,
        "name": fence.name,
        "isEnabled": fence.enabled,
        "boundsGeoJson": fence.bounds,
        "activationCount": fence.activation_count,
        "createdAt": wire.iso(fence.created_at),
        "updatedAt": wire.iso(fence.updated_at),
        "activeUsers": fence.active_users,
        "appId": app_id,
        "tags": fence.tags,
    }
