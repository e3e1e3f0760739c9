"""Geofences over HTTP: /geofences, and who is in one."""

from __future__ import annotations

from msgspec import Struct

from pushd.api.operation import Listing, Operation, Page
from pushd.api.request import Request
from pushd.commands import geofences
from pushd.commands.context import Context
from pushd.commands.geofences import GeofenceStats, GeofenceView
from pushd.errors import ConflictError
from pushd.model.geofence import GeofenceChange, GeofenceId, NewGeofence
from pushd.web.caller import Caller


class OneGeofence(Struct, frozen=True):
    """A geofence in the path."""

    geofence_id: GeofenceId


async def create(context: Context, caller: Caller, request: Request[NewGeofence, None]) -> GeofenceView:
    """POST /geofences."""
    return await geofences.create(context, caller.app, request.body)


async def listing(context: Context, caller: Caller, request: Request[None, Page]) -> Listing[GeofenceView]:
    """GET /geofences."""
    found = await geofences.list_page(context, caller.app, after=request.after(), limit=request.limit)
    return request.listing(found, [each.id for each in found])


async def show(context: Context, caller: Caller, request: Request[None, OneGeofence]) -> GeofenceView:
    """GET /geofences/{geofence_id}."""
    return await geofences.get(context, caller.app, request.params.geofence_id)


async def update(context: Context, caller: Caller, request: Request[GeofenceChange, OneGeofence]) -> GeofenceView:
    """PATCH /geofences/{geofence_id}."""
    return await geofences.update(context, caller.app, request.params.geofence_id, request.body)


async def delete(context: Context, caller: Caller, request: Request[None, OneGeofence]) -> None:
    """DELETE /geofences/{geofence_id}."""
    await geofences.delete(context, caller.app, request.params.geofence_id)


async def stats(context: Context, caller: Caller, request: Request[None, OneGeofence]) -> GeofenceStats:
    """GET /geofences/{geofence_id}/stats."""
    return await geofences.stats(context, caller.app, request.params.geofence_id)


OPERATIONS = (
    Operation(
        name="createGeofence",
        method="POST",
        path="/geofences",
        tag="geofences",
        summary="Makes a geofence",
        description="`bounds` is a GeoJSON Feature: a Point with `radius` in metres among its properties, a Polygon "
        "with `orderAdded` there, or a MultiPolygon; properties are given back untouched. Installs that enter are sent "
        "`on_enter`, those that leave `on_exit`, each at most once in `min_interval_s`. Who is in it already is worked "
        "out in the background, and has not entered.",
        handler=create,
        body=NewGeofence,
        answer=GeofenceView,
        statuses=(201,),
        errors=(ConflictError,),
        example={
            "name": "Central Park",
            "bounds": {
                "type": "Feature",
                "properties": {"radius": 425},
                "geometry": {"type": "Point", "coordinates": [-73.9652551, 40.7827647]},
            },
            "tags": ["Tourism", "Nature"],
            "on_enter": {"message": {"title": "Welcome to the park"}, "min_interval_s": 86400},
        },
    ),
    Operation(
        name="listGeofences",
        method="GET",
        path="/geofences",
        tag="geofences",
        summary="Geofences, oldest first",
        handler=listing,
        params=Page,
        answer=Listing[GeofenceView],
    ),
    Operation(
        name="getGeofence",
        method="GET",
        path="/geofences/{geofence_id}",
        tag="geofences",
        summary="One geofence",
        handler=show,
        params=OneGeofence,
        answer=GeofenceView,
    ),
    Operation(
        name="updateGeofence",
        method="PATCH",
        path="/geofences/{geofence_id}",
        tag="geofences",
        summary="Changes a geofence",
        description="Absent fields stay. Who is in new bounds is worked out in the background and becomes visible as a "
        "whole; `evaluating` says how long. Nobody enters or leaves by that. One that is not `enabled` holds nobody.",
        handler=update,
        params=OneGeofence,
        body=GeofenceChange,
        answer=GeofenceView,
        errors=(ConflictError,),
        example={"enabled": False},
    ),
    Operation(
        name="deleteGeofence",
        method="DELETE",
        path="/geofences/{geofence_id}",
        tag="geofences",
        summary="Deletes a geofence",
        description="What its crossings had still to send is not sent.",
        handler=delete,
        params=OneGeofence,
        statuses=(204,),
    ),
    Operation(
        name="getGeofenceStats",
        method="GET",
        path="/geofences/{geofence_id}/stats",
        tag="geofences",
        summary="How often a geofence was entered and left, and who is in it",
        handler=stats,
        params=OneGeofence,
        answer=GeofenceStats,
    ),
)
