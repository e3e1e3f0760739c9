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
    attempts_max: int = 16
    """Some twenty minutes of a gateway's outage, unless the message's life or the retry budget ends sooner."""
    retry_base_s: float = 1.0
    retry_cap_s: float = 300.0
    """Exponential back-off with full jitter between these."""
    retry_after_max_s: float = 3_600.0
    """A gateway's Retry-After is obeyed up to here."""
    retry_budget_ratio: float = 0.1
    """Retries over first attempts in the window, per pool of links (G-06); unprocessed rows are free."""
    retry_budget_window_s: float = 60.0
    retry_budget_min: int = 100
    """Retries always allowed in a window, so that small senders retry at all."""
    retry_budget_max: int = 2_000_000
    """What `retry_budget_min` may grow to while retries are accepted: the way out of an outage. It halves again when
    more than the ratio of them fail."""
    pool_retry_after_max_s: float = 60.0
    """A Retry-After that speaks for all rows of a pool rests the pool at most this long; then it is tried again."""
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
    """Share of `unsettled_rows_max` that bulk rows may not use, and as much that transactional rows may not."""
    share_of_free: int = 16
    """Apps with rows to send share a lane's credit evenly. Beside that none may hold more than so many times what is
    still free: one alone gets nearly all, and a newcomer finds some even where everyone before it hangs (Choudhury
    and Hahne's dynamic thresholds)."""
    probe_rows: int = 32
    """Rows in flight to a gateway that has stopped answering; and what every app may have at least, credit lasting."""
    silence_s: float = 2.0
    """Rows in flight without any answer for so long: their gateway has stopped answering."""
    doubt_ratio: float = 0.1
    """Share of answers that slow their link down above which a campaign goes on on a link of its own (A-51)."""
    doubt_min: int = 100
    """Such answers below which the share is not judged."""
    campaigns_max: int = 100_000
    """Notifications running at once; past it 503."""
    backlog_rows_max: int = 50_000_000
    """Rows waiting at once; past it 503. One send that is larger goes when nothing else waits."""
    app_campaigns_max: int = 50_000
    app_backlog_rows_max: int = 25_000_000
    """The same of one app; past them 429."""
    room_rate_span_s: float = 10.0
    """Over how long the rates of settling and finishing are averaged that a Retry-After is computed from."""
    room_retry_after_s: float = 5.0
    """The Retry-After where nothing has been measured yet, and while stopping."""
    room_retry_after_max_s: float = 300.0
    """The longest that a producer is asked to stay away."""
    drain_timeout_s: float = 15.0
    """How long a stop waits for rows in flight."""
