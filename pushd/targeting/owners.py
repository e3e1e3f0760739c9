"""Which devices a user has: short lists threaded through two columns, bitmaps for the few with many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices, Users
from pushd.targeting.columns import Column

LIST_MAX = 64
"""Devices that a list holds. More (everyone registered as "guest") become a bitmap, so that no walk is long."""
CROWD = 255
"""The count of a user whose devices are a bitmap."""


Members = TypeVar("Members", Devices, Users)


class Owners(Generic[Members]):
    """Lists of devices by user: `first` by user, `following` by device, 0 ends a list. A device is in one list.

    So are devices listed by install and by alias, and users by e-mail address: the words here are of the first.
    """

    __slots__ = ("_members", "counts", "crowds", "first", "following")

    def __init__(self, members: type[Members]) -> None:
        self._members: type[Members] = members
        self.first = Column(np.uint32)
        self.counts = Column(np.uint8)
        self.following = Column(np.uint32)
        self.crowds: dict[int, Members] = {}

    def reach(self, users: int, devices: int) -> None:
        """Makes room for user and device ids below these."""
        self.first.reach(users)
        self.counts.reach(users)
        self.following.reach(devices)

    def of(self, user: int) -> Iterable[int]:
        """The devices of a user, in no order. The caller changes nothing meanwhile."""
        if user >= len(self.counts.data):
            return ()
        if self.counts.cells[user] == CROWD:
            return self.crowds[user]
        found, device, following = [], self.first.cells[user], self.following.cells
        while device:
            found.append(device)
            device = following[device]
        return found

    def link(self, user: int, device: int) -> None:
        """Gives a device that has no user to this one."""
        count = self.counts.cells[user]
        if count == CROWD:
            self.crowds[user].add(device)
        elif count == LIST_MAX:
            self._crowd(user, self._members((device,)))
        else:
            self.following.cells[device] = self.first.cells[user]
            self.first.cells[user] = device
            self.counts.cells[user] = count + 1

    def unlink(self, user: int, device: int) -> None:
        """Takes a device from its user."""
        if self.counts.cells[user] == CROWD:
            crowd = self.crowds[user]
            crowd.discard(device)
            if not crowd:
                del self.crowds[user]
                self.counts.cells[user] = 0
            return
        following, before, at = self.following.cells, 0, self.first.cells[user]
        while at != device:
            assert at, "a device is in its user's list"
            before, at = at, following[at]
        if before:
            following[before] = following[device]
        else:
            self.first.cells[user] = following[device]
        following[device] = 0
        self.counts.cells[user] -= 1

    def of_many(self, users: NDArray[np.uint32]) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
        """Pairs (position in `users`, device of that user), in no order; ids beyond the columns have none."""
        rows = np.flatnonzero(users < len(self.counts.data))
        counts = self.counts.data[users[rows]]
        positions: list[NDArray[np.intp]] = []
        devices: list[NDArray[np.uint32]] = []
        for row in rows[counts == CROWD].tolist():
            crowd = self.crowds[int(users[row])].column()
            positions.append(np.full(len(crowd), row, np.intp))
            devices.append(crowd)
        rows = rows[(counts > 0) & (counts != CROWD)]
        at = self.first.data[users[rows]]
        while len(rows):
            positions.append(rows)
            devices.append(at)
            at = self.following.data[at]
            more = np.flatnonzero(at)
            rows, at = rows[more], at[more]
        if not devices:
            return np.zeros(0, np.intp), np.zeros(0, np.uint32)
        return np.concatenate(positions), np.concatenate(devices)

    def link_many(self, users: NDArray[np.uint32], devices: NDArray[np.uint32]) -> None:
        """Gives devices that have no user to these."""
        if not len(users):
            return
        order = np.argsort(users, kind="stable")
        users, devices = users[order], devices[order]
        starts = np.concatenate(([0], np.flatnonzero(users[1:] != users[:-1]) + 1))
        sizes = np.diff(starts, append=len(users))
        heads = users[starts]
        totals = self.counts.data[heads].astype(np.intp) + sizes
        crowded = totals > LIST_MAX
        for group in np.flatnonzero(crowded).tolist():
            user, start = int(heads[group]), int(starts[group])
            self._crowd(user, self._members.of(devices[start : start + int(sizes[group])]))
        if crowded.any():
            listed = np.repeat(~crowded, sizes)
            users, devices = users[listed], devices[listed]
            heads, sizes, totals = heads[~crowded], sizes[~crowded], totals[~crowded]
            starts = np.cumsum(sizes) - sizes
        after = np.empty_like(devices)
        after[:-1] = devices[1:]
        after[starts + sizes - 1] = self.first.data[heads]
        self.following.data[devices] = after
        self.first.data[heads] = devices[starts]
        self.counts.data[heads] = totals

    def unlink_many(self, users: NDArray[np.uint32], devices: NDArray[np.uint32]) -> None:
        """Takes devices from their users: the lists of these users are made anew without them."""
        affected = np.unique(users)
        crowds = affected[self.counts.data[affected] == CROWD]
        if len(crowds):
            leaving = self._members.of(devices)
            for user in crowds.tolist():
                self.crowds[user] -= leaving
                if not self.crowds[user]:
                    del self.crowds[user]
                    self.counts.data[user] = 0
            affected = affected[self.counts.data[affected] != CROWD]
            affected = affected[~np.isin(affected, crowds)]
        positions, held = self.of_many(affected)
        self.following.data[held] = 0
        self.first.data[affected] = 0
        self.counts.data[affected] = 0
        stay = ~np.isin(held, devices)
        self.link_many(affected[positions[stay]], held[stay])

    def _crowd(self, user: int, joining: Members) -> None:
        if self.counts.cells[user] == CROWD:
            self.crowds[user] |= joining
            return
        listed = list(self.of(user))
        for device in listed:
            self.following.cells[device] = 0
        self.first.cells[user] = 0
        self.counts.cells[user] = CROWD
        self.crowds[user] = joining | self._members(listed)

    @property
    def nbytes(self) -> int:
        """Bytes held by the columns."""
        return self.first.nbytes + self.counts.nbytes + self.following.nbytes
