"""In-app messages that are due: an occurrence becomes one, and one that goes round the world has its next release."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import structlog

from pushd.bitset import Devices, Users
from pushd.errors import InvalidRequestError, NotFoundError
from pushd.model.app import App
from pushd.model.audience import And, Audience, DeviceIds, InAppConsent, UserIds
from pushd.model.in_app import DAY_S, LETTERS_MAX, InAppBody, InAppContent, InAppPush, PresentedWhen
from pushd.model.notification import Send
from pushd.model.schedule import RunLate, Schedule, Strategy
from pushd.scheduler.deciding import decide, goes_by_devices, goes_by_hours
from pushd.scheduler.due import as_said, recurs
from pushd.scheduler.firing import NAMES_MAX
from pushd.scheduler.missed import allowed_s
from pushd.scheduler.opening import NEAR_S
from pushd.scheduler.parts import Parts
from pushd.scheduler.releases import BATCH_S
from pushd.scheduler.stages import Crowd, Stage, planned, reached
from pushd.store import in_app_firings as store
from pushd.store.accepts import Due
from pushd.store.firings import Firing
from pushd.store.in_app import InAppStore
from pushd.store.in_app_rows import Release
from pushd.store.literals import microseconds
from pushd.store.schedules import Scheduled
from pushd.targeting.index import Resolution
from pushd.targeting.recipients import Recipients
from pushd.telemetry import SCHEDULE_LATENESS, SCHEDULES_FIRED, SCHEDULES_SKIPPED

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_content = msgspec.json.Decoder(InAppContent).decode


def body_of(said: InAppContent) -> bytes:
    """What recipients are given, as it is stored."""
    return _encode(
        InAppBody(
            content=msgspec.Raw(_encode(said.content)),
            presented_when=said.presented_when,
            data=msgspec.Raw(_encode(said.data)),
            ttl=said.ttl,
            inbox=said.inbox,
            template=said.template,
            liquid=said.liquid,
            content_tags=said.content_tags if said.liquid else {},
            locales=said.locales,
        )
    )


def released(said: InAppContent, whom: Recipients, now: float, keep_days: int, batches: int = 0) -> Release:
    """A release now to these, with the times that follow from what the message says; `batches`: 0 where it is all."""
    expires = inbox_from = inbox_to = None
    if said.presented_when is not PresentedWhen.NEVER and said.ttl is not None:
        expires = now + said.ttl.seconds
    if said.inbox is not None:
        inbox_from = max(now, said.inbox.available_from or 0)
        inbox_to = said.inbox.available_to or inbox_from + keep_days * DAY_S
    last = max(batches - 1, 0) * BATCH_S
    return Release(
        at=now,
        expires_at=expires,
        inbox_from=inbox_from,
        inbox_to=inbox_to,
        ends_at=max(0 if expires is None else expires + last, inbox_to or 0),
        users=whom.users,
        devices=whom.devices,
        installs=len(whom.installs),
        letters=whom.numbers if len(whom) <= LETTERS_MAX else None,
        batches=batches,
    )


def push_to(audience: Audience) -> Audience:
    """Whom the push that goes along with a message to these reaches."""
    return And(of=[audience, InAppConsent(is_=True)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterbox:
    """What in-app messages need beside what all schedules do."""

    firer: store.InAppFirer
    messages: InAppStore
    resolve: Callable[[int, Audience], Awaitable[Resolution]]
    """Whose devices take in-app messages; errors as those of `commands.audience.resolve`."""
    recipients: Callable[[int, Devices], Awaitable[Recipients]]
    changed: Callable[[int, Sequence[int]], Awaitable[None]]
    """Hears of messages that have come to somebody."""
    push_waits: Callable[[], None]
    keep_days: int
    """How long a message stays in the inbox that says nothing else."""


class Releaser:
    """Carries out what is due of in-app messages: each in a commit that fails where somebody was faster."""

    def __init__(self, parts: Parts, box: Letterbox) -> None:
        self._parts = parts
        self._box = box

    async def carry_out(self, due: Scheduled) -> bool:
        """Whether something came of what is due; False: it was changed meanwhile.

        UnavailableError: the audience cannot be read now, or nothing can be written.
        """
        now = microseconds(self._parts.clock.now())
        app = await self._parts.app(due.app_id)
        if due.stage is not None:
            return await self._open(due, app, now)
        return await self._fire(due, app, now)

    async def _fire(self, due: Scheduled, app: App | None, now: float) -> bool:
        decision = decide(
            due.send,
            nominal=now if due.nominal is None else due.nominal,
            accepted_at=due.accepted_at,
            occurred=due.occurred + due.skipped,
            now=now,
            app_zone="UTC" if app is None else app.settings.time_zone,
        )
        assert due.in_app is not None, "only of in-app messages"
        said = _content(due.in_app)
        run = decision.run if app is not None else None
        number = 0
        if run is not None:
            number = (await self._parts.reserve(1))[0] if recurs(due.send) else due.id
        firing = Firing(
            due=due,
            occurrence=run if run is not None else (decision.skipped or (due.nominal or now,))[-1],
            skipped=decision.skipped,
            following=decision.following if app is not None else None,
            notification_id=number,
        )
        wanted = store.InAppFiring(
            firing=firing,
            name=due.send.name,
            audience=_encode(due.send.audience),
            body=body_of(said),
            push=None if said.push is None else _encode(said.push),
            release=None,
        )
        if run is not None and app is not None:
            if goes_by_devices(due.send):
                wanted = await self._round(wanted, said, app, run, now)
            else:
                late = decision.too_late or self._is_past(due, app)
                wanted = await self._whole(wanted, said, now, late=late)
        done = await self._box.firer.fire(wanted, self._parts.node_id)
        if done:
            SCHEDULES_SKIPPED.inc(len(decision.skipped))
            if number:
                SCHEDULES_FIRED.inc()
                SCHEDULE_LATENESS.observe(max(0.0, now - (due.next_at or now)))
            await self._told(due.app_id, number, wanted.release)
        return done

    async def _whole(
        self, wanted: store.InAppFiring, said: InAppContent, now: float, *, late: bool
    ) -> store.InAppFiring:
        """A firing that releases the message to all, at once or in batches."""
        due, keep_days = wanted.firing.due, self._box.keep_days
        devices = await self._resolve(due)
        whom = await self._box.recipients(due.app_id, devices)
        if late:
            return replace(wanted, release=_missed(whom, devices, now), push=None)
        minutes = due.send.release_window_minutes
        if minutes is None:
            return replace(wanted, release=released(said, whom, now, keep_days))
        release = released(said, whom, now, keep_days, 1 if said.push is not None else minutes)
        if said.push is None or not devices:
            return replace(wanted, release=release)
        send = _push(said.push, due, wanted.firing.notification_id, None)
        return replace(wanted, release=release, push_along=await self._along(send, now, now, now))

    async def _round(
        self, wanted: store.InAppFiring, said: InAppContent, app: App, run: float, now: float
    ) -> store.InAppFiring:
        """A firing from which on the message goes round the world, its push beside it."""
        due = wanted.firing.due
        again = recurs(due.send)
        stage = Stage(as_of=due.accepted_at, occurrence=run if again else None)
        found = planned(due.send, stage, self._parts.places(app.id), app.settings.time_zone)
        first = microseconds(found.releases[0].at if found.releases else now)
        firing = wanted.firing if again else replace(wanted.firing, following=Due(first, first))
        wanted = replace(wanted, firing=firing, round=store.Round(stage=stage.dump(), at=first))
        if said.push is None:
            return wanted
        send = _push(said.push, due, wanted.firing.notification_id, run if again else None)
        return replace(wanted, push_along=await self._along(send, due.accepted_at, now, run))

    async def _along(self, send: Send, accepted_at: float, at: float, nominal: float) -> store.PushAlong:
        (number,) = await self._parts.reserve(1)
        return store.PushAlong(id=number, send=send, accepted_at=accepted_at, at=at, nominal=nominal)

    async def _open(self, due: Scheduled, app: App | None, now: float) -> bool:
        """Whether the next release of a message that goes round the world was carried out."""
        wanted = store.Stage(due=due, release=None, missed=None, next_at=None)
        if app is not None:
            wanted = await self._stage(due, app, now)
        done = await self._box.firer.open(wanted, self._parts.node_id)
        if done:
            SCHEDULE_LATENESS.observe(max(0.0, now - (due.next_at or now)))
            await self._told(due.app_id, due.id, wanted.release)
        return done

    async def _stage(self, due: Scheduled, app: App, now: float) -> store.Stage:
        """Whom a stage has come to, less whoever has the message, and whoever it came to too late."""
        parts, box, send = self._parts, self._box, due.send
        assert due.stage is not None, "only where it goes round the world"
        assert due.in_app is not None, "only of in-app messages"
        stage, said, at = Stage.load(due.stage), _content(due.in_app), due.next_at or now
        whole = await self._resolve(due)
        users, had = await box.messages.reached(due.id)
        left, places = whole - had, parts.places(app.id)
        found = planned(send, stage, places, app.settings.time_zone)
        hours = await parts.habits.hours(app.id, whole, now) if left and goes_by_hours(send) else None
        crowd = Crowd(left, places, hours)
        passed = crowd.within(found.passed) if found.passed is not None and left else Devices()
        go = crowd.within(reached(found, at + NEAR_S)) - passed if left else Devices()
        if now - at > allowed_s(send.schedule):
            passed, go = passed | go, Devices()
        ahead = [each.at for each in found.releases if each.at > at + NEAR_S]
        if isinstance(send.audience, UserIds | DeviceIds) and len(send.audience.ids) <= NAMES_MAX:
            ahead = [each for each, _ in crowd.later(found.releases, at + NEAR_S, go | passed)]
        whom = await box.recipients(app.id, go)
        whom = Recipients(whom.users - users, whom.devices, whom.installs)
        minutes = 1 if said.push is not None else send.release_window_minutes or 1
        return store.Stage(
            due=due,
            release=released(said, whom, now, box.keep_days, minutes) if len(whom) else None,
            missed=_missed(await box.recipients(app.id, passed), passed, now) if passed else None,
            next_at=microseconds(ahead[0]) if ahead else None,
        )

    async def _resolve(self, due: Scheduled) -> Devices:
        try:
            return (await self._box.resolve(due.app_id, due.send.audience)).devices
        except (InvalidRequestError, NotFoundError) as error:
            # What it names (a segment, a geofence) is gone since: it reaches nobody, and is seen to have.
            log.warning("in_app_audience_invalid", schedule=due.id, reason=error.code)
            return Devices()

    async def _told(self, app_id: int, message_id: int, release: Release | None) -> None:
        if release is not None and not release.missed:
            await self._box.changed(app_id, [message_id])
            self._box.push_waits()

    def _is_past(self, due: Scheduled, app: App) -> bool:
        """Whether its time was past when it was accepted, and those whom that concerned were to be ignored."""
        if recurs(due.send) or (due.nominal or 0.0) > due.accepted_at:
            return False
        return planned(due.send, Stage(as_of=due.accepted_at), (), app.settings.time_zone).passed is not None


def _missed(whom: Recipients, devices: Devices, now: float) -> Release:
    """A release to nobody: by devices, since users may have others that it comes to in time."""
    return Release(
        at=now,
        expires_at=None,
        inbox_from=None,
        inbox_to=None,
        ends_at=now,
        users=Users(),
        devices=devices,
        installs=len(whom),
        letters=None,
        batches=1,
        missed=True,
    )


def _push(push: InAppPush, due: Scheduled, message_id: int, occurrence: float | None) -> Send:
    """The push of a message that comes by and by, with the time of the message, or of the occurrence that it is."""
    send = push.send(push_to(due.send.audience), message_id)
    schedule = due.send.schedule
    if schedule is not None and schedule.strategy in {Strategy.LOCAL, Strategy.INTELLIGENT}:
        if occurrence is not None:
            schedule = Schedule(
                strategy=schedule.strategy,
                send_at=as_said(schedule.strategy, occurrence),
                past_times=schedule.past_times,
                missed=schedule.missed or RunLate(),
            )
    else:
        schedule = None
    return msgspec.structs.replace(
        send,
        schedule=schedule,
        intelligent_delivery=due.send.intelligent_delivery,
        release_window_minutes=due.send.release_window_minutes,
    )
