"""Erasures: users who asked to be forgotten, and how far that is."""

from __future__ import annotations

from msgspec import Struct


class Erasure(Struct, frozen=True, kw_only=True):
    """A user who is being forgotten. Nothing in here names him."""

    id: int
    installs: int
    """How many of his installs went with him."""
    devices: int
    requested_at: float
    finished_at: float | None
    """UNIX seconds when nothing of him was left; null: it is still looked for."""
