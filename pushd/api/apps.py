"""Apps over HTTP: /apps."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from pushd.api.operation import ADMINS, Listing, Operation, Page, Scope
from pushd.api.request import Request
from pushd.commands import apps
from pushd.commands.context import Context
from pushd.errors import NotFoundError
from pushd.model.app import App, AppId, Role, Settings
from pushd.web.caller import Caller

AppName = Annotated[str, Meta(min_length=1, max_length=255)]


class OneApp(Struct, frozen=True):
    """An app in the path."""

    app_id: AppId


class NewApp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An app to be made."""

    name: AppName
    settings: Settings = Settings()


class AppChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes of an app: absent fields stay; settings are replaced as a whole."""

    name: AppName | UnsetType = UNSET
    settings: Settings | UnsetType = UNSET


async def create(context: Context, _: Caller, request: Request[NewApp, None]) -> App:
    """POST /apps."""
    return await apps.create(context, request.body.name, request.body.settings)


async def listing(context: Context, _: Caller, request: Request[None, Page]) -> Listing[App]:
    """GET /apps."""
    found = await apps.list_page(context, after=request.after(), limit=request.limit)
    return request.listing(found, [app.id for app in found])


async def show(context: Context, caller: Caller, request: Request[None, OneApp]) -> App:
    """GET /apps/{app_id}."""
    return await apps.get(context, _own(caller, request.params.app_id))


async def update(context: Context, caller: Caller, request: Request[AppChange, OneApp]) -> App:
    """PATCH /apps/{app_id}."""
    body, app_id = request.body, _own(caller, request.params.app_id)
    name = None if body.name is UNSET else body.name
    return await apps.update(context, app_id, name, None if body.settings is UNSET else body.settings)


async def delete(context: Context, _: Caller, request: Request[None, OneApp]) -> None:
    """DELETE /apps/{app_id}."""
    await apps.delete(context, request.params.app_id)


def _own(caller: Caller, app_id: int) -> int:
    """The app id, for who may see it; another tenant's app is as absent as one that never was."""
    if caller.role is not Role.ADMIN and caller.app_id != app_id:
        raise NotFoundError("There is no such app")
    return app_id


OPERATIONS = (
    Operation(
        name="createApp",
        method="POST",
        path="/apps",
        tag="apps",
        summary="Makes an app",
        handler=create,
        roles=ADMINS,
        scope=Scope.INSTALLATION,
        body=NewApp,
        answer=App,
        statuses=(201,),
        example={"name": "Orchard", "settings": {"default_title": "Orchard", "time_zone": "Europe/Berlin"}},
    ),
    Operation(
        name="listApps",
        method="GET",
        path="/apps",
        tag="apps",
        summary="Apps, oldest first",
        handler=listing,
        roles=ADMINS,
        scope=Scope.INSTALLATION,
        params=Page,
        answer=Listing[App],
    ),
    Operation(
        name="getApp",
        method="GET",
        path="/apps/{app_id}",
        tag="apps",
        summary="One app",
        description="A server key sees its own.",
        handler=show,
        scope=Scope.INSTALLATION,
        params=OneApp,
        answer=App,
    ),
    Operation(
        name="updateApp",
        method="PATCH",
        path="/apps/{app_id}",
        tag="apps",
        summary="Renames an app, or replaces its settings",
        description="A server key changes its own.",
        handler=update,
        scope=Scope.INSTALLATION,
        params=OneApp,
        body=AppChange,
        answer=App,
        example={"settings": {"default_title": "Orchard", "icon": "https://orchard.example/icon.png"}},
    ),
    Operation(
        name="deleteApp",
        method="DELETE",
        path="/apps/{app_id}",
        tag="apps",
        summary="Deletes an app and everything that belongs to it",
        description="Its keys, credentials, users, devices and notifications go with it, for good.",
        handler=delete,
        roles=ADMINS,
        scope=Scope.INSTALLATION,
        params=OneApp,
        statuses=(204,),
    ),
)
