"""A reader of the feed that was away for too long does not go on as if nothing had happened."""

from __future__ import annotations

import asyncio

import pytest

from pushd.config import StoreConfig
from pushd.store.changes import FeedLostError, Follower, Listeners, Page


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
