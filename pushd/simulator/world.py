"""What all connections of a simulator share."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from pushd.clock import Clock
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.channels import Channels
from pushd.simulator.faults import FaultBook
from pushd.simulator.provider import ProviderTokens
from pushd.simulator.record import Record
from pushd.simulator.rules import Rules


@dataclass(slots=True, eq=False, kw_only=True)
class World:
    """Settings, keys, faults and the record of one simulator."""

    behaviour: Behaviour
    clock: Clock
    tokens: ProviderTokens
    faults: FaultBook
    record: Record
    dice: random.Random
    rules: Rules = field(default_factory=Rules)
    channels: Channels = field(default_factory=Channels)

    def now_ms(self) -> int:
        """Wall time, ms since the epoch."""
        return int(self.clock.now() * 1000)
