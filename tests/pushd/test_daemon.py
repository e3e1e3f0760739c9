"""A takeover at the start: what names nobody goes on at once, the rest when the users are known."""

from types import SimpleNamespace

import pytest

from pushd.bitset import Devices
from pushd.daemon import Daemon
from pushd.model.audience import UserIds
from pushd.store.resume import Resume
from pushd.targeting.index import Index
from tests.pushd.fanout.conftest import notification


def _left(given):
    return Resume(notification=given, targeted=1, counts={}, remaining=Devices([1]), attempted=Devices())


class OneLeft:
    """Notifications of which a dead node left one."""

    def __init__(self):
        self.left = [_left(notification(1))]

    async def resumable(self, node_id):
        left, self.left = self.left, []
        return left

    def give_back(self, lefts):
        self.left = [*lefts]


class NoApps:
    """Apps that are gone."""

    async def get(self, app_id):
        return None


class NoBadges:
    """Apps that count no badges."""

    async def catch_up(self, apps):
        assert not {*apps}


class Heard:
    """A fan-out that remembers."""

    def __init__(self):
        self.calls = []

    def resume(self, given, settings, **rest):
        self.calls.append(("resume", given.id))


@pytest.mark.asyncio
async def test_what_names_people_waits_for_the_users_and_nothing_else_does():
    named, rest = notification(1, audience=UserIds(["ada"])), notification(2)
    daemon = object.__new__(Daemon)
    daemon._ready, daemon.node, daemon.fanout = False, SimpleNamespace(id=2), Heard()
    daemon.index = Index()
    daemon.store = SimpleNamespace(notifications=OneLeft(), apps=NoApps(), badges=NoBadges())
    daemon.store.notifications.left = [_left(named), _left(rest)]
    await daemon._resume(named=False)
    assert daemon.fanout.calls == [("resume", 2)]
    await daemon._resume()
    assert daemon.fanout.calls == [("resume", 2), ("resume", 1)]
