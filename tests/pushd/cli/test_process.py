"""The daemon as a process: the watchdog is fed by progress and by nothing else."""

import asyncio

import pytest

from pushd.cli import process


class Stuck:
    progress = 3


class Moving:
    def __init__(self):
        self.count = 0

    @property
    def progress(self):
        self.count += 1
        return self.count


class Supervisor:
    def __init__(self, watchdog_s):
        self.watchdog_s = watchdog_s
        self.pings = 0

    def alive(self):
        self.pings += 1


@pytest.mark.asyncio
@pytest.mark.parametrize(("daemon", "fed"), [(Stuck(), False), (Moving(), True)])
async def test_the_watchdog_is_fed_only_while_the_dispatcher_moves(daemon, fed):
    supervisor = Supervisor(0.04)
    task = asyncio.create_task(process._feed_watchdog(daemon, supervisor))
    await asyncio.sleep(0.2)
    task.cancel()
    assert (supervisor.pings > 5) is fed
    assert fed or supervisor.pings == 0
