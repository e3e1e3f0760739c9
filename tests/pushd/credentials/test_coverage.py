"""Devices that no credential serves: counted by gateway, warned of once, looked at again when credentials change."""

import asyncio

import pytest
from structlog.testing import capture_logs

from pushd.credentials import coverage
from pushd.credentials.coverage import CoverageWatch
from pushd.credentials.keyring import Change
from pushd.model.device import Environment, Kind
from pushd.targeting.index import Index
from pushd.telemetry import metrics
from tests.pushd.fanout.conftest import rows

pytestmark = pytest.mark.asyncio


class Ring:
    """Serves the apps that it is told of."""

    def __init__(self, *served):
        self.served = {*served}
        self.listeners = []

    def unresolved(self, routes):
        return [route for route in routes if route.app_id not in self.served]

    def listen(self, listener):
        self.listeners.append(listener)


def counted():
    name = "pushd_devices_without_credential{"
    lines = (line.rpartition(" ") for line in metrics().decode().splitlines() if line.startswith(name))
    return {place[len(name) + len('gateway="') : -2]: int(float(value)) for place, _, value in lines if float(value)}


def population():
    index = Index()
    index.apply_devices(rows(range(1, 6), app_id=1))
    index.apply_devices(rows(range(6, 9), app_id=2, environment=Environment.SANDBOX))
    index.apply_devices(rows(range(9, 13), app_id=3, kind=Kind.FCM))
    index.apply_devices(rows([13], app_id=4, flags=0))
    return index


async def test_a18_routes_without_a_credential_are_counted_and_warned_of_once():
    ring = Ring(1)
    watch = CoverageWatch(ring, population())
    with capture_logs() as lines:
        await watch.look()
        await watch.look()
    assert [(line["event"], line["app"], line["gateway"], line["environment"], line["devices"]) for line in lines] == [
        ("no_credential_for_devices", 3, "fcm", "production", 4),
        ("no_credential_for_devices", 2, "apns", "sandbox", 3),
    ]
    assert counted() == {"fcm": 4, "apns": 3}
    ring.served = {1, 2, 3}
    await watch.look()
    assert counted() == {}
    ring.served = {1, 2}
    with capture_logs() as lines:
        await watch.look()
    assert [line["app"] for line in lines] == [3], "served meanwhile: that is news"
    ring.served = {1, 2, 3}
    await watch.look()


async def test_a18_it_is_looked_at_when_it_starts_and_when_credentials_change(monkeypatch):
    monkeypatch.setattr(coverage, "SOON_S", 0.01)
    ring = Ring(1, 2)
    watch = CoverageWatch(ring, population())
    await watch.start()
    assert counted() == {"fcm": 4}
    ring.served.add(3)
    for listener in ring.listeners:
        listener(7, Change.ADDED)
    async with asyncio.timeout(30):
        while counted():
            await asyncio.sleep(0.01)
    await watch.stop()


async def test_the_log_of_a_look_is_bounded():
    index = Index()
    for app_id in range(1, 30):
        index.apply_devices(rows([app_id], app_id=app_id))
    ring = Ring()
    watch = CoverageWatch(ring, index)
    with capture_logs() as lines:
        await watch.look()
    assert [line["event"] for line in lines].count("no_credential_for_devices") == 20
    assert lines[-1] == {"event": "no_credential_for_more_devices", "routes": 9, "log_level": "warning"}
    ring.served = {*range(1, 30)}
    await watch.look()
