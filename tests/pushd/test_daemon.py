"""A takeover while the daemon serves: what was cancelled between claim and resume is cancelled all the same."""

from types import SimpleNamespace

import pytest

from pushd.bitset import Devices
from pushd.daemon import Daemon
from pushd.model.audience import UserIds
from pushd.model.notification import State
from pushd.store.resume import Resume
from pushd.targeting.index import Index
from tests.pushd.fanout.conftest import notification


def _left(given):
    return Resume(notification=given, targeted=1, counts={}, remaining=Devices([1]), attempted=Devices())


class OneLeft:
    """Notifications of which a dead node left one."""

    def __init__(self, state):
        self.left = [_left(notification(1))]
        self.state = state

    async def resumable(self, node_id):
        left, self.left = self.left, []
        return left

    def give_back(self, lefts):
        self.left = [*lefts]

    async def get(self, app_id, notification_id):
        return SimpleNamespace(notification=SimpleNamespace(state=self.state))


class NoApps:
    """Apps that are gone."""

    async def get(self, app_id):
        return None


class Heard:
    """A fan-out that remembers."""

    def __init__(self):
        self.calls = []

    def resume(self, given, settings, **rest):
        self.calls.append(("resume", given.id))

    def cancel(self, notification_id):
        self.calls.append(("cancel", notification_id))
        return True


@pytest.mark.asyncio
@pytest.mark.parametrize("state", [State.CANCELLED, State.RUNNING])
async def test_a_cancel_that_came_too_early_is_heard(state):
    daemon = object.__new__(Daemon)
    daemon._ready, daemon.node, daemon.fanout = True, SimpleNamespace(id=2), Heard()
    daemon.store = SimpleNamespace(notifications=OneLeft(state), apps=NoApps())
    await daemon._resume()
    assert daemon.fanout.calls == [("resume", 1), *([("cancel", 1)] if state is State.CANCELLED else [])]


@pytest.mark.asyncio
async def test_what_names_people_waits_for_the_users_and_nothing_else_does():
    named, rest = notification(1, audience=UserIds(["ada"])), notification(2)
    daemon = object.__new__(Daemon)
    daemon._ready, daemon.node, daemon.fanout = False, SimpleNamespace(id=2), Heard()
    daemon.index = Index()
    daemon.store = SimpleNamespace(notifications=OneLeft(State.RUNNING), apps=NoApps())
    daemon.store.notifications.left = [_left(named), _left(rest)]
    await daemon._resume(named=False)
    assert daemon.fanout.calls == [("resume", 2)]
    await daemon._resume()
    assert daemon.fanout.calls == [("resume", 2), ("resume", 1)]
