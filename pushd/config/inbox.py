"""In-app messages: how large and how many, for how long inboxes keep them, and what of them is kept in memory."""

from __future__ import annotations

from msgspec import Struct


class InboxConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of in-app messages."""

    message_bytes_max: int = 65_536
    """Of one message's content, data and inbox entry, as JSON."""
    live_max: int = 1_000
    """Messages to more than 500 recipients that an app may show at a time; those to fewer are not counted."""
    live_bytes_max: int = 16 * 1024 * 1024
    """Of such messages of an app together, as JSON."""
    scheduled_max: int = 10_000
    """Messages of an app that wait for their time."""
    letters_max: int = 1_000
    """The newest of a recipient's messages to few that are looked at."""
    keep_days: int = 365
    """How long a message stays in the inbox that says nothing else. `store.history_keep_days` ends it, too."""
    cancelled_keep_s: int = 7 * 86_400
    """How long those who ask for what changed are told of a message to many that it was withdrawn."""
    overlap_s: float = 30.0
    """How far before the time of an answer the next question for what changed begins: longer than a write may take."""
    cached_bytes_max: int = 64 * 1024 * 1024
    """Messages to many in memory, of all apps; those asked for least recently go first."""
    cached_bitmap_bytes_max: int = 128 * 1024 * 1024
    """Their recipients in memory, likewise; a part of 2^20 users has up to 128 KB."""
    look_s: float = 5.0
    """How often pushes that go along, and that nobody finished, are looked for."""
    push_lease_s: float = 30.0
    """For a push that goes along to be accepted, before another node tries."""
    sweep_interval_s: float = 3_600.0
    """How often what is over is removed from the list of what is shown."""
