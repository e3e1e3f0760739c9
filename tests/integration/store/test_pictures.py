"""Pictures fetched over TLS, fitted, kept in PostgreSQL and served: from anywhere it may, within limits, once."""

from __future__ import annotations

import asyncio
import io
import time
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from PIL import Image

from pushd.clock import SystemClock
from pushd.commands.pictures import Pictures
from pushd.config.pictures import PicturesConfig
from pushd.content.pictures import Frame
from pushd.errors import ConfigError, NotFoundError
from pushd.transport.fetch import Fetcher
from tests.gallery import gallery, picture

pytestmark = pytest.mark.asyncio

DAY_S = 86_400


class MovableClock(SystemClock):
    """Time as the test says, from now on."""

    ahead = 0.0

    def monotonic(self):
        return super().monotonic() + self.ahead


@pytest_asyncio.fixture
async def place(tmp_path):
    async with gallery(tmp_path) as made:
        yield made


@asynccontextmanager
async def fitting(config, store, clock=None):
    pictures = Pictures(config, store.pictures, clock or SystemClock())
    await pictures.start()
    try:
        yield pictures
    finally:
        await pictures.stop()


async def test_a_picture_is_fetched_once_fitted_and_served_by_every_node(store, app, other, place):
    place.files["/wide.png"] = picture((300, 100))
    async with fitting(place.config(), store) as pictures, fitting(place.config(), store) as elsewhere:
        names = await asyncio.gather(*(pictures.fit(app.id, place.url("/wide.png"), Frame.ICON) for _ in range(20)))
        assert place.asked == {"/wide.png": 1}
        (name,) = {*names}
        for one in (pictures, elsewhere):
            body = await one.body(app.id, name)
            assert Image.open(io.BytesIO(body)).size == (192, 192)
            with pytest.raises(NotFoundError):
                await one.body(other.id, name)
        image = await pictures.fit(app.id, place.url("/wide.png"), Frame.IMAGE)
        assert Image.open(io.BytesIO(await pictures.body(app.id, image))).size == (360, 240)
        assert await store.apps.delete(app.id)
        async with fitting(place.config(), store) as later:
            with pytest.raises(NotFoundError):
                await later.body(app.id, name)


async def test_what_fits_or_cannot_be_had_stays_as_it_was_given(store, app, place):
    place.files |= {
        "/square.png": picture((100, 100)),
        "/text.png": b"no picture",
        "/large.png": picture((3_001, 10)),
        "/swollen.png": b"\x89PNG" + bytes(20_000),
        "/round.png": "/round.png",
        "/inside.png": "https://127.0.0.1/x.png",
        "/elsewhere.png": "https://internal.example.com/x.png",
        "/plain.png": f"http://localhost:{place.port}/wide.png",
        "/moved.png": "/wide.png",
        "/wide.png": picture((300, 100)),
    }
    async with fitting(place.config(pixels_max=30_000, bytes_max=10_000), store) as pictures:
        for path in ("square", "text", "large", "swollen", "round", "inside", "elsewhere", "missing"):
            assert await pictures.fit(app.id, place.url(f"/{path}.png"), Frame.ICON) is None, path
        for path in ("moved", "plain", "wide"):
            assert await pictures.fit(app.id, place.url(f"/{path}.png"), Frame.ICON), path
        assert place.asked["/round.png"] == 4
        for url in ("ftp://localhost/x.png", "https://[::1]/x.png", "x", "https://user@localhost/x.png"):
            assert await pictures.fit(app.id, url, Frame.ICON) is None


async def test_w43_no_address_that_is_not_public_is_connected_to(store, app, place):
    place.files["/wide.png"] = picture((300, 100))
    hosts = (f"localhost:{place.port}",)
    async with fitting(PicturesConfig(hosts=hosts, ca_file=str(place.ca_file)), store) as pictures:
        assert await pictures.fit(app.id, place.url("/wide.png"), Frame.ICON) is None
    assert not place.asked
    with pytest.raises(ConfigError):
        Fetcher(PicturesConfig(networks_allowed=("everything",)))


async def test_a_send_waits_only_so_long_and_the_next_one_finds_the_picture(store, app, place):
    place.files["/slow.png"] = 5.0
    async with fitting(place.config(wait_s=0.05, fetch_timeout_s=0.5, fetches_max=1), store) as pictures:
        began = time.monotonic()
        assert await pictures.fit(app.id, place.url("/slow.png"), Frame.ICON) is None
        assert await pictures.fit(app.id, place.url("/other.png"), Frame.ICON) is None  # no more at a time
        assert time.monotonic() - began < 2
        assert place.asked["/other.png"] == 0
    place.files["/slow.png"] = picture((300, 100))
    async with fitting(place.config(wait_s=0.0), store) as pictures:
        assert await pictures.fit(app.id, place.url("/slow.png"), Frame.ICON) is None
        async with asyncio.timeout(10):
            while not await pictures.fit(app.id, place.url("/slow.png"), Frame.ICON):
                await asyncio.sleep(0.01)
        assert place.asked["/slow.png"] == 2


async def test_a_url_is_asked_again_after_a_day_and_a_failure_after_a_minute(store, app, place):
    clock = MovableClock()
    url = place.url("/a.png")
    async with fitting(place.config(), store, clock) as pictures:
        assert await pictures.fit(app.id, url, Frame.ICON) is None
        place.files["/a.png"] = picture((300, 100))
        assert await pictures.fit(app.id, url, Frame.ICON) is None
        clock.ahead += 61
        first = await pictures.fit(app.id, url, Frame.ICON)
        assert first is not None
        place.files["/a.png"] = picture((300, 100), "blue")
        assert await pictures.fit(app.id, url, Frame.ICON) == first
        clock.ahead += DAY_S
        second = await pictures.fit(app.id, url, Frame.ICON)
        assert second not in (None, first)
        del place.files["/a.png"]
        clock.ahead += DAY_S
        assert await pictures.fit(app.id, url, Frame.ICON) == second  # better than none
        assert await pictures.body(app.id, first)  # pushes that wait still name it


async def test_pictures_that_nobody_wants_are_deleted_and_memory_is_bounded(store, app, place):
    place.files |= {f"/{number}.png": picture((300, 100), (number, 0, 0)) for number in range(5)}
    async with fitting(place.config(memory_bytes_max=600, urls_max=2), store) as pictures:
        names = [await pictures.fit(app.id, place.url(f"/{number}.png"), Frame.ICON) for number in range(5)]
        assert len({*names}) == 5
        assert sum(map(len, pictures._bodies.values())) == pictures._held_bytes <= 600
        assert len(pictures._known) == 2
        assert len([await pictures.body(app.id, name) for name in names]) == 5
    now = time.time()
    assert not await store.pictures.purge(now + 30 * DAY_S, 35)
    assert await store.pictures.get(app.id, names[0])
    assert not await store.pictures.purge(now + 36 * DAY_S, 35)
    assert await store.pictures.get(app.id, names[0]) is None
