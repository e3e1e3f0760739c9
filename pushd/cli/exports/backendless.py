"""Backendless: the tables DeviceRegistration and Users, as the console exports them and as the data service answers."""

from __future__ import annotations

from pushd.cli.exports.fields import InvalidRowError, Said
from pushd.cli.exports.records import Service

SYSTEMS = {"ios": "apns", "osx": "apns", "macos": "apns", "android": "fcm"}
SYSTEM_COLUMNS = frozenset(
    (
        *("class", "meta", "jsonmeta", "password", "created", "updated", "ownerid", "lastlogin", "useragent"),
        *("userstatus", "socialaccount", "oauthidentities", "bluserlocale", "usertoken"),
    )
)
"""Of every table, and of every user: what says nothing that a customer told of him."""


def _read(said: Said) -> None:
    """A row with a device is a registration, whose `objectId` is its own; any other is a user's."""
    if not (said.values.get("install_id") or said.values.get("token")):
        said.values.pop("kind", None)
        if own := said.text("_object"):
            said.values["user_id"] = own
        return
    if not said.text("user_id") and (owner := said.text("_owner")):
        said.values["user_id"] = owner
    if system := said.text("kind").casefold():
        if system not in SYSTEMS:
            raise InvalidRowError("kind", f"devices of {system[:40]} cannot be reached")
        said.values["kind"] = SYSTEMS[system]
        said.values.setdefault("platform", system)
    said.values.setdefault("shape", "backendless")


SERVICE = Service(
    name="backendless",
    columns={
        "install_id": ("deviceId",),
        "kind": ("operatingSystemName", "os"),
        "token": ("deviceToken",),
        "bundle": ("bundle", "bundleId", "package"),
        "environment": ("environment",),
        "user_id": ("user.objectId", "user", "userId"),
        "_owner": ("ownerId",),
        "_object": ("objectId",),
        "os_version": ("operatingSystemVersion", "osVersion"),
        "channels": ("channels", "channelName"),
        "email": ("email",),
        "user_tags": ("tags",),
    },
    read=_read,
    attributes_of_users=True,
    not_attributes=SYSTEM_COLUMNS,
)
