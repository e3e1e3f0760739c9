"""The end of certificates: seen in the metrics, warned of once per mark."""

import pytest
from structlog.testing import capture_logs

from pushd.credentials.expiry import DAY_S, ExpiryWatch
from pushd.model.credential import Credential, CredentialState
from pushd.model.device import Environment, GatewayName
from pushd.telemetry import metrics


class Ends:
    def __init__(self, expires_at):
        self.expires_at = expires_at


class Ring:
    def __init__(self, *ends):
        self.entries = [
            (
                Credential(
                    id=number,
                    app_id=1,
                    gateway=GatewayName.APNS,
                    environment=Environment.PRODUCTION,
                    name="push",
                    summary={},
                    state=CredentialState.ACTIVE,
                    paused_reason=None,
                    created_at=0,
                    updated_at=0,
                ),
                Ends(end),
            )
            for number, end in enumerate(ends, 1)
        ]

    def opened(self):
        return iter(self.entries)


class Clock:
    time = 1_000_000_000.0

    def now(self):
        return self.time


def shown(name):
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in metrics().decode().splitlines()
        if line.startswith(name)
    }


@pytest.mark.asyncio
async def test_a25_each_mark_is_warned_of_once():
    clock = Clock()
    watch = ExpiryWatch(Ring(clock.time + 40 * DAY_S, None), clock)
    told = []
    for _ in range(41 * 4 + 1):
        with capture_logs() as lines:
            watch.look()
        told += [(line["event"], line["log_level"], line["days_left"]) for line in lines]
        clock.time += DAY_S / 4
    assert told == [
        ("credential_expires", "warning", 30.0),
        ("credential_expires", "warning", 14.0),
        ("credential_expires", "warning", 7.0),
        ("credential_expires", "error", 1.0),
        ("credential_expired", "error", 0.0),
    ]


@pytest.mark.asyncio
async def test_a25_metrics_count_without_naming():
    clock = Clock()
    ends = [clock.time + days * DAY_S for days in (-1, 3, 10, 20, 200)]
    await (watch := ExpiryWatch(Ring(*ends, None), clock)).start()
    await watch.stop()
    counts = shown("pushd_credentials_expiring{")
    assert {name: int(count) for name, count in counts.items()} == {
        'pushd_credentials_expiring{days="30"}': 4,
        'pushd_credentials_expiring{days="14"}': 3,
        'pushd_credentials_expiring{days="7"}': 2,
        'pushd_credentials_expiring{days="1"}': 1,
        'pushd_credentials_expiring{days="0"}': 1,
    }
    assert shown("pushd_credential_next_end") == {"pushd_credential_next_end_timestamp_seconds": pytest.approx(ends[1])}
    ExpiryWatch(Ring(), clock).look()
    assert set(shown("pushd_credentials_expiring{").values()) == {0.0}
