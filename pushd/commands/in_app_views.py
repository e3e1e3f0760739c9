"""In-app messages as their senders are shown them: released, or waiting for their time."""

from __future__ import annotations

from typing import Any

import msgspec

from pushd.commands.schedules import state
from pushd.model.in_app import InAppContent, InAppCounts, InAppState, InAppView
from pushd.model.scheduled import ScheduleState
from pushd.store.in_app_rows import Stored
from pushd.store.schedules import Scheduled

_STATES = {
    ScheduleState.ACTIVE: InAppState.SCHEDULED,
    ScheduleState.INACTIVE: InAppState.PAUSED,
    ScheduleState.ENDED: InAppState.ENDED,
    ScheduleState.CANCELLED: InAppState.CANCELLED,
}
_NOBODY = InAppCounts(recipients=0, users=0, delivered=0, opened=0, read=0, dismissed=0, deleted=0, suppressed=0)


def shown(stored: Stored, now: float) -> InAppView:
    """A message that was released to somebody, or begins to be."""
    body, raw = stored.body, _raw
    return InAppView(
        id=stored.id,
        name=stored.name,
        state=_state(stored, now),
        audience=raw(stored.audience),
        content=body.content,
        template=body.template,
        liquid=body.liquid,
        content_tags=body.content_tags,
        locales=body.locales,
        presented_when=body.presented_when,
        ttl=body.ttl,
        data=body.data,
        inbox=body.inbox,
        push=None if stored.push is None else raw(stored.push),
        created_at=stored.created_at,
        send_at=stored.send_at,
        schedule_id=stored.schedule_id,
        schedule=stored.schedule,
        next_at=stored.next_at,
        released_at=stored.released_at,
        expires_at=stored.expires_at,
        ends_at=stored.ends_at,
        cancelled_at=stored.cancelled_at,
        updated_at=stored.updated_at,
        notification_id=stored.notification_id,
        counts=stored.counts,
    )


def waiting(scheduled: Scheduled) -> InAppView:
    """A message that waits for its time, or a recurrence of messages."""
    assert scheduled.in_app is not None, "only of in-app messages"
    said, send = msgspec.json.decode(scheduled.in_app, type=InAppContent), scheduled.send
    once = not scheduled.recurring and scheduled.next_at == scheduled.nominal
    now = state(scheduled)
    return InAppView(
        id=scheduled.id,
        name=send.name,
        state=_STATES[now],
        audience=send.audience,
        content=said.content,
        template=said.template,
        liquid=said.liquid,
        content_tags=said.content_tags,
        locales=said.locales,
        presented_when=said.presented_when,
        ttl=said.ttl,
        data=said.data,
        inbox=said.inbox,
        push=said.push,
        created_at=scheduled.created_at,
        send_at=scheduled.next_at if once else None,
        schedule_id=None,
        schedule=send.schedule,
        next_at=scheduled.next_at if now is ScheduleState.ACTIVE else None,
        released_at=None,
        expires_at=None,
        ends_at=None,
        cancelled_at=scheduled.cancelled_at,
        updated_at=scheduled.cancelled_at or scheduled.created_at,
        notification_id=None,
        counts=_NOBODY,
    )


def _state(stored: Stored, now: float) -> InAppState:
    if stored.cancelled_at is not None:
        return InAppState.CANCELLED
    if stored.paused:
        return InAppState.PAUSED
    if stored.ends_at is None:
        return InAppState.SCHEDULED
    return InAppState.LIVE if stored.ends_at > now or stored.next_at is not None else InAppState.ENDED


def _raw(text: bytes) -> Any:
    return msgspec.Raw(text)
