"""Loading everything in chunks: complete, decoded right, with long tokens apart."""

from __future__ import annotations

import numpy as np
import pytest

from pushd.config import StoreConfig
from pushd.model.device import Kind
from pushd.model.user import UserChange
from pushd.store.store import Store
from tests.integration.store.samples import NOW, image, registration

pytestmark = pytest.mark.asyncio


async def test_everything_is_loaded_in_chunks(store, app, other, dsn):
    for each in (app, other):
        await store.devices.register_many(
            each.id,
            [
                registration(
                    n,
                    user_id=f"u{n % 5}",
                    tags=[f"t{k}" for k in range(n % 4)],
                    app_version=f"1.{n % 7}",
                    **({"alias": f"alias {n % 3}"} if n % 2 else {}),
                )
                for n in range(3000)
            ],
            NOW,
        )
        people = [UserChange(external_id=f"u{n}", email=f"{n}@x.org", attributes={"n": n}) for n in range(2)]
        await store.users.put_many(each.id, people)
    await store.devices.delete_many(app.id, [5, 6], NOW)
    small = Store(StoreConfig(pool_size=2, load_rows_max=1000), dsn)
    await small.start()
    try:
        chunks = [rows async for rows in small.devices.load()]
        users = [rows async for rows in small.users.load()]
    finally:
        await small.stop()
    assert all(len(rows) <= 4096 for rows in chunks)
    assert len(chunks) > 2
    ids = np.concatenate([rows.ids for rows in chunks])
    assert len(ids) == len(np.unique(ids)) == 5998
    for rows in chunks:
        assert set(rows.routes) == set(rows.route_ids.tolist())
        assert set(rows.tags.names) == set(rows.tags.ids.tolist())
        assert set(rows.profiles) == set(rows.profile_ids.tolist())
    sample = int(chunks[0].ids[7])
    assert image(chunks[0], sample) == image(await store.devices.images(np.array([sample], np.uint32)), sample)
    found = {
        name: (part.emails.get(at), part.attributes.get(at))
        for part in users
        for at, name in enumerate(part.external_ids)
    }
    assert found == {f"u{n}": (f"{n}@x.org", {"n": n}) if n < 2 else (None, None) for n in range(5)}
    names = sorted(name for rows in users for name in rows.external_ids)
    assert names == sorted(f"u{n % 5}" for n in range(10))


async def test_long_tokens_do_not_pad_short_ones(store, app):
    await store.devices.register_many(
        app.id,
        [
            *(registration(n) for n in range(50)),
            *(registration(n, kind=Kind.FCM, token="f" * 163) for n in (1,)),
            *(registration(n, kind=Kind.WEBPUSH, token=f"https://push.example/{n}/" + "x" * 3000) for n in range(2)),
            *(registration(n, kind=Kind.HMS, token=None) for n in range(3)),
        ],
        NOW,
    )
    groups = [rows async for rows in store.devices.load()]
    assert sorted((len(rows), rows.tokens.dtype.itemsize) for rows in groups) == [(1, 163), (2, 3023), (53, 64)]
    for rows in groups:
        for place, number in enumerate(rows.ids):
            hint = (await store.devices.get(app.id, int(number))).token_hint
            assert rows.tokens[place].decode()[-4:] == hint


async def test_an_empty_store_loads_nothing(store):
    assert [rows async for rows in store.devices.load()] == []
    assert [rows async for rows in store.users.load()] == []


async def test_a_load_that_is_given_up_leaves_the_connection_sound(store, app):
    await store.devices.register_many(app.id, [registration(n) for n in range(5000)], NOW)
    async with store.snapshot() as snapshot:
        loading = store.devices.load(snapshot)
        assert len(await anext(loading)) > 0
        await loading.aclose()
    await store.users.put_many(app.id, [UserChange(external_id="ann")])
    assert [rows.external_ids async for rows in store.users.load()] == [["ann"]]
