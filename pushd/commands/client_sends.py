"""Whether somebody may send: servers as they like, apps only for their user and as often as their app lets them."""

from __future__ import annotations

from pushd.commands.context import Context
from pushd.errors import ForbiddenError, NotFoundError
from pushd.model.app import Role


async def admit(context: Context, app_id: int, role: Role, user_id: int | None, *, channel: str | None = None) -> None:
    """Nothing where this may be sent, to a channel or (None) to whomever it names; it is counted then.

    ForbiddenError where apps of this app do not send, not there, or nobody has logged in; TooManyRequestsError;
    NotFoundError.
    """
    if role is not Role.DEVICE:
        return
    app = await context.store.apps.get(app_id)
    if app is None:
        raise NotFoundError("There is no such app")
    if not app.settings.client_sends_per_minute:
        raise ForbiddenError("Only servers send here")
    if user_id is None:
        raise ForbiddenError("Nobody has logged in who could send")
    only = app.settings.client_send_channels
    if only and channel not in only:
        raise ForbiddenError("Apps send to some channels only, and this is for others")
    now = context.clock.monotonic()
    context.client_sends.admit(app_id, user_id, app.settings.client_sends_per_minute, now)
