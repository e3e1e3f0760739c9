"""Memory of the process itself."""

from __future__ import annotations

from msgspec import Struct


class MemoryConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of what the process keeps of its memory."""

    trim_interval_s: float = 15.0
    """How often memory that was freed goes back to the system; 0: when the C library likes.

    It is done in a moment in which nothing is being sent; where there is none, after twice the time at the latest.
    """
