"""Row images of devices and users as columns: what the store loads and commits, and the index applies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pushd.model.device import Profile, Route

T = TypeVar("T")
Sight = Literal["first", "last"]
"""Which time an install was seen."""


class DeviceFlag(IntFlag):
    """Bits of a device's row image. Reachable: a token, enabled, neither retired nor gone."""

    HAS_TOKEN = 1
    PUSH_ENABLED = 2
    RETIRED = 4
    DELETED = 8
    """A tombstone: the row stays long enough for every reader of the change feed to see it."""
    NO_IN_APP = 16
    """The install takes no in-app messages."""


@dataclass(slots=True, eq=False, kw_only=True)
class Postings:
    """Which row has which tags, in compressed-sparse-row form: tags of row r are `ids[offsets[r]:offsets[r + 1]]`."""

    offsets: NDArray[np.int32]
    ids: NDArray[np.int32]
    names: dict[int, str]
    """First-seen spelling of every tag id that `ids` holds; ids are per app, and never reused."""

    def part(self, start: int, stop: int) -> Postings:
        """Those of some rows."""
        ends = self.offsets[start : stop + 1]
        return Postings(offsets=ends - ends[:1], ids=self.ids[ends[0] : ends[-1]], names=self.names)


@dataclass(slots=True, eq=False, kw_only=True)
class DeviceRows:
    """Whole images of devices of any apps; each is applied only where its revision is newer than what is known."""

    ids: NDArray[np.uint32]
    revisions: NDArray[np.int32]
    route_ids: NDArray[np.int32]
    user_ids: NDArray[np.uint32]
    """0: nobody."""
    flags: NDArray[np.uint8]
    """Bits of `DeviceFlag`."""
    tokens: NDArray[np.bytes_]
    """Fixed-width, NUL-padded; empty where there is none."""
    tags: Postings
    """Tags of the device's install."""
    installs: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    """Numbers of the installs: devices of one install are one phone's."""
    profile_ids: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    """0: nothing is known."""
    first_seen: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    """UNIX seconds; 0: not known."""
    last_seen: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    """UNIX seconds, up to an hour behind."""
    aliases: Mapping[int, str] = field(default_factory=dict)
    """By row, where there is one."""
    routes: dict[int, Route] = field(default_factory=dict)
    """Every route id that `route_ids` holds; a device's app is its route's."""
    profiles: dict[int, Profile] = field(default_factory=dict)
    """Every profile id that `profile_ids` holds, but for 0."""

    def __post_init__(self) -> None:
        # Columns that were left out say 0 of every row.
        for name in ("installs", "profile_ids", "first_seen", "last_seen"):
            column = getattr(self, name)
            if len(column) != len(self.ids):
                setattr(self, name, np.zeros(len(self.ids), column.dtype))

    def __len__(self) -> int:
        return len(self.ids)

    def parts(self, rows_max: int) -> Iterator[DeviceRows]:
        """The rows a few at a time."""
        if len(self) <= rows_max:
            yield self
            return
        for start in range(0, len(self), rows_max):
            stop = min(start + rows_max, len(self))
            rows = slice(start, stop)
            yield DeviceRows(
                ids=self.ids[rows],
                revisions=self.revisions[rows],
                route_ids=self.route_ids[rows],
                user_ids=self.user_ids[rows],
                flags=self.flags[rows],
                tokens=self.tokens[rows],
                tags=self.tags.part(start, stop),
                installs=self.installs[rows],
                profile_ids=self.profile_ids[rows],
                first_seen=self.first_seen[rows],
                last_seen=self.last_seen[rows],
                aliases=_part(self.aliases, start, stop),
                routes=self.routes,
                profiles=self.profiles,
            )

    def sights(self, sight: Sight) -> NDArray[np.uint32]:
        """When each install was first, or last, seen."""
        return self.first_seen if sight == "first" else self.last_seen


@dataclass(slots=True, eq=False, kw_only=True)
class UserRows:
    """Whole images of users of any apps; each is applied only where its revision is newer than what is known."""

    ids: NDArray[np.uint32]
    revisions: NDArray[np.int32]
    app_ids: NDArray[np.int32]
    external_ids: list[str]
    deleted: NDArray[np.bool_]
    tags: Postings
    emails: Mapping[int, str] = field(default_factory=dict)
    """By row, where there is one."""
    attributes: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """By row, where there are any."""
    quiet: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    """Quiet hours, packed (model.quiet); 0: none."""

    def __post_init__(self) -> None:
        if len(self.quiet) != len(self.ids):  # left out: nobody has any
            self.quiet = np.zeros(len(self.ids), np.uint32)

    def __len__(self) -> int:
        return len(self.ids)

    def parts(self, rows_max: int) -> Iterator[UserRows]:
        """The rows a few at a time."""
        if len(self) <= rows_max:
            yield self
            return
        for start in range(0, len(self), rows_max):
            stop = min(start + rows_max, len(self))
            rows = slice(start, stop)
            yield UserRows(
                ids=self.ids[rows],
                revisions=self.revisions[rows],
                app_ids=self.app_ids[rows],
                external_ids=self.external_ids[rows],
                deleted=self.deleted[rows],
                tags=self.tags.part(start, stop),
                emails=_part(self.emails, start, stop),
                attributes=_part(self.attributes, start, stop),
                quiet=self.quiet[rows],
            )


def _part(values: Mapping[int, T], start: int, stop: int) -> dict[int, T]:
    """What rows have, counted from the first of them."""
    return {row - start: values[row] for row in range(start, stop) if row in values} if values else {}
