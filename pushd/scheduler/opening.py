"""Opening: releases of notifications that are under way, each with its devices as of the moment in which it is due."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import structlog

from pushd.bitset import Devices, without
from pushd.content.kinds import kinds
from pushd.content.life import tried_until
from pushd.errors import InvalidRequestError, NotFoundError
from pushd.model.app import App
from pushd.outcome import UNREACHABLE
from pushd.scheduler.deciding import goes_by_hours
from pushd.scheduler.firing import batches, held
from pushd.scheduler.gate import Admission
from pushd.scheduler.missed import ON_TIME_S, allowed_s
from pushd.scheduler.parts import Parts, Suppressed, all_passed, count_suppressed, dropped
from pushd.scheduler.stages import Crowd, Stage, planned, reached
from pushd.store.literals import microseconds
from pushd.store.release_rows import Planned
from pushd.store.rollouts import DueRelease, Opening

log = structlog.get_logger(__name__)

NEAR_S = 0.5
"""Instants of one plan lie a minute apart or more; the database keeps microseconds of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An opening, and what starts with its commit."""

    opening: Opening
    app: App | None
    go: Devices
    version: int
    admission: Admission | None = None


@dataclass(slots=True)
class _Found:
    """Whom a release is for."""

    devices: Devices
    suppressed: Suppressed = ()
    further: tuple[Planned, ...] = ()
    version: int = -1
    """The index's when they were looked for; -1: they are to be looked at again."""


class Opener:
    """Makes openings of releases that are due, and starts what was committed of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def prepare(self, due: DueRelease) -> Opened:
        """The opening of a due release.

        TooManyRequestsError and UnavailableError where the fan-out has no room; UnavailableError where its audience
        cannot be read now.
        """
        now = microseconds(self._parts.clock.now())
        app = await self._parts.app(due.notification.app_id)
        devices = due.devices or Devices()
        if app is None:
            return self._opened(due, None, _Found(devices, _lost(devices)), now, Devices())
        if due.devices is not None:
            found = _Found(devices)  # the fan-out looks whether the audience holds still
        else:
            try:
                found = await self._stage(due, app, now)
            except (InvalidRequestError, NotFoundError) as error:
                log.warning("release_audience_invalid", notification=due.notification.id, reason=error.code)
                found = _Found(Devices())
        return await self._admitted(due, app, found, now)

    async def _stage(self, due: DueRelease, app: App, now: float) -> _Found:
        """Whom a stage has come to, less whoever had the notification."""
        parts, notification = self._parts, due.notification
        send = notification.send
        assert due.selector is not None, "a release has devices or a stage"
        stage = Stage.load(due.selector)
        resolved = await parts.resolve(app.id, send.audience, kinds(send.message.push_type))
        version = parts.index.version
        left = resolved.devices - await parts.rollouts.targeted(notification.id)
        places = parts.places(app.id)
        found = planned(send, stage, places, app.settings.time_zone)
        # Of the whole audience: whose hour is not known goes by that of all, and not of those who are left.
        whole = resolved.devices
        hours = await parts.habits.hours(app.id, whole, now) if left and goes_by_hours(send) else None
        crowd = Crowd(left, places, hours)
        if stage.passed:
            devices = crowd.within(found.passed) if found.passed is not None and left else Devices()
            return _Found(devices, all_passed(devices))
        devices = crowd.within(reached(found, due.at + NEAR_S)) if left else Devices()
        further: list[Planned] = []
        if stage.last and left:
            waiting = crowd.later(found.releases, due.at + NEAR_S, devices)
            for number, (at, _) in enumerate(waiting, 1):
                each = msgspec.structs.replace(stage, last=number == len(waiting))
                further.append(Planned(number=0, at=at, selector=each.dump(), devices=None))
        if now - due.at > allowed_s(send.schedule):
            return _Found(devices, all_passed(devices), tuple(further))
        if send.release_window_minutes and devices:
            first, *rest = batches(devices, send, due.at if now - due.at <= ON_TIME_S else now)
            further += [Planned(number=0, at=at, selector=None, devices=some) for at, some in rest]
            devices = first[1]
        return _Found(devices, (), tuple(further), version)

    async def _admitted(self, due: DueRelease, app: App, found: _Found, now: float) -> Opened:
        """The opening, once quiet hours and caps have had their say."""
        gate, send = self._parts.gate, due.notification.send
        go = without(found.devices, found.suppressed)
        if not go or not gate.concerns(app, send):
            return self._opened(due, app, found, now, go)
        admission = await gate.judge(app, send, go, now, due.notification.id)
        waiting = Devices.union(Devices(), *(some for _, some in admission.held))
        found.devices = found.devices - waiting
        found.suppressed += dropped(admission.dropped)
        found.further += tuple(Planned(number=0, at=at, selector=None, devices=some) for at, some in held(admission))
        return self._opened(due, app, found, now, admission.go, admission)

    def _opened(
        self,
        due: DueRelease,
        app: App | None,
        found: _Found,
        now: float,
        go: Devices,
        admission: Admission | None = None,
    ) -> Opened:
        if go and app is not None:
            self._parts.fanout.check_room(len(go), app.id)
        end = tried_until(due.notification.send, now)
        opening = Opening(
            release=due,
            targets=found.devices,
            suppressed=found.suppressed,
            released_at=now,
            expires_at=float(end) if end else now,
            further=found.further,
            tally=None if admission is None else admission.tally,
        )
        return Opened(opening=opening, app=app, go=go, version=found.version, admission=admission)

    def start(self, opened: Opened) -> None:
        """Starts what was committed, in the turn of the event loop in which that is known."""
        if opened.admission is not None:
            self._parts.gate.sent(opened.admission)
        opening = opened.opening
        if not opened.go or opened.app is None:
            count_suppressed(opening.suppressed)
            return
        due = opening.release
        self._parts.fanout.release(
            msgspec.structs.replace(due.notification, released_at=opening.released_at, expires_at=opening.expires_at),
            opened.app.settings,
            opened.go,
            release=due.number,
            suppressed=opening.suppressed,
            paused=due.paused,
            version=opened.version,
        )


def _lost(devices: Devices) -> Suppressed:
    return ((devices, UNREACHABLE.code),) if devices else ()
