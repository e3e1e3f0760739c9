"""What a chunk of an import changed, taken in once it is committed, and which of its lines came to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pushd.commands import channels, devices
from pushd.commands.context import Context
from pushd.commands.import_lines import LineFault
from pushd.model.rows import UserRows
from pushd.store.channels import Subscribed
from pushd.store.imports import Rejects
from pushd.store.registration import Registered


@dataclass(slots=True)
class Effects:
    """Of one chunk."""

    users: list[UserRows] = field(default_factory=list)
    registered: list[Registered] = field(default_factory=list)
    subscribed: list[Subscribed] = field(default_factory=list)
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)
    """By line: its value, and why."""

    def refuse(self, faults: Iterable[LineFault]) -> None:
        """Notes lines that are not valid."""
        for each in faults:
            self.faults.setdefault(each.line, (each.value, each.detail))

    def refuse_names(self, reason: str, names: Sequence[str], lines: Mapping[str, Sequence[int]]) -> None:
        """Notes the lines of some names."""
        for name in names:
            for line in lines[name]:
                self.faults.setdefault(line, (name, reason))

    def rejects(self) -> Rejects:
        """The lines that came to nothing."""
        lines = sorted(self.faults)
        return Rejects(lines, [self.faults[line][0] for line in lines], [self.faults[line][1] for line in lines])

    def moved(self) -> list[int]:
        """Devices that are another user's now, each once."""
        return sorted({each for done in self.registered for each in done.moved})

    async def take_in(self, context: Context, app_id: int) -> None:
        """Brings the index up to what is committed, in slices."""
        for rows in self.users:
            context.index.apply_users(rows)
            await asyncio.sleep(0)
        for done in self.registered:
            await context.store.devices.name(done.rows)
            await context.index.take_in(users=done.users, devices=done.rows)
            await devices.settle_in(context, app_id, done.rows)
        for each in self.subscribed:
            if each.devices is not None:
                await context.store.devices.name(each.devices)
            await channels.apply(context, each)
            await asyncio.sleep(0)
