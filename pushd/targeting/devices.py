"""What is known of each device, as columns by device id, and of each user, as columns by user id."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pushd.model.rows import Sight
from pushd.targeting.arena import Arena
from pushd.targeting.columns import Column

KNOWN = 128
"""Set in the flags of devices that are there: not of ids never seen, nor of tombstones, which keep their revision."""


class DeviceTable:
    """Columns by device id; tokens and lists of tags are places in arenas."""

    __slots__ = (
        *("aliases", "first_seen", "flags", "installs", "last_seen", "profiles"),
        *("revisions", "routes", "tag_places", "token_places", "tokens", "users"),
    )

    def __init__(self) -> None:
        self.revisions = Column(np.int32)
        """0: never seen; images start at 1."""
        self.flags = Column(np.uint8)
        """Bits of `DeviceFlag`, and `KNOWN`."""
        self.routes = Column(np.int32)
        self.users = Column(np.uint32)
        self.token_places = Column(np.uint32)
        self.tag_places = Column(np.uint32)
        self.installs = Column(np.int32)
        self.profiles = Column(np.int32)
        self.first_seen = Column(np.uint32)
        self.last_seen = Column(np.uint32)
        self.aliases = Column(np.uint32)
        """Numbers of texts."""
        self.tokens = Arena()

    def reach(self, devices: int) -> None:
        """Makes room for device ids below this."""
        if devices > len(self.revisions.data):
            for column in self._columns():
                column.reach(devices)

    def sights(self, sight: Sight) -> Column:
        """When each device was first, or last, seen."""
        return self.first_seen if sight == "first" else self.last_seen

    def present(self, ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Those of the ids that are within the columns; others were never seen."""
        return ids if not len(ids) or int(ids.max()) < len(self.flags.data) else ids[ids < len(self.flags.data)]

    @property
    def nbytes(self) -> int:
        """Bytes held by the columns, the tokens left out."""
        return sum(column.nbytes for column in self._columns())

    def _columns(self) -> tuple[Column, ...]:
        return (
            *(self.revisions, self.flags, self.routes, self.users, self.token_places, self.tag_places),
            *(self.installs, self.profiles, self.first_seen, self.last_seen, self.aliases),
        )


class UserTable:
    """Columns by user id."""

    __slots__ = ("apps", "attribute_places", "emails", "quiet", "revisions", "tag_places")

    def __init__(self) -> None:
        self.revisions = Column(np.int32)
        """0: never seen; images start at 1."""
        self.apps = Column(np.int32)
        """0: not there."""
        self.tag_places = Column(np.uint32)
        self.attribute_places = Column(np.uint32)
        """Of the lists of the attributes that a user has."""
        self.emails = Column(np.uint32)
        """Numbers of texts."""
        self.quiet = Column(np.uint32)
        """Quiet hours, packed."""

    def reach(self, users: int) -> None:
        """Makes room for user ids below this."""
        for column in self._columns():
            column.reach(users)

    @property
    def nbytes(self) -> int:
        """Bytes held by the columns."""
        return sum(column.nbytes for column in self._columns())

    def _columns(self) -> tuple[Column, ...]:
        return (self.revisions, self.apps, self.tag_places, self.attribute_places, self.emails, self.quiet)


def newest(ids: NDArray[np.uint32], revisions: NDArray[np.int32], known: Column) -> NDArray[np.intp]:
    """The rows to apply, by ascending id: of each id the newest, where it is newer than the known."""
    if (ids[1:] > ids[:-1]).all():
        rows = np.arange(len(ids))
    else:
        rows = np.lexsort((revisions, ids))
        rows = rows[np.append(ids[rows[1:]] != ids[rows[:-1]], True)]
    return rows[revisions[rows] > known.data[ids[rows]]]
