"""What firing and opening work with: the schedules and releases of the store, audiences, the gate, the fan-out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.clock import Clock
from pushd.config.scheduler import SchedulerConfig
from pushd.model.app import App, Settings
from pushd.model.audience import Audience
from pushd.model.device import Kind
from pushd.model.notification import Notification, Send
from pushd.outcome import TIME_PASSED, Reason
from pushd.scheduler.gate import Admission
from pushd.store.rollouts import RolloutStore
from pushd.store.schedules import ScheduleStore
from pushd.targeting.index import Index, Resolution
from pushd.telemetry import DELIVERIES

Suppressed = tuple[tuple[Devices, int], ...]
"""Devices that get nothing, and the code of the reason."""
Resolve = Callable[[int, Audience, frozenset[Kind]], Awaitable[Resolution]]
"""Whom an app's audience reaches now; errors as those of `commands.audience.resolve`."""
APNS = "apns"
"""Under which gateway the fan-out counts what never came to one."""


class Fanout(Protocol):
    """What is asked of the fan-out; `fanout.engine` is the implementation."""

    def check_room(self, rows: int = 1, app_id: int = 0) -> None:
        """Raises where so many rows more are too many: TooManyRequestsError of this app, UnavailableError of all."""

    def release(
        self,
        notification: Notification,
        settings: Settings,
        devices: Devices,
        *,
        release: int = 0,
        suppressed: Sequence[tuple[Devices, int]] = (),
        paused: bool = False,
        version: int = -1,
    ) -> None:
        """Starts a release whose targets are committed; `version` is the index's when they were looked for."""


class Gate(Protocol):
    """What is asked of quiet hours and caps; `scheduler.gate` is the implementation."""

    def concerns(self, app: App, send: Send) -> bool:
        """Whether some device may have to wait for this send, or not get it."""

    async def judge(self, app: App, send: Send, devices: Devices, at: float, notification_id: int = 0) -> Admission:
        """Who of these devices may get it now, who later, and who not; its id where it has other releases, too."""

    def sent(self, admission: Admission) -> None:
        """Lets what was admitted stay counted: it is committed."""

    def renew(self) -> None:
        """Looks at what others sent before the next judgement."""


class Habits(Protocol):
    """What is asked of preferred hours; `scheduler.habits` is the implementation."""

    async def hours(self, app_id: int, devices: Devices, at: float) -> tuple[NDArray[np.uint32], NDArray[np.int8]]:
        """The devices, ascending, and the preferred hour of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All of them; the daemon puts them together."""

    schedules: ScheduleStore
    rollouts: RolloutStore
    reserve: Callable[[int], Awaitable[list[int]]]
    """So many ids of notifications to come."""
    app: Callable[[int], Awaitable[App | None]]
    index: Index
    resolve: Resolve
    zones: Callable[[int], Iterable[tuple[str, Devices]]]
    """The zones of an app's devices by IANA's names, each with the index's own set."""
    fanout: Fanout
    gate: Gate
    habits: Habits
    clock: Clock
    node_id: int
    config: SchedulerConfig

    def places(self, app_id: int) -> dict[str, Devices]:
        """The devices of an app in each zone that is known."""
        return {name: devices for name, devices in self.zones(app_id) if name and devices}


def all_passed(devices: Devices) -> Suppressed:
    """These devices as those whose time was past."""
    return ((devices, TIME_PASSED.code),) if devices else ()


def dropped(pairs: Iterable[tuple[Devices, Reason]]) -> Suppressed:
    """What a gate keeps back for good, as the store takes it."""
    return tuple((devices, reason.code) for devices, reason in pairs if devices)


def count_suppressed(suppressed: Suppressed) -> None:
    """Counts rows that ended with the commit that made them; of a release that runs the fan-out counts them."""
    count = sum(len(devices) for devices, _ in suppressed)
    if count:
        DELIVERIES.labels(APNS, "suppressed").inc(count)
