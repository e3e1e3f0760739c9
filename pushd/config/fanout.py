"""The fan-out: credit, batches, lanes, retry and the mass-deletion breaker."""

from __future__ import annotations

from msgspec import Struct


class FanoutConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of planner, engine, retry and recorder."""

    unsettled_rows_max: int = 20_000
    """Rows handed to links and not yet committed as settled: what a kill may repeat."""
    batch_rows_max: int = 2_000
    transactional_rows_max: int = 100
    """Sends that resolve to at most this many devices use the transactional lane."""
    settle_interval_ms: int = 20
    settle_rows_max: int = 5_000
    """Settled rows are committed at the latest after this interval, or at this many."""
    attempts_max: int = 8
    retry_base_s: float = 1.0
    retry_cap_s: float = 300.0
    """Exponential back-off with full jitter between these."""
    retry_after_max_s: float = 3_600.0
    """A gateway's Retry-After is obeyed up to here."""
    retry_budget_ratio: float = 0.1
    """Retries over first attempts in the window, per pool; unprocessed rows are free."""
    retry_budget_window_s: float = 60.0
    retry_budget_min: int = 100
    """Retries always allowed in a window, so that small senders retry at all."""
    unprocessed_pause_s: float = 0.2
    """Unprocessed rows are free of attempts but not of pacing: the first pause, doubling to `retry_cap_s`."""
    retire_breaker_ratio: float = 0.5
    """Share of dead-token answers on one credential in the window above which retiring stops (G-04)."""
    retire_breaker_min: int = 100
    """Answers in the window below which the share is not judged."""
    retire_unproven_max: int = 10
    """Dead-token answers in the window after which retiring stops as long as none was accepted."""
    retire_breaker_window_s: float = 300.0
    transactional_credit_ratio: float = 0.2
    """Share of `unsettled_rows_max` that bulk rows may not use."""
    campaigns_max: int = 100_000
    """Notifications running at once; past it 503."""
    backlog_rows_max: int = 50_000_000
    """Rows waiting at once; past it 503."""
    drain_timeout_s: float = 15.0
    """How long a stop waits for rows in flight."""
