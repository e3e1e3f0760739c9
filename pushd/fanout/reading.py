"""What the rows of a batch read of users, devices and tags: columns, looked up once, where something asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pushd.content.liquid import within
from pushd.content.personal import DEVICE, USER, USER_DATA, Script
from pushd.targeting.people import People

BADGE = "badge"
"""Of a device: what pushd counts for it."""


class Reading:
    """What a batch's rows read."""

    def __init__(self, script: Script, people: People, counts: NDArray[np.uint16]) -> None:
        self._script = script
        self._people = people
        self.counts = counts
        """Badges that pushd counts, where the message shows these."""
        self._columns: dict[tuple[str, str], list[Any]] = {}
        self._own: list[Mapping[str, Any]] | None = None

    def column(self, path: tuple[str, ...]) -> list[Any] | None:
        """The value of a path in each row; None where all rows have the same: the send's own."""
        root = path[0]
        if root in (USER, DEVICE):
            first = self._of(root, path[1]) if len(path) > 1 else None
            return None if first is None else [within(value, path[2:]) for value in first] if path[2:] else first
        if not self._script.send.user_data:
            return None
        own, tags = self.own(), self._script.send.content_tags
        if root == USER_DATA:
            return [within(each, path[1:]) for each in own]
        return [within(each[root] if root in each else tags.get(root), path[1:]) for each in own]

    def shared(self, path: tuple[str, ...]) -> Any:
        """The value of a path that all rows have."""
        return within(self._script.send.content_tags, path)

    def own(self) -> list[Mapping[str, Any]]:
        """Each row's user's own data."""
        if self._own is None:
            data, none = self._script.send.user_data, dict[str, Any]()
            self._own = [data.get(name, none) if name is not None else none for name in self._of(USER, "id")]
        return self._own

    def values(self, row: int) -> dict[str, Any]:
        """All that texts may read for one row."""
        needs = self._script.needs
        wanted = needs.user
        read = needs.device
        if self._script.is_counted:
            read |= {BADGE}
        elif self._script.badge is not None and self._script.badge[0] == USER:
            wanted |= {self._script.badge[1]}
        user = {name: self._of(USER, name)[row] for name in wanted}
        device = {name: self._of(DEVICE, name)[row] for name in read}
        name = self._of(USER, "id")[row] if self._script.send.user_data else None
        return self._script.values(user, device, name)

    def _of(self, root: str, name: str) -> list[Any]:
        found = self._columns.get((root, name))
        if found is None:
            if root == DEVICE and name == BADGE:
                found = self.counts.tolist()
            elif root == DEVICE:
                found = list(self._people.facet(name))  # type: ignore[arg-type]  # checked when the send was accepted
            elif name == "id":
                found = list(self._people.external_ids())
            elif name == "email":
                found = list(self._people.emails())
            else:
                found = self._people.attribute(name)
            self._columns[root, name] = found
        return found
