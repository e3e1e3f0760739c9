"""Registration: identity, the newest wins, images of everything that changed; races; reading, deleting, reviving."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest
from msgspec import UNSET

from pushd.config import StoreConfig
from pushd.errors import InvalidRequestError, NotFoundError
from pushd.model.device import Environment, Kind, Platform, Profile, Registration, Route, Shape
from pushd.model.rows import DeviceFlag
from pushd.store.settlements import Retirement, Settlement
from pushd.store.store import Store
from tests.integration.store.samples import NOW, image, registration, token

pytestmark = pytest.mark.asyncio

REACHABLE = int(DeviceFlag.HAS_TOKEN | DeviceFlag.PUSH_ENABLED)


async def register(store, app, *registrations, now=NOW):
    return await store.devices.register_many(app.id, registrations, now)


async def test_a_new_device_has_everything_that_it_was_registered_with(store, app):
    done = await register(
        store,
        app,
        registration(
            1,
            user_id="ann",
            platform=Platform.IOS,
            tags=["News", "sport", "NEWS"],
            locale="de",
            time_zone="Europe/Berlin",
            app_version="1.2",
            os_version="17.4",
            country="DE",
            alias="kitchen",
            in_app_consent=False,
            environment=Environment.SANDBOX,
        ),
    )
    assert done.ids.tolist() == [1]
    assert done.users.external_ids == ["ann"]
    route = Route(app.id, Kind.APNS, Environment.SANDBOX, "com.example")
    expected = {
        "revision": 1,
        "route": route,
        "user": 1,
        "flags": REACHABLE | DeviceFlag.NO_IN_APP,
        "token": token(1),
        "tags": ["News", "sport"],
    }
    assert image(done.rows, 1) == expected
    device = await store.devices.get(app.id, 1)
    assert device.tags == ["News", "sport"]
    assert (device.install_id, device.user_id, device.platform) == ("install-1", "ann", Platform.IOS)
    assert (device.locale, device.time_zone, device.app_version) == ("de", "Europe/Berlin", "1.2")
    assert (device.os_version, device.country, device.alias) == ("17.4", "DE", "kitchen")
    assert (device.push_enabled, device.in_app_consent, device.reachable) == (True, False, True)
    assert (device.token_hint, device.registered_at, device.last_seen_at) == (token(1)[-4:], NOW, NOW)
    assert token(1) not in repr(device)


async def test_registering_again_changes_nothing_but_when(store, app):
    await register(store, app, registration(1, tags=["a"], user_id="ann"))
    again = await register(store, app, registration(1), now=NOW + 60)
    assert again.ids.tolist() == [1]
    assert len(again.rows) == 0
    assert again.users is None
    device = await store.devices.get(app.id, 1)
    assert (device.registered_at, device.last_seen_at, device.tags, device.user_id) == (
        NOW + 60,
        NOW + 60,
        ["a"],
        "ann",
    )


async def test_registering_again_with_an_address_writes_no_install(store, app):
    install = "SELECT xmin::text FROM installs"
    await register(store, app, registration(1, tags=["a"], user_id="ann", locale="de"))
    first = await store.database.fetchval(install)
    await register(store, app, registration(1, tags=["a"], user_id="ann", locale="de"), now=NOW + 60)
    assert await store.database.fetchval(install) == first
    assert (await store.devices.get(app.id, 1)).last_seen_at == NOW + 60
    await register(store, app, registration(1, token=None), now=NOW + 120)
    assert await store.database.fetchval(install) != first  # nothing else says that it was seen
    device = await store.devices.get(app.id, 1)
    assert (device.registered_at, device.last_seen_at) == (NOW + 60, NOW + 120)


async def test_sets_are_looked_up_row_by_row(store):
    # Planned before there are statistics, a scan of the whole table per given row looks cheap.
    functions = await store.database.fetch(
        "SELECT proname, proconfig FROM pg_proc WHERE 'enable_hashjoin=off' = ANY (proconfig)"
    )
    names = {row["proname"] for row in functions}
    assert names >= {"register_devices", "users_of", "put_users", "device_images", "changed_users", "settle"}
    for row in functions:
        assert {"enable_bitmapscan=off", "enable_material=off", "enable_seqscan=off"} <= {*row["proconfig"]}


async def test_absent_fields_stay_and_null_clears(store, app):
    await register(store, app, registration(1, user_id="ann", locale="de", tags=["a"], app_version="1"))
    await register(store, app, registration(1, locale=None, app_version="2"))
    device = await store.devices.get(app.id, 1)
    assert (device.user_id, device.locale, device.tags, device.app_version) == ("ann", None, ["a"], "2")
    done = await register(store, app, registration(1, user_id=None, tags=[]))
    assert image(done.rows, 1)["user"] == 0
    assert image(done.rows, 1)["tags"] == []
    assert (await store.devices.get(app.id, 1)).user_id is None


async def test_an_install_without_a_token_keeps_user_tags_and_attributes(store, app):
    done = await register(store, app, Registration(install_id="web", user_id="ann", tags=["a"], push_enabled=False))
    assert image(done.rows, 1)["flags"] == 0
    assert image(done.rows, 1)["token"] == ""
    # A token later, without naming anything else.
    done = await register(store, app, Registration(install_id="web", token=token(9), bundle="com.example"))
    assert image(done.rows, 1) | {"revision": 0} == {
        "revision": 0,
        "route": Route(app.id, Kind.APNS, Environment.PRODUCTION, "com.example"),
        "user": 1,
        "flags": int(DeviceFlag.HAS_TOKEN),
        "token": token(9),
        "tags": ["a"],
    }
    # No token named: the address stays, and its environment, too.
    done = await register(store, app, Registration(install_id="web", push_enabled=True))
    assert image(done.rows, 1)["flags"] == REACHABLE
    assert image(done.rows, 1)["token"] == token(9)


async def test_the_newest_registration_of_a_token_wins_its_user_included(store, app):
    await register(store, app, registration(1, user_id="ann"))
    done = await register(store, app, registration(2, token=token(1), user_id="bob"))
    assert sorted(done.rows.ids.tolist()) == [1, 2]
    loser, winner = image(done.rows, 1), image(done.rows, 2)
    assert (loser["token"], loser["flags"], loser["revision"]) == ("", int(DeviceFlag.PUSH_ENABLED), 2)
    assert (winner["token"], winner["user"]) == (token(1), 2)
    assert (await store.devices.get(app.id, 1)).user_id == "ann"
    assert not (await store.devices.get(app.id, 1)).reachable


async def test_an_iphone_with_alerts_and_voip_is_two_devices_of_one_install(store, app):
    done = await register(
        store, app, registration(1, user_id="ann"), registration(1, kind=Kind.APNS_VOIP, token=token(7))
    )
    assert done.ids.tolist() == [1, 2]
    # What is the install's shows in both images.
    done = await register(store, app, registration(1, user_id="bob", tags=["x"], push_enabled=False))
    assert sorted(done.rows.ids.tolist()) == [1, 2]
    for device_id in (1, 2):
        assert image(done.rows, device_id)["tags"] == ["x"]
        assert image(done.rows, device_id)["flags"] == int(DeviceFlag.HAS_TOKEN)
        assert image(done.rows, device_id)["user"] == 2
    assert [each.id for each in await store.devices.list(app.id, 0, 10, install_id="install-1")] == [1, 2]
    assert [each.id for each in await store.devices.list(app.id, 1, 10, user_id="bob")] == [2]


async def test_the_same_token_is_another_address_elsewhere(store, app):
    await register(
        store,
        app,
        registration(1),
        registration(2, token=token(1), environment=Environment.SANDBOX),
        registration(3, token=token(1), kind=Kind.APNS_VOIP),
    )
    assert [each.reachable for each in await store.devices.list(app.id, 0, 10)] == [True] * 3


async def test_two_devices_that_swap_tokens_in_one_request(store, app):
    await register(store, app, registration(1), registration(2))
    done = await register(store, app, registration(1, token=token(2)), registration(2, token=token(1)))
    assert image(done.rows, 1)["token"] == token(2)
    assert image(done.rows, 2)["token"] == token(1)
    assert [each.reachable for each in await store.devices.list(app.id, 0, 10)] == [True, True]


async def test_a_token_named_on_the_way_is_lost_to_who_had_it(store, app):
    await register(store, app, registration(1))
    # The second device takes the first one's token, and then gets its own.
    await register(store, app, registration(2, token=token(1)), registration(2, token=token(2)))
    first, second = await store.devices.list(app.id, 0, 10)
    assert not first.reachable
    assert second.token_hint == token(2)[-4:]


async def test_a_shape_is_part_of_the_route_and_stays_where_none_is_named(store, app):
    done = await register(store, app, registration(1), registration(2, shape=Shape.KUMULOS))
    assert [image(done.rows, number)["route"].shape for number in (1, 2)] == [Shape.OWN, Shape.KUMULOS]
    plain = done.rows.route_ids.tolist()
    # None named: neither alone, nor beside another bundle or environment, nor without any bundle.
    for fields in (
        {"bundle": "com.other"},
        {"environment": Environment.SANDBOX},
        {"bundle": UNSET},
        {"token": token(9)},
    ):
        await register(store, app, registration(2, **fields))
        assert (await store.devices.get(app.id, 2)).shape is Shape.KUMULOS
    assert (await store.devices.get(app.id, 2)).bundle == "com.example"
    # Named, with a bundle and without; the empty one is pushd's own again.
    done = await register(store, app, registration(2, token=token(9), shape=Shape.GRAVITEC, bundle=UNSET))
    assert image(done.rows, 2)["route"] == Route(
        app.id, Kind.APNS, Environment.PRODUCTION, "com.example", Shape.GRAVITEC
    )
    done = await register(store, app, registration(2, token=token(9), shape=Shape.OWN))
    assert image(done.rows, 2)["route"].shape is Shape.OWN
    assert done.rows.route_ids.tolist() == [plain[0]]
    # Before there is an address, and in one call with it.
    await register(store, app, Registration(install_id="web", kind=Kind.WEBPUSH, shape=Shape.KUMULOS))
    done = await register(store, app, Registration(install_id="fcm", kind=Kind.FCM, token="t", shape=Shape.BACKENDLESS))
    assert image(done.rows, 4)["route"] == Route(app.id, Kind.FCM, Environment.PRODUCTION, "", Shape.BACKENDLESS)
    assert (await store.devices.get(app.id, 3)).shape is Shape.KUMULOS
    # Nothing is written where nothing differs.
    again = await register(
        store, app, Registration(install_id="fcm", kind=Kind.FCM, token="t", shape=Shape.BACKENDLESS)
    )
    assert not len(again.rows.ids)


async def test_environment_and_bundle_move_with_a_token_and_stay_without(store, app):
    await register(store, app, registration(1, environment=Environment.SANDBOX))
    done = await register(store, app, Registration(install_id="install-1", tags=["a"]))
    assert image(done.rows, 1)["route"].environment is Environment.SANDBOX
    done = await register(store, app, registration(1, bundle="com.other"))
    assert image(done.rows, 1)["route"] == Route(app.id, Kind.APNS, Environment.PRODUCTION, "com.other")
    # A bundle that is not named stays, even when the environment moves.
    done = await register(store, app, registration(1, bundle=UNSET, environment=Environment.SANDBOX))
    assert image(done.rows, 1)["route"] == Route(app.id, Kind.APNS, Environment.SANDBOX, "com.other")
    # A new device of the install takes its sibling's.
    done = await register(store, app, registration(1, kind=Kind.APNS_VOIP, bundle=UNSET))
    assert image(done.rows, 2)["route"].bundle == "com.other"


async def test_ids_come_in_aligned_blocks_per_app(store, app, other):
    first = (await register(store, app, *(registration(number) for number in range(70)))).ids
    theirs = (await register(store, other, registration(1))).ids
    more = (await register(store, app, *(registration(number) for number in range(100, 4300)))).ids
    assert first.tolist() == [*range(1, 64), *range(4096, 4103)]
    assert theirs.tolist() == [64]
    assert more.tolist() == [*range(4103, 8192), *range(8192, 8192 + len(more) - (8192 - 4103))]
    sizes = await store.database.fetch("SELECT start, size, app_id FROM id_blocks WHERE space = 1 ORDER BY start")
    assert all(row["start"] % row["size"] == 0 for row in sizes)
    assert len({*first.tolist(), *theirs.tolist(), *more.tolist()}) == 70 + 1 + 4200


async def test_blocks_grow_to_65536(store, app):
    await store.database.execute("SELECT allocate_ids(1::smallint, $1, 70000)", app.id)
    rows = await store.database.fetch(
        "SELECT size, count(*) FROM id_blocks WHERE app_id = $1 GROUP BY 1 ORDER BY 1", app.id
    )
    assert [tuple(row) for row in rows] == [(64, 1), (4096, 16), (65536, 1)]


async def test_registering_again_burns_no_ids(store, app):
    for _ in range(3):
        await register(store, app, registration(1, user_id="ann"))
    assert (await register(store, app, registration(2, user_id="bob"))).ids.tolist() == [2]
    assert (await store.users.get(app.id, "bob")).id == 2


async def test_concurrent_registrations_of_one_token_leave_one_owner(store, app):
    everyone = [registration(number, token=token(5), user_id=f"user-{number}") for number in range(40)]
    random.Random(1).shuffle(everyone)
    await asyncio.gather(*(store.devices.register_many(app.id, [each], NOW) for each in everyone))
    devices = await store.devices.list(app.id, 0, 100)
    assert len(devices) == 40
    assert sum(each.reachable for each in devices) == 1


async def test_two_nodes_that_register_one_new_install_at_once_agree(store, app, dsn):
    second = Store(StoreConfig(pool_size=3), dsn)
    await second.start()
    try:
        results = await asyncio.gather(
            *(
                each.devices.register_many(
                    app.id, [registration(number, token=token(number % 3), tags=[f"t{number}"])], NOW
                )
                for number in range(30)
                for each in (store, second)
            )
        )
    finally:
        await second.stop()
    by_number = [{int(one.ids[0]) for one in results[at : at + 2]} for at in range(0, 60, 2)]
    assert all(len(ids) == 1 for ids in by_number)
    assert sum(each.reachable for each in await store.devices.list(app.id, 0, 100)) == 3


async def test_a_group_answers_each_caller_and_a_bad_one_harms_nobody(store, app):
    calls = [store.devices.register_many(app.id, [registration(number)], NOW) for number in range(20)]
    calls.insert(7, store.devices.register_many(app.id, [registration(99, locale="\0")], NOW))
    calls.insert(9, store.devices.register_many(12345, [registration(98)], NOW))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[7], InvalidRequestError)
    assert isinstance(results[9], NotFoundError)
    good = [each for row, each in enumerate(results) if row not in (7, 9)]
    assert len({int(each.ids[0]) for each in good}) == 20
    assert sum(len(each.rows) for each in good) == 20


async def test_bulk_in_several_transactions_is_one_answer(store, app):
    many = [registration(number, user_id=f"u{number % 7}", tags=["all", f"t{number % 3}"]) for number in range(12_000)]
    done = await store.devices.register_many(app.id, many, NOW)
    assert len(np.unique(done.ids)) == 12_000
    assert len(done.rows) == 12_000
    assert sorted(done.users.external_ids) == [f"u{number}" for number in range(7)]
    assert image(done.rows, int(done.ids[4]))["tags"] == ["all", "t1"]
    again = await store.devices.register_many(app.id, many[:6000], NOW + 1)
    assert again.ids.tolist() == done.ids[:6000].tolist()
    assert len(again.rows) == 0


async def test_listing_pages_through_blocks(store, app, other):
    await register(store, app, *(registration(number) for number in range(100)))
    await register(store, other, registration(1))
    seen, after = [], 0
    while page := await store.devices.list(app.id, after, 30):
        seen += [each.id for each in page]
        after = page[-1].id
    assert len(seen) == 100
    assert seen == sorted(seen)


async def test_deleted_devices_are_tombstones_and_their_ids_are_not_used_again(store, app):
    await register(store, app, registration(1, user_id="ann"), registration(1, kind=Kind.APNS_VOIP))
    gone = await store.devices.delete_many(app.id, [1, 77], NOW)
    assert gone.ids.tolist() == [1]
    assert image(gone, 1)["flags"] == int(DeviceFlag.DELETED)
    assert image(gone, 1)["revision"] == 2
    assert image(await store.devices.images(np.array([1], np.uint32)), 1)["token"] == ""
    assert await store.devices.get(app.id, 1) is None
    assert len(await store.devices.delete_many(app.id, [1], NOW)) == 0
    # The install lives on with its other device, and what it had is still its.
    assert (await register(store, app, registration(1))).ids.tolist() == [3]
    assert (await store.devices.get(app.id, 3)).user_id == "ann"
    await store.devices.delete_many(app.id, [2, 3], NOW)
    assert await store.database.fetchval("SELECT count(*) FROM installs") == 0
    await store.database.execute("UPDATE devices SET deleted_at = now() - interval '2 days'")
    await store.maintenance.purge()
    assert await store.database.fetchval("SELECT count(*) FROM devices") == 0


async def retire(store, node, device_id, revision, at, reason="unregistered", credential_id=3):
    return await store.settlements.settle(
        Settlement(
            retired=[
                Retirement(
                    ids=np.array([device_id], np.uint32),
                    revisions=np.array([revision], np.int32),
                    at_ms=np.array([at * 1000], np.int64),
                    reason=reason,
                    credential_id=credential_id,
                )
            ]
        ),
        node.id,
    )


@pytest.mark.parametrize(("dead_since", "retired"), [(-1.0, False), (0.0, True), (60.0, True)])
async def test_a50_a_token_registered_after_it_was_called_dead_is_kept(store, app, node, dead_since, retired):
    await register(store, app, registration(1))
    done = await retire(store, node, 1, 1, NOW + dead_since)
    assert (done.retired is not None and len(done.retired) == 1) is retired
    device = await store.devices.get(app.id, 1)
    assert device.reachable is not retired
    assert device.retired_reason == ("unregistered" if retired else None)


async def test_retiring_is_compare_and_set_on_the_revision(store, app, node):
    await register(store, app, registration(1))
    await register(store, app, registration(1, token=token(2)))
    assert (await retire(store, node, 1, 1, NOW + 99)).retired is None
    assert image((await retire(store, node, 1, 2, NOW + 99)).retired, 1)["flags"] & DeviceFlag.RETIRED
    assert (await retire(store, node, 1, 3, NOW + 99)).retired is None


async def test_re_registered_moved_retired_and_revived(store, app, node):
    await register(store, app, registration(1, user_id="ann"))
    await register(store, app, registration(1, user_id="bob"))
    await retire(store, node, 1, 2, NOW + 10)
    assert not (await store.devices.get(app.id, 1)).reachable
    # Registered anew it lives again.
    back = await register(store, app, registration(1), now=NOW + 20)
    assert image(back.rows, 1)["flags"] == REACHABLE
    await retire(store, node, 1, 4, NOW + 30, reason="bad_token", credential_id=8)
    assert (await store.devices.revive(app.id, 0, reason="unregistered")).count == 0
    assert (await store.devices.revive(app.id, 0, credential_id=9)).count == 0
    assert (await store.devices.revive(app.id, 2**32)).count == 0
    revived = await store.devices.revive(app.id, 0, reason="bad_token", credential_id=8)
    assert revived.count == 1
    assert image(revived.rows, 1)["flags"] == REACHABLE
    device = await store.devices.get(app.id, 1)
    assert (device.reachable, device.retired_at, device.user_id) == (True, None, "bob")


async def test_an_image_says_to_the_hour_when_the_install_was_seen(store, app):
    await register(store, app, registration(1), registration(1, kind=Kind.APNS_VOIP, token=token(9)))
    assert len((await register(store, app, registration(1), now=NOW + 3_599)).rows) == 0
    later = (await register(store, app, registration(1), now=NOW + 3_600)).rows
    assert later.ids.tolist() == [1, 2]
    assert later.last_seen.tolist() == [NOW + 3_600] * 2
    assert later.first_seen.tolist() == [NOW] * 2
    assert (await store.devices.get(app.id, 2)).first_seen_at == NOW


async def test_profiles_are_numbered_and_shown_in_every_image_of_the_install(store, app, other):
    fields = {
        "platform": Platform.IOS,
        "os_version": "17.4",
        "app_version": "2.0",
        "locale": "de-DE",
        "country": "DE",
        "time_zone": "Europe/Berlin",
    }
    rows = (await register(store, app, registration(1, **fields), registration(2, **fields), registration(3))).rows
    one, two, nothing = rows.profile_ids.tolist()
    assert (one, nothing) == (two, 0)
    assert rows.profiles == {one: Profile(app.id, "ios", "17.4", "2.0", "de-DE", "DE", "Europe/Berlin")}
    elsewhere = (await register(store, other, registration(1, **fields))).rows
    assert elsewhere.profile_ids.tolist() != [one]
    # Some of the fields: the others stay.
    changed = (await register(store, app, registration(1, os_version="17.5", country=None))).rows
    assert changed.profiles[changed.profile_ids.item(0)] == Profile(
        app.id, "ios", "17.5", "2.0", "de-DE", "", "Europe/Berlin"
    )
    device = await store.devices.get(app.id, 1)
    assert (device.os_version, device.country, device.platform) == ("17.5", None, Platform.IOS)
    # Said again it is no change; taken back it is the profile from before.
    assert len((await register(store, app, registration(1, os_version="17.5"))).rows) == 0
    back = (await register(store, app, registration(1, os_version="17.4", country="DE"))).rows
    assert back.profile_ids.tolist() == [one]
    cleared = (await register(store, app, registration(1, **dict.fromkeys(fields)))).rows
    assert cleared.profile_ids.tolist() == [0]
    assert (await store.devices.get(app.id, 1)).locale is None


async def test_installs_may_share_an_alias_and_have_one_at_a_time(store, app):
    rows = (await register(store, app, registration(1, alias="küche"), registration(2, alias="küche"))).rows
    assert rows.aliases == {0: "küche", 1: "küche"}
    voip = (await register(store, app, registration(1, kind=Kind.APNS_VOIP, token=token(9)))).rows
    assert voip.aliases == {0: "küche"}
    assert voip.installs.tolist() == rows.installs.tolist()[:1]
    moved = (await register(store, app, registration(1, alias="bad"))).rows
    assert moved.ids.tolist() == [1, 3]
    assert moved.aliases == {0: "bad", 1: "bad"}
    assert (await register(store, app, registration(1, alias=None))).rows.aliases == {}
    assert (await store.devices.get(app.id, 2)).alias == "küche"


async def test_an_install_without_its_addresses_is_still_known(store, app, other):
    await register(store, app, registration(1, user_id="ann", tags=["a"]))
    await register(store, app, registration(1, kind=Kind.APNS_VOIP, token=token(9)), registration(2))
    rows = await store.devices.forget_addresses(app.id, "install-1")
    assert sorted(rows.ids.tolist()) == [1, 2]
    assert image(rows, 1)["flags"] == DeviceFlag.PUSH_ENABLED
    device = await store.devices.get(app.id, 1)
    assert (device.reachable, device.user_id, device.tags, device.token_hint) == (False, "ann", ["a"], "")
    assert (await store.devices.get(app.id, 3)).reachable
    assert len(await store.devices.forget_addresses(app.id, "install-1")) == 0
    assert len(await store.devices.forget_addresses(other.id, "install-2")) == 0
    # Its address is free, and its own again where it is named again.
    assert (await register(store, app, registration(1))).ids.tolist() == [1]
    assert (await store.devices.get(app.id, 1)).reachable
