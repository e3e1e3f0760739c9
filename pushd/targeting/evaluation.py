"""Carries an evaluation to its end: at once, or in slices, with what changed meanwhile asked again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.targeting.population import Population
from pushd.targeting.scope import Scope, Steps

SLICE_S = 0.005
"""Work of one evaluation before others get their turn."""
ROUNDS_MAX = 8
"""How often what changed is asked again in slices. What changed in the last of them is asked at once."""
FEW_CHANGED = 1_000
"""Up to here what changed is asked again at once, and the evaluation is done."""


class Watch:
    """Collects the devices whose part in an audience may have changed, from `begin` on."""

    __slots__ = ("_app_id", "_beside", "_devices", "_population", "gone")

    def __init__(self, population: Population, app_id: int, *, beside: bool) -> None:
        self._beside = beside
        """Whether a device counts for the others of its user and install."""
        self._population = population
        self._app_id = app_id
        self._devices = Devices()
        self.gone = False
        """The app was removed meanwhile."""

    def begin(self) -> None:
        """Collects from now on."""
        if self not in self._population.watches:
            self._population.watches.append(self)

    def touch(self, ids: NDArray[np.uint32]) -> None:
        """Notes devices of any app."""
        self._devices |= Devices.of(ids)
        if self._beside:
            self._devices |= self._population.siblings(ids)

    def remove_app(self, app_id: int) -> None:
        """Notes that an app went."""
        self.gone |= app_id == self._app_id

    def take(self) -> Devices:
        """What was collected since it was last taken."""
        devices, self._devices = self._devices, Devices()
        return devices

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self in self._population.watches:
            self._population.watches.remove(self)


def at_once(steps: Steps) -> Devices:
    """The devices, in one go."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            devices: Devices = end.value
            return devices


async def in_slices(steps: Steps, before_pause: Callable[[], None]) -> Devices:
    """The devices; whenever a slice of time is used up, others get their turn, after a call of `before_pause`."""
    begun = time.perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            devices: Devices = end.value
            return devices
        if time.perf_counter() - begun > SLICE_S:
            before_pause()
            await asyncio.sleep(0)
            begun = time.perf_counter()


async def settle(watch: Watch, evaluate: Callable[[Devices | None], tuple[Scope, Steps]]) -> tuple[Scope, Devices]:
    """The first scope, and exactly what its audience matches at the moment of return: changes meanwhile included.

    `evaluate` begins an evaluation within some devices, or (None) of all.
    """
    first, steps = evaluate(None)
    matched = await in_slices(steps, watch.begin)
    rounds = 0
    while changed := watch.take():
        rounds += 1
        _, steps = evaluate(changed)
        if len(changed) <= FEW_CHANGED or rounds > ROUNDS_MAX:
            part = at_once(steps)
        else:
            part = await in_slices(steps, watch.begin)
        matched = (matched - changed) | (part & changed)
    return first, matched
