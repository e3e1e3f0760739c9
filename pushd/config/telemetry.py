"""Logs and metrics."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class TelemetryConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of logging and metrics."""

    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: console on a terminal, JSON elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    loop_lag_interval_ms: int = 100
    """How often the event loop's lag is sampled."""
