"""Locations over HTTP: /devices/{device_id}/location."""

from __future__ import annotations

from pushd.api.devices import OneDevice, install_of
from pushd.api.operation import EVERYONE, Operation
from pushd.api.request import Request
from pushd.commands import locations
from pushd.commands.context import Context
from pushd.commands.locations import Kept
from pushd.model.geofence import Location, LocationReport
from pushd.web.caller import Caller

_NAMES_INSTALL = "A device key names the install (`install_id`), and speaks for no other."


async def report(context: Context, caller: Caller, request: Request[LocationReport, OneDevice]) -> Kept:
    """PUT /devices/{device_id}/location."""
    install_id = install_of(caller, request.params)
    return await locations.report(context, caller.app, request.params.device_id, request.body, install_id=install_id)


async def show(context: Context, caller: Caller, request: Request[None, OneDevice]) -> Location:
    """GET /devices/{device_id}/location."""
    install_id = install_of(caller, request.params)
    return await locations.get(context, caller.app, request.params.device_id, install_id=install_id)


async def forget(context: Context, caller: Caller, request: Request[None, OneDevice]) -> None:
    """DELETE /devices/{device_id}/location."""
    install_id = install_of(caller, request.params)
    await locations.forget(context, caller.app, request.params.device_id, install_id=install_id)


OPERATIONS = (
    Operation(
        name="reportLocation",
        method="PUT",
        path="/devices/{device_id}/location",
        tag="devices",
        summary="Says where a device is",
        description="The place is its install's: all its devices share it. Only the last one is kept, by `at`, and is "
        f"forgotten at an age that the operator sets (30 days). {_NAMES_INSTALL}",
        handler=report,
        roles=EVERYONE,
        params=OneDevice,
        body=LocationReport,
        answer=Kept,
        example={"latitude": 40.7827647, "longitude": -73.9652551, "accuracy": 12.5},
    ),
    Operation(
        name="getLocation",
        method="GET",
        path="/devices/{device_id}/location",
        tag="devices",
        summary="Where a device was last",
        description=_NAMES_INSTALL,
        handler=show,
        roles=EVERYONE,
        params=OneDevice,
        answer=Location,
    ),
    Operation(
        name="forgetLocation",
        method="DELETE",
        path="/devices/{device_id}/location",
        tag="devices",
        summary="Forgets where a device is",
        description=_NAMES_INSTALL,
        handler=forget,
        roles=EVERYONE,
        params=OneDevice,
        statuses=(204,),
    ),
)
