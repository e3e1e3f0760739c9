"""Metrics and logs: their names, how lines look, what must never be in them, and the event loop's lag."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, BinaryIO

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from structlog.typing import EventDict, Processor, WrappedLogger

from pushd.config.telemetry import TelemetryConfig
from pushd.service import Service

REGISTRY = CollectorRegistry()
"""What /metrics shows. No metric carries a tenant: their number has no bound."""

for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=REGISTRY)

ACCEPTED = Counter("pushd_accepted", "Notifications accepted: committed and answered with 202.", registry=REGISTRY)
RECEIPTS = Counter(
    "pushd_receipts", "Receipts of devices, by result: taken, repeated, unknown.", ("result",), registry=REGISTRY
)
IN_APP_EVENTS = Counter(
    "pushd_in_app_events",
    "What was done with in-app messages, by result: taken, repeated, unknown.",
    ("result",),
    registry=REGISTRY,
)
DELIVERIES = Counter(
    "pushd_deliveries", "Rows settled, by gateway and final outcome.", ("provider", "outcome"), registry=REGISTRY
)
DELIVERY_LATENCY = Histogram(
    "pushd_delivery_latency_seconds",
    "From the release of a notification to the gateway's answer, one observation per batch.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
    registry=REGISTRY,
)
PICTURES = Counter(
    "pushd_pictures",
    "Pictures of notifications, by what came of them: fitted, fits as it is, failed, busy.",
    ("result",),
    registry=REGISTRY,
)
OLDEST_PENDING = Gauge(
    "pushd_oldest_pending_seconds", "Age of the oldest notification with rows pending; 0: none.", registry=REGISTRY
)
BACKLOG = Gauge("pushd_backlog_devices", "Rows accepted and not settled.", registry=REGISTRY)
CROSSINGS_WAITING = Gauge(
    "pushd_crossings_waiting", "Crossings of geofences whose notifications are not accepted yet.", registry=REGISTRY
)
IMPORT_LINES = Counter(
    "pushd_import_lines", "Lines of imports that are committed, by what came of them.", ("result",), registry=REGISTRY
)
SCHEDULES_FIRED = Counter(
    "pushd_schedules_fired", "Occurrences of schedules that became notifications.", registry=REGISTRY
)
SCHEDULES_SKIPPED = Counter(
    "pushd_schedules_skipped", "Occurrences of schedules that were missed, and not sent.", registry=REGISTRY
)
RELEASES_OPENED = Counter(
    "pushd_releases_opened", "Releases of notifications that go out bit by bit.", registry=REGISTRY
)
SCHEDULE_LATENESS = Histogram(
    "pushd_schedule_lateness_seconds",
    "From when a schedule or a release was due to the commit of what it became.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 60, 300, 3600, 86_400),
    registry=REGISTRY,
)
WEBHOOK_REQUESTS = Counter(
    "pushd_webhook_requests",
    "Requests to webhooks, by result: arrived, refused, failed.",
    ("result",),
    registry=REGISTRY,
)
WEBHOOK_EVENTS = Counter(
    "pushd_webhook_events", "Events of webhooks that are done with: delivered, dead.", ("result",), registry=REGISTRY
)
WEBHOOKS_FAILING = Gauge(
    "pushd_webhooks_failing", "Webhooks of this node whose last request did not arrive.", registry=REGISTRY
)
RETRIES = Counter(
    "pushd_retries", "Rows sent again, by the reason of the attempt before.", ("reason",), registry=REGISTRY
)
BREAKER_STATE = Gauge(
    "pushd_breaker_state",
    "Breakers by name: 0 closed, 1 open (it has stopped something).",
    ("breaker",),
    registry=REGISTRY,
)
LOOP_LAG = Histogram(
    "pushd_loop_lag_seconds",
    "How late the event loop ran what was due.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5),
    registry=REGISTRY,
)
LEDGER_DRIFT = Gauge(
    "pushd_ledger_drift", "Targeted minus accounted rows over running notifications; must be 0.", registry=REGISTRY
)

TIME_ZONES = Info("pushd_time_zones", "The time zone database in use, and IANA's version of it.", registry=REGISTRY)

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

REDACTED = "[redacted]"
_SECRET_NAME = re.compile(
    r"authorization|password|passwd|private|secret|cookie|dsn|(?:^|_)(?:tokens?|key_pem|p8|pem|jwt|endpoint)$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"pushd_(?:admin|server|device)_[A-Za-z0-9_-]{20,}"
    r"|whsec_[A-Za-z0-9+/=]{20,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"
    r"|(?i:(?:bearer|basic) [A-Za-z0-9+/=._~-]{16,})"
    r"|(?<=://)[^\s/:@\"]*:[^\s/@\"]+(?=@)",
    re.DOTALL,
)


def metrics() -> bytes:
    """Every metric in Prometheus' text format."""
    return generate_latest(REGISTRY)


def redact(text: str) -> str:
    """The text without what looks like an API key, a private key, a JWT, credentials of a header or of a URL."""
    return _SECRET_TEXT.sub(REDACTED, text)


def drop_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A structlog processor: values of fields that are named like secrets go, secrets within texts too."""
    for name, value in event.items():
        if type(value) in _PLAIN:
            continue
        event[name] = REDACTED if value is not None and _SECRET_NAME.search(name) else _clean(value)
    return event


_PLAIN = frozenset({int, float, bool, type(None)})


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value) if len(value) > 8 else value  # no secret is that short
    if isinstance(value, dict):
        return {
            name: REDACTED if inner is not None and _SECRET_NAME.search(str(name)) else _clean(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(inner) for inner in value]
    return value if type(value) in _PLAIN else redact(str(value))


def configure_logging(config: TelemetryConfig, stream: BinaryIO | None = None) -> None:
    """Sets structlog and the standard library's logging up, once per process; lines go to stderr unless told."""
    out = _buffered(stream or sys.stderr.buffer)
    console = config.log_format == "console" or (config.log_format == "auto" and out.isatty())
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        drop_secrets,
    ]
    render = _console if console else _json
    structlog.configure(
        processors=[*before, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    _request_lines.configure(None if console else out, level)
    handler = logging.StreamHandler(_Text(out))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, lambda *a: render(*a).decode()],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def _buffered(out: BinaryIO) -> BinaryIO:
    """The stream with a buffer. Python has none where PYTHONUNBUFFERED is set, as in many containers."""
    return open(out.fileno(), "wb", closefd=False) if isinstance(out, io.RawIOBase) else out


class _RequestLines:
    """The short way out for the one line of every request: its fields are ours, and none can hold a secret."""

    def __init__(self) -> None:
        self.write: Callable[[dict[str, Any]], None] = self.slowly
        self._flushing: asyncio.AbstractEventLoop | None = None
        """The event loop that is about to pass on what the stream still holds."""

    def slowly(self, fields: dict[str, Any]) -> None:
        """Through all of structlog."""
        structlog.get_logger("pushd.web").info("request", **fields)

    def configure(self, out: BinaryIO | None, level: int) -> None:
        """Straight to a stream as JSON; None: through structlog."""
        if level > logging.INFO:
            self.write = lambda _: None
        elif out is None:
            self.write = self.slowly
        else:
            self.write = partial(self._line, out)

    def _line(self, out: BinaryIO, fields: dict[str, Any]) -> None:
        """Writes a line, which leaves with all others of this turn of the event loop."""
        fields["event"], fields["level"] = "request", "info"
        fields["timestamp"] = datetime.now(UTC)
        out.write(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            out.flush()
            return
        if self._flushing is not loop:
            self._flushing = loop
            loop.call_soon(self._flush, out)

    def _flush(self, out: BinaryIO) -> None:
        self._flushing = None
        out.flush()


_request_lines = _RequestLines()


def log_request(fields: dict[str, Any]) -> None:
    """Writes the canonical line of a request; `fields` are the caller's no more."""
    _request_lines.write(fields)


def _json(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)


_paint = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _console(logger: WrappedLogger, name: str, event: EventDict) -> bytes:
    return str(_paint(logger, name, event)).encode()


class _Text:
    """A text face on a stream of bytes, for the standard library's handler."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, text: str) -> None:
        self._out.write(text.encode())

    def flush(self) -> None:
        self._out.flush()


class LoopLag(Service):
    """Samples how late the event loop wakes what is due, into `pushd_loop_lag_seconds`."""

    def __init__(self, config: TelemetryConfig, on_sample: Callable[[float], None] = LOOP_LAG.observe) -> None:
        super().__init__()
        self._interval_s = config.loop_lag_interval_ms / 1000
        self._on_sample = on_sample
        self.last_s = 0.0
        """The newest sample, seconds."""

    async def start(self) -> None:
        """Starts sampling."""
        self.spawn(self._sample(), "loop-lag")

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval_s
            await asyncio.sleep(self._interval_s)
            self.last_s = max(0.0, loop.time() - due)
            self._on_sample(self.last_s)
