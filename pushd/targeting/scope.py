"""One evaluation of an audience: whose sets it reads, within which devices, and what it found missing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices, Users
from pushd.model.audience import Audience
from pushd.model.device import Kind
from pushd.targeting.population import Population
from pushd.targeting.resolution import LISTED_MAX, Resolution
from pushd.targeting.tenants import Tenant

SLICE_IDS = 4_096
"""Ids of one leaf that are looked at before others may get their turn: 2 to 4 ms."""
SLICE_SETS = 32
"""Sets that are united before others may get their turn: some 2 ms at 5 million devices."""

T = TypeVar("T")
Id = TypeVar("Id", int, str)
Number = TypeVar("Number", np.uint32, np.intp)

Steps = Generator[None, None, Devices]
"""An evaluation that stands still at each `yield`, so that others may get their turn; it returns the devices."""
Leaf = Callable[["Scope", Any], Devices | Steps]
"""What a node of an audience matches: at once, or in steps of at most some milliseconds."""

Check = Callable[[Any], Iterable[tuple[str, str]]]
"""The faults of a leaf: where in it, and what."""


class Scope:
    """One evaluation of one audience of one app.

    Leaves return known devices of the app, reachable or not, as sets that nobody changes: they may be the index's own.
    While an evaluation stands still, changes go on: what they touch is asked again at its end, so a leaf keeps only
    copies (columns) across a `yield`, or sets of the index as they are.
    """

    __slots__ = (
        *("app_id", "excluding", "found", "gathered", "in_app", "kinds", "leaves", "now"),
        *("population", "retrying", "tenant", "within"),
    )

    def __init__(
        self,
        population: Population,
        app_id: int,
        kinds: AbstractSet[Kind],
        leaves: Mapping[type, Leaf],
        *,
        now: float,
        within: Devices | None = None,
        gathered: Mapping[int, Devices] | None = None,
        retrying: bool = False,
        in_app: bool = False,
    ) -> None:
        self.population = population
        self.app_id = app_id
        self.tenant = population.tenants.get(app_id) or Tenant()
        self.kinds = kinds
        self.leaves = leaves
        self.now = now
        """UNIX seconds: what windows of time end at."""
        self.within = within
        """Where given, only these devices are asked about: what is said of others does not count. Nothing is then
        reported missing."""
        self.gathered = gathered or {}
        """What was read from the database beforehand, by the identity of the leaf."""
        self.retrying = retrying
        """Devices that once matched are asked again: leaves that speak of the past say `assumed`."""
        self.in_app = in_app
        """Whether it is for an in-app message: that needs consent, and no address."""
        self.excluding = 0
        """How many `Not` are around: what they name need not exist."""
        self.found = Resolution(Devices(), {})

    def steps(self, node: Audience) -> Steps:
        """The known devices that a node matches, in steps."""
        answer = self.leaves[type(node)](self, node)
        return answer if isinstance(answer, Generator) else _answered(answer)

    def reach(self, matched: Devices) -> Devices:
        """Those of these devices that the message may go to, as a set of its own."""
        return self.tenant.consenting(matched) if self.in_app else self.tenant.reach(matched, self.kinds)

    @property
    def everyone(self) -> Devices:
        """Every known device that is asked about."""
        return self.tenant.known if self.within is None else self.tenant.known & self.within

    @property
    def assumed(self) -> Devices:
        """What a leaf that is not asked again stands for: whatever keeps a device in that once matched."""
        return Devices() if self.excluding & 1 else self.everyone

    @property
    def reporting(self) -> bool:
        """Whether what is named here has to exist."""
        return self.within is None and not self.excluding

    def report(self, group: str, ids: Sequence[int | str], unknown: Sequence[int], unsubscribed: Sequence[int]) -> None:
        """Notes what a leaf names, and at which positions stand those that are missing, in request order."""
        found = self.found
        found.named += len(ids)
        if len(unknown) or len(unsubscribed):
            found.missing += len(unknown) + len(unsubscribed)
            for lists, positions in ((found.unknown, unknown), (found.unsubscribed, unsubscribed)):
                listed: list[Any] = lists[group]
                listed.extend(ids[at] for at in islice(positions, LISTED_MAX - len(listed)))


def pieces(ids: Devices | Users, rows: int = 1 << 17) -> Iterator[NDArray[np.uint32]]:
    """The ids of a set in columns of some hundred thousand rows: a millisecond or two of work each."""
    return pieces_of(ids.column(), rows)


def pieces_of(column: NDArray[Number], rows: int) -> Iterator[NDArray[Number]]:
    """A column in pieces."""
    return (column[start : start + rows] for start in range(0, len(column), rows))


def within(numbers: NDArray[np.integer], table: NDArray[np.generic]) -> NDArray[np.integer]:
    """The numbers, those that came after the table was made as 0, which nobody has."""
    return (
        numbers if not len(numbers) or int(numbers.max()) < len(table) else np.where(numbers < len(table), numbers, 0)
    )


def _answered(devices: Devices) -> Steps:
    yield from ()
    return devices


def each_once(ids: Sequence[Id]) -> Iterator[Sequence[Id]]:
    """The ids in slices, in order, without those that came before."""
    if len(ids) <= SLICE_IDS:
        yield ids if len(ids) == 1 else list(dict.fromkeys(ids))
        return
    seen: set[Id] = set()
    for start in range(0, len(ids), SLICE_IDS):
        part = [each for each in dict.fromkeys(ids[start : start + SLICE_IDS]) if each not in seen]
        seen.update(part)
        if part:
            yield part


def union(sets: Iterator[Devices]) -> Steps:
    """All of these sets together, in steps."""
    united: list[Devices] = []
    while part := list(islice(sets, SLICE_SETS)):
        united.append(part[0] if len(part) == 1 else Devices.union(*part))
        if len(part) == SLICE_SETS:
            yield
    if not united:
        return Devices()
    return united[0] if len(united) == 1 else Devices.union(*united)
