"""A reader of the feed asks once for what it is told of, and does not go on after it was away for too long."""

from __future__ import annotations

import asyncio

import pytest

from pushd.config import StoreConfig
from pushd.store.changes import LATE_POLL_S, Aggregate, Event, FeedLostError, Follower, Listeners, Page


class Quiet:
    """A feed in which nothing happens, and the database behind it."""

    config = StoreConfig(feed_keep_s=-1)

    async def read(self, position):
        return Page([], position, last=True)

    async def connect(self):
        await asyncio.sleep(60)


@pytest.mark.asyncio
async def test_changes_that_may_have_been_purged_unread_are_fatal():
    quiet = Quiet()
    follower = Follower(quiet, quiet, Listeners(), None, None, lambda: 1)
    failed = asyncio.get_running_loop().create_future()
    follower.fatal = failed.set_result
    await follower.start()
    assert isinstance(await asyncio.wait_for(failed, 60), FeedLostError)
    await follower.stop()


class Told(Quiet):
    """A feed that gives one page after the other, and nothing behind them."""

    config = StoreConfig(feed_poll_ms=60_000)

    def __init__(self, pages):
        self.pages = list(pages)
        self.read_at = []

    async def read(self, position):
        self.read_at.append(asyncio.get_running_loop().time())
        return self.pages.pop(0) if self.pages else Page([], position, last=True)


KEYS = [Event(Aggregate.KEYS, 1, [1], None)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("pages", "reads"),
    [
        ([Page(KEYS, 2, last=True)], 1),
        ([Page(KEYS, 2, last=False), Page(KEYS, 3, last=True)], 2),
        ([Page(KEYS, 2, last=True, late=True), Page(KEYS, 3, last=True)], 2),
        ([Page([], 1, last=True, late=True), Page([], 1, last=True, late=True), Page(KEYS, 3, last=True)], 3),
    ],
)
async def test_a_page_is_read_once_and_again_only_for_what_could_not_be_read(pages, reads):
    feed, heard = Told(pages), []
    follower = Follower(feed, feed, Listeners(on_keys=lambda: heard.append(1)), None, None, lambda: 1)
    await follower.start()
    await asyncio.sleep(4 * LATE_POLL_S)
    assert len(feed.read_at) == reads
    assert len(heard) == sum(bool(page.events) for page in pages)
    waited = [page.late and not page.events for page in pages]
    between = zip(feed.read_at, feed.read_at[1:], waited, strict=False)
    assert all(not wait or later - earlier >= 0.9 * LATE_POLL_S for earlier, later, wait in between)
    follower._wake.set()  # a NOTIFY
    await asyncio.sleep(LATE_POLL_S)
    assert len(feed.read_at) == reads + 1
    await follower.stop()


class Busy(Told):
    """One in which something is written while it is read."""

    follower = None

    async def read(self, position):
        if self.pages:
            self.follower._wake.set()
        return await super().read(position)


@pytest.mark.asyncio
async def test_what_is_told_of_while_it_reads_is_not_missed():
    feed = Busy([Page(KEYS, 2, last=True)])
    follower = feed.follower = Follower(feed, feed, Listeners(), None, None, lambda: 1)
    await follower.start()
    await asyncio.sleep(LATE_POLL_S)
    assert len(feed.read_at) == 2
    await follower.stop()
