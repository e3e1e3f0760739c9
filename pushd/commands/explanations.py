"""Why a device got a notification, or did not: one device's part in one send, in words."""

from __future__ import annotations

from pushd.commands.audience import resolve
from pushd.commands.context import Context
from pushd.commands.devices import get as get_device
from pushd.commands.progress import get as get_view
from pushd.content.kinds import kinds
from pushd.errors import PushdError
from pushd.model.device import Device, GatewayName
from pushd.model.notification import NotificationView
from pushd.model.report import DeviceEvent, Explanation
from pushd.reports import words
from pushd.store.past import Sent
from pushd.store.reports import Ended

EVENTS_MAX = 100
"""Of one device, newest first: it makes them up itself."""

_GATEWAYS = tuple(GatewayName)


async def explain(context: Context, app_id: int, notification_id: int, device_id: int) -> Explanation:
    """What became of a notification on a device, and why. NotFoundError where the app has one of them not."""
    view = await get_view(context, app_id, notification_id)
    device = await get_device(context, app_id, device_id)
    sent = await context.store.past.sent(app_id, notification_id)
    if sent is None:
        return _told(view, device, None, targeted=False, text=words.SCHEDULED)
    reader = context.store.reports
    ended = await reader.ended(sent, device_id)
    reported = await reader.events(app_id, sent, device_id, EVENTS_MAX)
    events = [DeviceEvent(event=event, at=at, button=button) for event, button, at in reversed(reported)]
    if ended is not None:
        table = context.fanout.reasons[ended.gateway]
        text = words.explain(_GATEWAYS[ended.gateway], table, ended.code)
        reason, outcome = table.name(ended.code), table.outcome(ended.code).name.lower()
        return _told(view, device, ended, targeted=True, text=text, reason=reason, outcome=outcome, events=events)
    if await reader.targets(sent, device_id):
        text = words.PAUSED if view.state.value == "paused" else words.PENDING
        return _told(view, device, None, targeted=True, text=text, outcome="pending", events=events)
    text = await _why_not(context, app_id, device, sent, view)
    return _told(view, device, None, targeted=False, text=text, events=events)


def _told(
    view: NotificationView,
    device: Device,
    ended: Ended | None,
    *,
    targeted: bool,
    text: str,
    outcome: str | None = None,
    reason: str | None = None,
    events: list[DeviceEvent] | None = None,
) -> Explanation:
    return Explanation(
        notification_id=view.id,
        device_id=device.id,
        targeted=targeted,
        outcome=outcome,
        gateway=None if ended is None else _GATEWAYS[ended.gateway],
        reason=reason,
        at=None if ended is None else ended.at,
        explanation=text,
        events=events or [],
    )


async def _why_not(context: Context, app_id: int, device: Device, sent: Sent, view: NotificationView) -> str:
    """Why it did not go to a device, as far as what is known now tells."""
    if device.first_seen_at > sent.created_at.timestamp():
        return words.REGISTERED_LATER
    if device.retired_at is not None:
        return words.RETIRED.format(reason=device.retired_reason)
    if not device.push_enabled:
        return words.SWITCHED_OFF
    if not device.reachable:
        return words.NO_ADDRESS
    try:
        found = await resolve(context, app_id, view.audience, kinds(view.message.push_type))
    except PushdError:  # a segment or an earlier notification that it names is gone
        return words.UNTOLD
    return words.HOLDS_NOW if device.id in found.devices else words.HOLDS_NOT
