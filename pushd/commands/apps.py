"""Apps: made, changed, read, listed and deleted."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import available_timezones

from pushd.commands.context import Context
from pushd.commands.text import check_text
from pushd.errors import Fault, InvalidRequestError, NotFoundError
from pushd.model.app import App, Settings
from pushd.model.quiet import check as check_quiet


async def create(context: Context, name: str, settings: Settings) -> App:
    """The new app."""
    _check(name, settings)
    return await context.store.apps.create(name, settings)


async def get(context: Context, app_id: int) -> App:
    """The app; NotFoundError."""
    app = await context.store.apps.get(app_id)
    if app is None:
        raise NotFoundError("There is no such app")
    return app


async def list_page(context: Context, *, after: int, limit: int) -> Sequence[App]:
    """Apps with ids above `after`, ascending."""
    return await context.store.apps.list(after, limit)


async def update(context: Context, app_id: int, name: str | None, settings: Settings | None) -> App:
    """The app after the change; None leaves name or settings as they are. NotFoundError."""
    _check(name or "", settings)
    app = await context.store.apps.update(app_id, name=name, settings=settings)
    if app is None:
        raise NotFoundError("There is no such app")
    return app


async def delete(context: Context, app_id: int) -> None:
    """Nothing, once the app and everything that belongs to it is gone. NotFoundError."""
    await context.whole(_delete(context, app_id))


async def _delete(context: Context, app_id: int) -> None:
    if not await context.store.apps.delete(app_id):
        raise NotFoundError("There is no such app")
    context.store.keys.forget()  # its keys went with it
    context.store.vendor_keys.forget()
    await context.index.forget_app(app_id)
    context.inbox.forget([app_id])
    await context.keyring.reload([app_id])
    context.fanout.credentials_changed()


def _check(name: str, settings: Settings | None) -> None:
    check_text({"name": name, "settings": settings})
    if settings is None:
        return
    faults = []
    if settings.time_zone not in available_timezones():
        faults.append(Fault("/settings/time_zone", "is not the name of a time zone, such as Europe/Berlin"))
    if settings.quiet_hours is not None:
        faults += check_quiet(settings.quiet_hours, "/settings/quiet_hours")
    if faults:
        raise InvalidRequestError(faults=faults)
