"""Receipts and beacons: how many a client may report, and how many of them are remembered for it."""

from __future__ import annotations

from msgspec import Struct


class ReceiptsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of what devices report. Server keys are trusted, and bound by the group commit alone."""

    install_per_hour_max: int = 1_000
    """Receipts of one install that are kept, from device keys and beacons; past it 429. As many may come at once."""
    key_per_s_max: int = 20_000
    """Receipts by one device key in a second, ten times as many at once; past it 429."""
    installs_max: int = 200_000
    """Installs whose receipts are counted; past it those that were silent for longest are forgotten."""
    beacons_per_minute_max: int = 1_200
    """From one client address (of IPv6: a /64), as many at once; past it 429."""
    bad_signatures_per_minute_max: int = 30
    """From one client address; past it 429 for every beacon from there."""
    beacon_body_bytes_max: int = 64 * 1024
