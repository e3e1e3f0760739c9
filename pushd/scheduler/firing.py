"""Firing: from schedules that are due to notifications, each with its first release or with all that are to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from pushd.bitset import Devices, without
from pushd.content.kinds import kinds
from pushd.content.life import lasting, tried_until
from pushd.errors import InvalidRequestError, NotFoundError, TooManyRequestsError
from pushd.model.app import App
from pushd.model.audience import DeviceIds, UserIds
from pushd.model.message import PushType
from pushd.model.notification import Notification, Send
from pushd.scheduler.deciding import Decision, decide, goes_by_devices, goes_by_hours
from pushd.scheduler.due import recurs
from pushd.scheduler.gate import Admission
from pushd.scheduler.missed import ON_TIME_S
from pushd.scheduler.parts import Parts, Suppressed, all_passed, count_suppressed, dropped
from pushd.scheduler.releases import BATCH_S, part
from pushd.scheduler.stages import Crowd, Stage, planned, stages
from pushd.store.accepts import Accept
from pushd.store.firings import Firing
from pushd.store.literals import microseconds
from pushd.store.release_rows import Planned
from pushd.store.schedules import Scheduled

log = structlog.get_logger(__name__)

NAMES_MAX = 100
"""An audience that names up to so many is few people: they are released in the zones in which they are when planned."""


@dataclass(frozen=True, slots=True)
class Case:
    """A due schedule, and what becomes of it."""

    due: Scheduled
    app: App
    send: Send
    """With what the app says where it says nothing itself."""
    decision: Decision
    now: float

    @property
    def recurs(self) -> bool:
        """Whether each of its occurrences is a notification of its own."""
        return recurs(self.due.send)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A firing, and what starts with its commit."""

    firing: Firing
    app: App | None
    go: Devices
    """Goes out at once; all others of the firing wait, or are suppressed."""
    version: int = -1
    """The index's when they were looked for; -1: they are to be looked at again."""
    admission: Admission | None = None

    def notification(self) -> Notification:
        """The notification as the fan-out takes it."""
        start = self.firing.start
        assert start is not None, "only of those that fire"
        return Notification(
            id=self.firing.notification_id,
            app_id=start.app_id,
            send=start.send,
            created_at=start.created_at,
            released_at=start.released_at,
            expires_at=start.expires_at,
        )


class Starter:
    """Makes firings of schedules that are due, and starts what was committed of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def prepare(self, due: Scheduled) -> Shot:
        """The firing of a due schedule.

        TooManyRequestsError and UnavailableError where the fan-out has no room; UnavailableError where its audience
        cannot be read now.
        """
        now = microseconds(self._parts.clock.now())
        app = await self._parts.app(due.app_id)
        if app is None:
            return _nothing(due, None, Decision(run=None, skipped=(due.nominal or now,)))
        case = self._case(due, app, now)
        run = case.decision.run
        if run is None:
            return _nothing(due, app, case.decision)
        try:
            return await self._fire(case)
        except (InvalidRequestError, NotFoundError) as error:
            log.warning("schedule_audience_invalid", schedule=due.id, reason=error.code)
        if case.recurs:
            return _nothing(due, app, replace(case.decision, run=None, skipped=(*case.decision.skipped, run)))
        return await self._at_once(case, Devices())

    def _case(self, due: Scheduled, app: App, now: float) -> Case:
        decision = decide(
            due.send,
            nominal=now if due.nominal is None else due.nominal,
            accepted_at=due.accepted_at,
            occurred=due.occurred + due.skipped,
            now=now,
            app_zone=app.settings.time_zone,
        )
        return Case(due, app, lasting(due.send, app.settings), decision, now)

    async def _fire(self, case: Case) -> Shot:
        if goes_by_devices(case.send):
            return await self._round_the_world(case)
        send, gate = case.send, self._parts.gate
        devices = await self._resolve(case)
        version = self._parts.index.version
        if case.decision.too_late or _is_past(case):
            return await self._at_once(case, devices, all_passed(devices))
        if send.release_window_minutes and devices:
            return await self._rollout(case, _known(batches(devices, send, _begin(case))))
        if not gate.concerns(case.app, send):
            return await self._at_once(case, devices, version=version)
        admission = await gate.judge(case.app, send, devices, case.now)
        if admission.held:
            # Who may go now is asked again when that release is opened, in a moment; so is who is not to get it.
            now = Devices.union(admission.go, *(some for some, _ in admission.dropped))
            return await self._rollout(case, _known([*([(case.now, now)] if now else []), *held(admission)]))
        return await self._at_once(case, devices, dropped(admission.dropped), admission, version=version)

    async def _resolve(self, case: Case) -> Devices:
        found = await self._parts.resolve(case.app.id, case.send.audience, kinds(case.send.message.push_type))
        return found.devices

    async def _round_the_world(self, case: Case) -> Shot:
        """A firing whose releases look for their devices when they are due."""
        parts, send = self._parts, case.send
        places = parts.places(case.app.id)
        stage = Stage(as_of=case.due.accepted_at, occurrence=case.decision.run if case.recurs else None)
        found = planned(send, stage, places, case.app.settings.time_zone)
        if isinstance(send.audience, UserIds | DeviceIds) and len(send.audience.ids) <= NAMES_MAX:
            # Nobody but these: a release that none of them waits for is not worth its transactions.
            who = await self._resolve(case)
            hours = await parts.habits.hours(case.app.id, who, case.now) if goes_by_hours(send) else None
            crowd = Crowd(who, places, hours)
            passed = found.passed if found.passed is not None and crowd.within(found.passed) else None
            wanted = {at for at, _ in crowd.later(found.releases, float("-inf"), Devices())}
            found = replace(found, releases=tuple(each for each in found.releases if each.at in wanted), passed=passed)
        due = stages(found, stage)
        if not due:
            return await self._at_once(case, Devices())
        return await self._rollout(
            case,
            [
                Planned(number=number, at=at, selector=each.dump(), devices=None)
                for number, (at, each) in enumerate(due)
            ],
        )

    async def _rollout(self, case: Case, releases: Sequence[Planned]) -> Shot:
        """A firing of releases that are all to be opened."""
        return await self._shot(case, Devices(), rollout=tuple(releases))

    async def _at_once(
        self,
        case: Case,
        devices: Devices,
        suppressed: Suppressed = (),
        admission: Admission | None = None,
        version: int = -1,
    ) -> Shot:
        """A firing of one release, to all of these devices but the suppressed."""
        go = without(devices, suppressed)
        if go:
            self._parts.fanout.check_room(len(go), case.app.id)
        return await self._shot(case, devices, go=go, suppressed=suppressed, admission=admission, version=version)

    async def _shot(
        self,
        case: Case,
        devices: Devices,
        *,
        number: int = 0,
        go: Devices | None = None,
        suppressed: Suppressed = (),
        admission: Admission | None = None,
        version: int = -1,
        rollout: tuple[Planned, ...] = (),
    ) -> Shot:
        """The firing; `number` is the notification's, where it was reserved before."""
        decision = case.decision
        assert decision.run is not None, "only of those that run"
        if not number:
            # A schedule that fires once keeps its id.
            number = (await self._parts.reserve(1))[0] if case.recurs else case.due.id
        end = tried_until(case.send, case.now)
        firing = Firing(
            due=case.due,
            occurrence=decision.run,
            skipped=decision.skipped,
            following=decision.following,
            notification_id=number,
            start=Accept(
                app_id=case.app.id,
                send=case.send,
                targeted=devices,
                suppressed=suppressed,
                node_id=self._parts.node_id,
                created_at=case.now,
                released_at=case.now,
                expires_at=float(end) if end else case.now,
                kinds=kinds(case.send.message.push_type),
            ),
            rollout=rollout,
            tally=None if admission is None else admission.tally,
        )
        return Shot(
            firing=firing, app=case.app, go=Devices() if go is None else go, version=version, admission=admission
        )

    async def prepare_plain(self, dues: Sequence[Scheduled]) -> tuple[list[Shot], list[Scheduled]]:
        """The firings of those that go at once, and whole, to one user all of whose devices can be reached; the rest.

        What the fan-out has no room for in its app is in the rest; UnavailableError where it has none at all.
        """
        now = microseconds(self._parts.clock.now())
        apps = {app_id: await self._parts.app(app_id) for app_id in {due.app_id for due in dues}}
        groups: dict[tuple[int, PushType], list[Case]] = {}
        rest: list[Scheduled] = []
        for due in dues:
            app = apps[due.app_id]
            case = None if app is None else self._plain(due, app, now)
            if case is None:
                rest.append(due)
            else:
                groups.setdefault((due.app_id, due.send.message.push_type), []).append(case)
        shots: list[Shot] = []
        for cases in groups.values():
            shots += await self._plain_shots(cases, rest)
        return shots, rest

    def _plain(self, due: Scheduled, app: App, now: float) -> Case | None:
        """A send to one user that nothing but its time has kept back; None of others."""
        send = due.send
        if type(send.audience) is not UserIds or len(send.audience.ids) != 1 or send.release_window_minutes:
            return None
        if goes_by_devices(send) or self._parts.gate.concerns(app, send):
            return None
        case = self._case(due, app, now)
        return None if case.decision.run is None or case.decision.too_late or _is_past(case) else case

    async def _plain_shots(self, cases: Sequence[Case], rest: list[Scheduled]) -> list[Shot]:
        """The firings of sends of one app and push type; those that are not plain after all go to the rest."""
        parts, app = self._parts, cases[0].app
        names = [case.send.audience.ids[0] for case in cases if isinstance(case.send.audience, UserIds)]
        found, version = (
            parts.index.each_user(app.id, names, kinds(cases[0].send.message.push_type)),
            parts.index.version,
        )
        known = [(case, who) for case, who in zip(cases, found, strict=True) if who is not None]
        rest += [case.due for case, who in zip(cases, found, strict=True) if who is None]
        try:
            parts.fanout.check_room(sum(len(who) for _, who in known), app.id)
        except TooManyRequestsError:
            rest += [case.due for case, _ in known]
            return []
        fresh = sum(case.recurs for case, _ in known)
        numbers = iter(await parts.reserve(fresh) if fresh else ())
        return [
            await self._shot(case, who, go=who, number=next(numbers) if case.recurs else case.due.id, version=version)
            for case, who in known
        ]

    def start(self, shot: Shot) -> None:
        """Starts what was committed, in the turn of the event loop in which that is known."""
        if shot.admission is not None:
            self._parts.gate.sent(shot.admission)
        accept = shot.firing.start
        if shot.go and shot.app is not None and accept is not None:
            self._parts.fanout.release(
                shot.notification(), shot.app.settings, shot.go, suppressed=accept.suppressed, version=shot.version
            )
        elif accept is not None:
            count_suppressed(accept.suppressed)


def batches(devices: Devices, send: Send, begin: float) -> list[tuple[float, Devices]]:
    """The batches of a release window that begins at an instant, each with when it goes out; none is empty."""
    count = send.release_window_minutes or 1
    cut = ((begin + number * BATCH_S, part(devices, number, count)) for number in range(count))
    return [(at, some) for at, some in cut if some]


def held(admission: Admission) -> list[tuple[float, Devices]]:
    """Who has to wait, by when: at full minutes."""
    found: dict[float, Devices] = {}
    for until, devices in admission.held:
        at = -(-until // BATCH_S) * BATCH_S
        found[at] = found[at] | devices if at in found else devices
    return sorted(found.items())


def _known(parts: Sequence[tuple[float, Devices]]) -> list[Planned]:
    """Releases whose devices are known."""
    return [Planned(number=number, at=at, selector=None, devices=some) for number, (at, some) in enumerate(parts)]


def _begin(case: Case) -> float:
    """When a release window begins: at its time, or now where that was missed."""
    run = case.decision.run
    return run if run is not None and case.now - run <= ON_TIME_S else case.now


def _is_past(case: Case) -> bool:
    """Whether its time was past when it was accepted, and those whom that concerned were to be ignored."""
    if case.recurs or (case.due.nominal or 0.0) > case.due.accepted_at:
        return False
    stage = Stage(as_of=case.due.accepted_at)
    return planned(case.send, stage, (), case.app.settings.time_zone).passed is not None


def _nothing(due: Scheduled, app: App | None, decision: Decision) -> Shot:
    """Of a schedule of which nothing is sent now."""
    firing = Firing(
        due=due,
        occurrence=decision.skipped[-1],
        skipped=decision.skipped,
        following=decision.following,
        notification_id=0,
        start=None,
        rollout=(),
    )
    return Shot(firing=firing, app=app, go=Devices())
