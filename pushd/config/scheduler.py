"""The scheduler: how often it looks, how much it takes at a time, and how a leader is found."""

from __future__ import annotations

from msgspec import Struct


class SchedulerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of schedules and releases."""

    look_s: float = 2.0
    """The longest sleep of the leader: so soon it sees a clock that was set, and what no notice told it of."""
    lead_s: float = 1.0
    """How often a node that does not lead tries to, and how soon a leader sees that its session is gone."""
    lead_timeout_s: float = 5.0
    """For one question of the leader's session."""
    retry_s: float = 1.0
    """Between attempts while PostgreSQL is away or the fan-out full."""
    due_rows_max: int = 500
    """Schedules, and as many releases, that are read, and committed, at a time."""
    tasks_max: int = 64
    """Schedules and releases whose audiences are resolved at the same time."""
    stop_s: float = 5.0
    """What a stop leaves for transactions that were begun, so that what they start goes out at once."""
