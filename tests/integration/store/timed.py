"""Schedules as these tests accept them, and what they become when they are due."""

from __future__ import annotations

import dataclasses
from types import TracebackType
from typing import Any

from pushd.bitset import Devices
from pushd.model.audience import Broadcast
from pushd.model.message import Message
from pushd.model.notification import Delivery, Send
from pushd.model.schedule import PastTimes, Recurrence, Schedule, Strategy
from pushd.store.database import OutcomeUnknownError
from pushd.store.notifications import Accept, Due
from pushd.store.rollouts import DueRelease, Opening
from pushd.store.schedules import Firing, Planned, Scheduled
from tests.integration.store.samples import NOW, accept

ONCE = Schedule(strategy=Strategy.UTC, send_at=NOW, past_times=PastTimes.IGNORE)
DAILY = Schedule(strategy=Strategy.UTC, past_times=PastTimes.IGNORE, recurrence=Recurrence(every_s=86_400))
LOCAL = Schedule(strategy=Strategy.LOCAL, send_at="2027-01-15T08:00", past_times=PastTimes.IGNORE)


def send(schedule: Schedule | None = ONCE, **fields: Any) -> Send:
    return Send(audience=Broadcast(), message=Message(body="later"), schedule=schedule, **fields)


def scheduled(app_id: int, node_id: int, at: float = NOW, schedule: Schedule = ONCE, **fields: Any) -> Accept:
    """A send that is kept as a schedule."""
    given = {"created_at": NOW - 3_600, "released_at": NOW - 3_600, "due": Due(at, at)} | fields
    name = given.pop("name", None)
    return Accept(app_id=app_id, send=send(schedule, name=name), targeted=Devices(), node_id=node_id, **given)


def started(due: Scheduled, node_id: int, devices: Devices, **fields: Any) -> Accept:
    """What a schedule that is due becomes: a notification to these."""
    given = {"released_at": NOW, "expires_at": NOW + 3_600} | fields
    delivery = given.pop("delivery", Delivery.AT_LEAST_ONCE)
    return accept(due.app_id, node_id, devices, delivery=delivery, **given)


def firing(due: Scheduled, node_id: int, devices: Devices, **fields: Any) -> Firing:
    """It goes out to these at once, and is over."""
    start = {
        name: fields.pop(name)
        for name in ("suppressed", "name", "delivery", "created_at", "expires_at")
        if name in fields
    }
    given: dict[str, Any] = {"notification_id": due.id, "following": None} | fields
    assert due.nominal is not None
    return Firing(due=due, occurrence=due.nominal, start=started(due, node_id, devices, **start), **given)


def rollout(due: Scheduled, node_id: int, *planned: Planned, **fields: Any) -> Firing:
    """It goes out in these releases."""
    return firing(due, node_id, Devices(), rollout=planned, **fields)


def opening(release: DueRelease, targets: Devices, **fields: Any) -> Opening:
    """A release goes out to these."""
    given = {"released_at": release.at, "expires_at": release.at + 60} | fields
    return Opening(release=release, targets=targets, **given)


async def one_due(store: Any, app_id: int, node_id: int, **fields: Any) -> Scheduled:
    """A schedule that is due, as it is read."""
    await store.notifications.accept(scheduled(app_id, node_id, **fields))
    (due,) = await store.schedules.due(NOW, 10)
    return due


async def rolling(store: Any, app_id: int, node_id: int, *planned: Planned, **fields: Any) -> DueRelease:
    """The first release of a rollout, due."""
    due = await one_due(store, app_id, node_id, schedule=LOCAL)
    assert await store.schedules.fire([rollout(due, node_id, *planned, **fields)], node_id) == [True]
    (release,) = await store.rollouts.due(NOW, 10)
    return release


def lose_commit(store: Any, monkeypatch: Any, marker: str, *, commits: bool) -> list[str]:
    """The transaction in which a statement with these words runs loses its connection, after or before it committed."""
    lost: list[str] = []
    whole = store.database.transaction

    class Watched:
        def __init__(self, connection: Any) -> None:
            self._connection = connection
            self.marked = False

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
            self.marked = self.marked or marker in query
            return await self._connection.fetch(query, *args, **options)

    class Losing:
        def __init__(self, *args: Any, **options: Any) -> None:
            self._inner = whole(*args, **options)

        async def __aenter__(self) -> Any:
            self._watched = Watched(await self._inner.__aenter__())
            return self._watched

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> Any:
            if kind is None and self._watched.marked and not lost:
                lost.append(marker)
                if commits:
                    await self._inner.__aexit__(None, None, None)
                    raise OutcomeUnknownError("lost")
                unknown = OutcomeUnknownError("lost")
                await self._inner.__aexit__(OutcomeUnknownError, unknown, None)
                raise unknown
            return await self._inner.__aexit__(kind, error, trace)

    monkeypatch.setattr(store.database, "transaction", Losing)
    return lost


def later(scheduled: Scheduled, **fields: Any) -> Scheduled:
    """The schedule with changes."""
    return dataclasses.replace(scheduled, **fields)
