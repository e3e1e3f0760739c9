"""Devices by what installs have in common (platform, versions, locale, country, time zone) and by days of sight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.model.device import Profile
from pushd.model.rows import Sight
from pushd.targeting.columns import Column
from pushd.targeting.postings import by_number

Facet = Literal["platform", "os_version", "app_version", "locale", "country", "time_zone"]
FACETS: tuple[Facet, ...] = get_args(Facet)
SIGHTS: tuple[Sight, ...] = get_args(Sight)
DAY_S = 86_400


def fold(facet: Facet, value: str) -> str:
    """The form in which two spellings of a value are alike: Java's `pt_BR` is `pt-br`."""
    if facet == "locale":
        return value.replace("_", "-").lower()
    return value.lower() if facet in ("country", "time_zone") else value


class Values:
    """The values of one facet in an app, numbered from 1 in the order they are met, and the devices of each."""

    __slots__ = ("members", "names", "numbers")

    def __init__(self) -> None:
        self.names: list[str] = [""]
        """Folded; number 0 is none."""
        self.numbers: dict[str, int] = {}
        self.members: list[Devices] = [Devices()]

    def learn(self, folded: str) -> int:
        """The number of a value, which exists from now on; 0 of the empty one."""
        if not folded:
            return 0
        number = self.numbers.get(folded)
        if number is None:
            number = self.numbers[folded] = len(self.names)
            self.names.append(folded)
            self.members.append(Devices())
        return number

    def find(self, folded: str) -> Devices:
        """The devices with this value: the index's own set."""
        number = self.numbers.get(folded)
        return self.members[number] if number else Devices()

    def where(self, wanted: Callable[[str], bool]) -> Iterator[Devices]:
        """The devices of each value that is wanted."""
        return (
            devices for name, devices in zip(self.names[1:], self.members[1:], strict=True) if devices and wanted(name)
        )


class AppFacets:
    """Facets and days of one app."""

    __slots__ = ("days", "values")

    def __init__(self) -> None:
        self.values: dict[Facet, Values] = {facet: Values() for facet in FACETS}
        self.days: dict[Sight, dict[int, Devices]] = {sight: {} for sight in SIGHTS}
        """By the day (in UTC, from the epoch) on which an install was first, or last, seen."""

    def move(self, facet: Facet, device: int, before: int, after: int) -> None:
        """Takes a device from one value to another."""
        members = self.values[facet].members
        if before:
            members[before].discard(device)
        if after:
            members[after].add(device)

    def move_many(
        self, facet: Facet, devices: NDArray[np.uint32], before: NDArray[np.uint32], after: NDArray[np.uint32]
    ) -> None:
        """Takes devices from one value each to another."""
        members = self.values[facet].members
        for number, chosen in by_number(devices[before != 0], before[before != 0]):
            members[number].difference_update(chosen)
        for number, chosen in by_number(devices[after != 0], after[after != 0]):
            members[number].update(chosen)

    def see(self, sight: Sight, device: int, before: int, after: int) -> None:
        """Takes a device from the day of one second to that of another; 0: not known."""
        days = self.days[sight]
        if before:
            days[before // DAY_S].discard(device)
            if not days[before // DAY_S]:
                del days[before // DAY_S]
        if after:
            days.setdefault(after // DAY_S, Devices()).add(device)

    def see_many(
        self, sight: Sight, devices: NDArray[np.uint32], before: NDArray[np.uint32], after: NDArray[np.uint32]
    ) -> None:
        """Takes devices from the days of one second each to those of another."""
        days = self.days[sight]
        for day, chosen in by_number(devices[before != 0], before[before != 0] // DAY_S):
            days[day].difference_update(chosen)
            if not days[day]:
                del days[day]
        for day, chosen in by_number(devices[after != 0], after[after != 0] // DAY_S):
            days.setdefault(day, Devices()).update(chosen)

    def bitmaps(self) -> Iterator[Devices]:
        """Every set."""
        for values in self.values.values():
            yield from values.members
        for days in self.days.values():
            yield from days.values()


class Profiles:
    """By profile id, the number of its value in each facet of its app; number 0 has none."""

    __slots__ = ("_columns", "_known")

    def __init__(self) -> None:
        self._columns: dict[Facet, Column] = {facet: Column(np.uint32) for facet in FACETS}
        self._known: set[int] = set()
        self._reach(1)

    def learn(self, profiles: Mapping[int, Profile], facets_of: Callable[[int], AppFacets]) -> None:
        """Knows these profiles from now on."""
        for number, profile in profiles.items():
            if number in self._known:
                continue
            self._known.add(number)
            self._reach(number + 1)
            values = facets_of(profile.app_id).values
            for facet in FACETS:
                self._columns[facet].cells[number] = values[facet].learn(fold(facet, getattr(profile, facet)))

    def number(self, facet: Facet, profile: int) -> int:
        """The number of a profile's value."""
        return self._columns[facet].cells[profile]

    def numbers(self, facet: Facet, profiles: NDArray[np.int32]) -> NDArray[np.uint32]:
        """The numbers of these profiles' values."""
        found: NDArray[np.uint32] = self._columns[facet].data[profiles]
        return found

    def __len__(self) -> int:
        return len(self._known)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(column.nbytes for column in self._columns.values())

    def _reach(self, rows: int) -> None:
        for column in self._columns.values():
            column.reach(rows)
