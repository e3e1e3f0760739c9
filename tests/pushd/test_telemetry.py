import asyncio
import io
import json
import logging

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from pushd import telemetry
from pushd.config import TelemetryConfig
from pushd.telemetry import REDACTED, LoopLag, configure_logging, log_request, metrics, redact

NAMES = {
    "pushd_accepted",
    "pushd_deliveries",
    "pushd_delivery_latency_seconds",
    "pushd_oldest_pending_seconds",
    "pushd_backlog_devices",
    "pushd_crossings_waiting",
    "pushd_retries",
    "pushd_breaker_state",
    "pushd_loop_lag_seconds",
    "pushd_ledger_drift",
}

SECRETS = [
    "pushd_server_" + "a-B_" * 10 + "abc",
    "whsec_" + "aB+/" * 10 + "abc=",
    "pushd_admin_" + "x" * 43,
    "-----BEGIN PRIVATE KEY-----\nMIGTAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----\nMIGTAgEAMBMGByqGSM49",
    "eyJhbGciOiJFUzI1NiIsImtpZCI6IkFCQyJ9.eyJpc3MiOiJERUYifQ.c2lnbmF0dXJl",
    "Bearer abcdefghijklmnopqrst",
]


@pytest.fixture
def lines():
    out = io.BytesIO()
    before = structlog.get_config()
    root = (logging.root.handlers[:], logging.root.level)

    def configured(**config):
        configure_logging(TelemetryConfig(**config), out)
        return lambda: out.getvalue().decode().splitlines()

    yield configured
    structlog.configure(**before)
    telemetry._request_lines.write = telemetry._request_lines.slowly
    logging.root.handlers[:], logging.root.level = root


def test_every_metric_that_operators_know_is_there_and_carries_no_tenant():
    families = {family.name: family for family in text_string_to_metric_families(metrics().decode())}
    assert set(families) >= NAMES
    assert "process_resident_memory_bytes" in families
    for name in NAMES:
        labels = {label for sample in families[name].samples for label in sample.labels}
        assert labels <= {"provider", "outcome", "reason", "breaker", "le"}


def test_counters_carry_their_labels():
    telemetry.DELIVERIES.labels(provider="none", outcome="accepted").inc(3)
    telemetry.RETRIES.labels(reason="of this test").inc()
    text = metrics().decode()
    assert 'pushd_deliveries_total{outcome="accepted",provider="none"} 3.0' in text
    assert 'pushd_retries_total{reason="of this test"} 1.0' in text


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_redacted_wherever_they_stand(lines, secret):
    read = lines(log_format="json")
    log = structlog.get_logger()
    log.warning("before %s after", secret, detail=secret, nested={"deep": [secret]}, error=ValueError(secret))
    log.error("failed", exc_info=ValueError(secret))
    logging.getLogger("aiohttp.server").error("foreign %s", secret)
    text = "\n".join(read())
    for piece in secret.splitlines():
        assert piece[-12:] not in text
    assert text.count("redacted") >= 4
    assert "before" in text


@pytest.mark.parametrize(
    "name",
    ["authorization", "Authorization", "db_password", "private_key", "secret", "token", "device_tokens", "dsn", "p8"],
)
def test_fields_named_like_secrets_are_dropped(lines, name):
    read = lines(log_format="json")
    structlog.get_logger().info("x", **{name: "anything"}, inner={name: [1, 2]})
    (line,) = map(json.loads, read())
    assert line[name] == REDACTED
    assert line["inner"][name] == REDACTED


def test_what_is_no_secret_stays():
    for text in (
        "pushd_delivery_latency_seconds", "a bearer of news", "postgresql://db.example/pushd", "com.example.app",
        "7184978f00000033", "eyJust.a.word",
    ):  # fmt: skip
        assert redact(text) == text
    assert redact("postgresql://user:hunter2@db.example/pushd") == f"postgresql://{REDACTED}@db.example/pushd"


def test_json_lines_have_time_level_and_event(lines):
    read = lines(log_format="json")
    structlog.get_logger().info("started", port=8085, ratio=0.5, missing=None)
    structlog.get_logger().debug("not shown")
    (line,) = map(json.loads, read())
    assert (line["event"], line["level"], line["port"], line["missing"]) == ("started", "info", 8085, None)
    assert line["timestamp"].endswith("Z")


def test_the_console_is_for_people(lines):
    read = lines(log_format="console")
    structlog.get_logger().info("started", port=8085)
    log_request({"id": "abc", "status": 200})
    first, second = read()
    assert "started" in first
    assert "8085" in first
    assert "request" in second
    assert "abc" in second


def test_request_lines_are_short_cut_and_obey_the_level(lines):
    read = lines(log_format="json")
    log_request({"id": "abc", "status": 200, "ms": 1.25})
    (line,) = map(json.loads, read())
    assert (line["event"], line["level"], line["id"], line["ms"]) == ("request", "info", "abc", 1.25)
    assert line["timestamp"].endswith("Z")
    read = lines(log_format="json", log_level="warning")
    log_request({"id": "def"})
    assert len(read()) == 1


@pytest.mark.asyncio
async def test_the_lag_of_the_loop_is_sampled():
    samples, enough = [], asyncio.Event()

    def take(lag_s):
        samples.append(lag_s)
        if len(samples) == 3:
            enough.set()

    lag = LoopLag(TelemetryConfig(loop_lag_interval_ms=5), take)
    await lag.start()
    async with asyncio.timeout(60):
        await enough.wait()
    await lag.stop()
    assert all(sample >= 0 for sample in samples)
    assert lag.last_s == samples[-1]


@pytest.mark.asyncio
async def test_request_lines_of_one_turn_of_the_event_loop_leave_together(lines):  # which restores what was
    class Counting(io.BytesIO):
        flushes = 0

        def flush(self):
            self.flushes += 1

    out = Counting()
    configure_logging(TelemetryConfig(log_format="json"), out)
    for number in range(3):
        log_request({"id": str(number)})
    await asyncio.sleep(0)
    assert [json.loads(line)["id"] for line in out.getvalue().splitlines()] == ["0", "1", "2"]
    assert out.flushes == 1
    log_request({"id": "3"})
    await asyncio.sleep(0)
    assert out.flushes == 2


@pytest.mark.asyncio
async def test_request_lines_leave_together_where_the_stream_has_no_buffer(lines, tmp_path):  # which restores what was
    with (tmp_path / "log").open("wb", buffering=0) as raw:
        configure_logging(TelemetryConfig(log_format="json"), raw)
        for number in range(3):
            log_request({"id": str(number)})
        assert (tmp_path / "log").read_bytes() == b""
        await asyncio.sleep(0)
        assert [json.loads(line)["id"] for line in (tmp_path / "log").read_text().splitlines()] == ["0", "1", "2"]
