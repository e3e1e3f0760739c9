"""Badges that pushd counts, over HTTP: /devices/{device_id}/badge and /users/{external_id}/badge."""

from __future__ import annotations

from pushd.api.devices import OneDevice, install_of
from pushd.api.operation import EVERYONE, Operation
from pushd.api.request import Request
from pushd.api.users import OneUser
from pushd.commands import badges
from pushd.commands.badges import BadgeCount, BadgesSet
from pushd.commands.context import Context
from pushd.web.caller import Caller

_COUNTED = "Messages with `badge_from` of `device.badge` go on counting from there."


async def set_device(context: Context, caller: Caller, request: Request[BadgeCount, OneDevice]) -> None:
    """PUT /devices/{device_id}/badge."""
    install_id = install_of(caller, request.params)
    await badges.set_device(context, caller.app, request.params.device_id, request.body, install_id=install_id)


async def set_user(context: Context, caller: Caller, request: Request[BadgeCount, OneUser]) -> BadgesSet:
    """PUT /users/{external_id}/badge."""
    return await badges.set_user(context, caller.app, request.params.external_id, request.body)


OPERATIONS = (
    Operation(
        name="setDeviceBadge",
        method="PUT",
        path="/devices/{device_id}/badge",
        tag="devices",
        summary="Says what a device's badge shows",
        description=f"For apps that show or clear a badge themselves. {_COUNTED} What is counted now is `badge` of the "
        "device. A device key names the install (`install_id`), and speaks for no other.",
        handler=set_device,
        roles=EVERYONE,
        params=OneDevice,
        body=BadgeCount,
        statuses=(204,),
        example={"count": 0},
    ),
    Operation(
        name="setUserBadge",
        method="PUT",
        path="/users/{external_id}/badge",
        tag="users",
        summary="Says what the badges of a user's devices show",
        description=f"Nothing is sent. {_COUNTED}",
        handler=set_user,
        params=OneUser,
        body=BadgeCount,
        answer=BadgesSet,
        example={"count": 0},
    ),
)
