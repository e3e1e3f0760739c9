"""Devices over HTTP: /devices, /devices/bulk and /devices/{id}/history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.bulk import BulkLine, BulkParams, LineType, carry_out_lines
from pushd.api.operation import EVERYONE, Listing, Operation, Page
from pushd.api.request import Request
from pushd.commands import devices, progress
from pushd.commands.context import Context
from pushd.commands.devices import DeviceChange
from pushd.commands.progress import Sending
from pushd.errors import Fault, InvalidRequestError
from pushd.model.app import Role
from pushd.model.device import Device, DeviceId, Registration, Text255
from pushd.web.caller import Caller

_LINE: LineType[Registration] = LineType(Registration, flat=True)
_NAMES_INSTALL = "A device key names the install (`install_id`), and sees and touches no other."


class OneDevice(Struct, frozen=True):
    """A device in the path, and the install that it must be of."""

    device_id: DeviceId
    install_id: Annotated[Text255, Meta(description="Of the device; a device key must name it.")] | None = None


class DevicesPage(Page, frozen=True):
    """Which devices to list."""

    install_id: Text255 | None = None
    user_id: Text255 | None = None


class HistoryParams(Struct, frozen=True):
    """Whose history, and how much of it."""

    device_id: DeviceId
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class History(Struct, frozen=True):
    """What was sent to a device, newest first."""

    items: list[Sending]


async def register(context: Context, caller: Caller, request: Request[Registration, None]) -> Device:
    """PUT /devices."""
    return await devices.register(context, caller.app, request.body)


async def bulk(context: Context, caller: Caller, request: Request[None, BulkParams]) -> AsyncIterator[BulkLine]:
    """POST /devices/bulk."""
    carry_out = partial(devices.register_many, context, caller.app)
    return carry_out_lines(request.lines(), _LINE, carry_out, clock=context.clock, with_ids=request.params.ids)


async def listing(context: Context, caller: Caller, request: Request[None, DevicesPage]) -> Listing[Device]:
    """GET /devices."""
    found = await devices.list_page(
        context,
        caller.app,
        after=request.after(),
        limit=request.limit,
        install_id=request.params.install_id,
        user_id=request.params.user_id,
    )
    return request.listing(found, [device.id for device in found])


async def show(context: Context, caller: Caller, request: Request[None, OneDevice]) -> Device:
    """GET /devices/{device_id}."""
    install_id = install_of(caller, request.params)
    return await devices.get(context, caller.app, request.params.device_id, install_id=install_id)


async def change(context: Context, caller: Caller, request: Request[DeviceChange, OneDevice]) -> Device:
    """PATCH /devices/{device_id}."""
    install_id = install_of(caller, request.params)
    return await devices.change(context, caller.app, request.params.device_id, request.body, install_id=install_id)


async def delete(context: Context, caller: Caller, request: Request[None, OneDevice]) -> None:
    """DELETE /devices/{device_id}."""
    install_id = install_of(caller, request.params)
    await devices.delete(context, caller.app, request.params.device_id, install_id=install_id)


async def history(context: Context, caller: Caller, request: Request[None, HistoryParams]) -> History:
    """GET /devices/{device_id}/history."""
    params = request.params
    return History(items=await progress.history(context, caller.app, params.device_id, limit=params.limit))


def install_of(caller: Caller, params: OneDevice) -> str | None:
    """The install that a device must be of; None where the key may touch them all."""
    if caller.role is Role.DEVICE and params.install_id is None:
        raise InvalidRequestError(faults=[Fault("install_id", "is required of a device key")])
    return params.install_id


OPERATIONS = (
    Operation(
        name="registerDevice",
        method="PUT",
        path="/devices",
        tag="devices",
        summary="Registers an address of an install",
        description="The newest registration of an address wins, its user included: whoever had the token before "
        "loses it. Absent fields stay as they are on the install, `null` clears. Without a `token` the install exists "
        "and has no address.",
        handler=register,
        roles=EVERYONE,
        body=Registration,
        answer=Device,
        example={
            "install_id": "7d0c1c52-6a86-4a43-9c1b-0f3b4f0f8a55",
            "kind": "apns",
            "bundle": "example.orchard",
            "token": "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0",
            "user_id": "ada",
            "tags": ["news"],
            "locale": "en-GB",
        },
    ),
    Operation(
        name="registerDevices",
        method="POST",
        path="/devices/bulk",
        tag="devices",
        summary="Registers addresses from a stream",
        description="One registration a line (NDJSON). The answer is a stream too: rejects by line, progress after "
        "every 4,000 lines, and a summary as its last line. Later lines win over earlier ones.",
        handler=bulk,
        params=BulkParams,
        body_lines=Registration,
        answer_lines=BulkLine,
        example={"install_id": "a-1", "bundle": "example.orchard", "token": "00fc13adff785122", "tags": ["news"]},
    ),
    Operation(
        name="listDevices",
        method="GET",
        path="/devices",
        tag="devices",
        summary="Devices, oldest first",
        handler=listing,
        params=DevicesPage,
        answer=Listing[Device],
    ),
    Operation(
        name="getDevice",
        method="GET",
        path="/devices/{device_id}",
        tag="devices",
        summary="One device",
        description=_NAMES_INSTALL,
        handler=show,
        roles=EVERYONE,
        params=OneDevice,
        answer=Device,
    ),
    Operation(
        name="changeDevice",
        method="PATCH",
        path="/devices/{device_id}",
        tag="devices",
        summary="Changes a device's install",
        description="User, tags, attributes and whether push is enabled are the install's: its other devices change "
        f"with it. Absent fields stay, `null` clears. {_NAMES_INSTALL}",
        handler=change,
        roles=EVERYONE,
        params=OneDevice,
        body=DeviceChange,
        answer=Device,
        example={"push_enabled": False},
    ),
    Operation(
        name="deleteDevice",
        method="DELETE",
        path="/devices/{device_id}",
        tag="devices",
        summary="Forgets a device",
        description=f"Its id is never used again. {_NAMES_INSTALL}",
        handler=delete,
        roles=EVERYONE,
        params=OneDevice,
        statuses=(204,),
    ),
    Operation(
        name="getDeviceHistory",
        method="GET",
        path="/devices/{device_id}/history",
        tag="devices",
        summary="What was sent to a device, newest first",
        handler=history,
        params=HistoryParams,
        answer=History,
    ),
)
