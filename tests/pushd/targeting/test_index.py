"""The whole index against a naive model: any changes in any order, any audience."""

from __future__ import annotations

import asyncio
import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.bitset import Devices
from pushd.errors import InvalidRequestError
from pushd.model.audience import (
    Aliases,
    And,
    AppVersion,
    Attribute,
    Broadcast,
    Countries,
    DeviceIds,
    Environments,
    InAppConsent,
    Kinds,
    Languages,
    Locales,
    Not,
    Or,
    OsVersion,
    Platforms,
    PreferredKind,
    PushEnabled,
    Seen,
    Tags,
    TimeZones,
    UserEmails,
    UserIds,
    UserKnown,
    UserNumbers,
)
from pushd.model.device import ALERT_KINDS, Environment, Kind, Platform, Route
from pushd.model.rows import DeviceFlag
from pushd.targeting import Index, attributes, device_images, owners, removal, user_images

from .naive import DAY, LIVE, NOW, PROFILES, ROUTES, TAG_NAMES, DeviceImage, Naive, UserImage, device_rows, user_rows

APP_OF_DEVICE = {key: 1 if key <= 20 else 2 for key in range(1, 31)}
APP_OF_USER = {key: 1 if key <= 8 else 2 for key in range(1, 13)}
TIMES = st.sampled_from([0, 1, NOW - 40 * DAY, NOW - 2 * DAY - 1, NOW - 2 * DAY, NOW - DAY + 7, NOW - 1, NOW])
WHEN = [
    *("2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2027-06-30T12:00:00.5Z"),
    *("news", "newer", "", "2026", "Straße"),
]
VALUES = st.one_of(
    st.sampled_from([0, 1, 2.5, -3, 10**15, True, False, None]),
    st.sampled_from(WHEN),
    st.lists(st.sampled_from(["news", "sport"]), max_size=2, unique=True).map(tuple),
)
KINDS = st.sampled_from([ALERT_KINDS, frozenset({Kind.APNS}), frozenset({Kind.APNS_VOIP}), frozenset(Kind)])


class FixedClock:
    """It is always the same time."""

    def now(self):
        return NOW + 0.5

    def monotonic(self):
        return 0.0


@st.composite
def images_of_devices(draw):
    key = draw(st.sampled_from(sorted(APP_OF_DEVICE)))
    app = APP_OF_DEVICE[key]
    users = [0, *(user for user, of in APP_OF_USER.items() if of == app)]
    return DeviceImage(
        id=key,
        revision=draw(st.integers(1, 6)),
        route=draw(st.sampled_from([number for number, route in ROUTES.items() if route.app_id == app])),
        user=draw(st.sampled_from(users)),
        flags=draw(st.sampled_from([3, 3, 3, 0, 1, 2, 4, 5, 6, 7, 8, 11, 16, 19, 19, 27])),
        token=draw(st.sampled_from([b"", b"a" * 64, b"b" * 64, b"c" * 100, b"d" * 7])),
        tags=tuple(draw(st.sets(st.sampled_from(sorted(TAG_NAMES[app]))))),
        install=draw(st.sampled_from([0, key, *(range(1, 4) if app == 1 else range(21, 24))])),
        profile=draw(st.sampled_from([0, *(number for number, profile in PROFILES.items() if profile.app_id == app)])),
        first_seen=draw(TIMES),
        last_seen=draw(TIMES),
        alias=draw(st.sampled_from(["", "", "hall", "Küche", "bath"])),
    )


@st.composite
def images_of_users(draw):
    key = draw(st.sampled_from(sorted(APP_OF_USER)))
    app = APP_OF_USER[key]
    return UserImage(
        id=key,
        revision=draw(st.integers(1, 4)),
        app=app,
        external=f"user-{key}",
        deleted=draw(st.booleans()) and draw(st.booleans()),
        tags=tuple(draw(st.sets(st.sampled_from(sorted(TAG_NAMES[app]))))),
        email=draw(st.sampled_from(["", "", "Ann@example.com", "ann@EXAMPLE.com", "bob@example.com"])),
        attributes=tuple(draw(st.dictionaries(st.sampled_from(["a", "b"]), VALUES, max_size=2)).items()),
        quiet=draw(st.sampled_from([0, 0, 1, 2_073_600])),
    )


def unique_revisions(images):
    """One image per (id, revision): the store never makes two."""
    return list({(type(image), image.id, image.revision): image for image in images}.values())


CHANGES = st.lists(st.one_of(images_of_devices(), images_of_devices(), images_of_users()), max_size=60).map(
    unique_revisions
)
NAMES = st.sampled_from(["news", "SPORT", "strasse", "extra", "nothing"])
OPS = st.sampled_from(["eq", "ne", "lt", "lte", "gt", "gte"])
SCALARS = st.one_of(st.sampled_from([0, 1, 2.5, True, False]), st.sampled_from(WHEN))
LEAVES = st.one_of(
    st.just(Broadcast()),
    st.lists(st.integers(1, 32), min_size=1, max_size=5).map(DeviceIds),
    st.lists(st.integers(1, 14), min_size=1, max_size=5).map(UserNumbers),
    st.lists(st.integers(1, 14).map("user-{}".format), min_size=1, max_size=5).map(UserIds),
    st.builds(
        Tags,
        any=st.lists(NAMES, max_size=3),
        all=st.lists(NAMES, max_size=2),
        exclude=st.lists(NAMES, min_size=1, max_size=2),
        of=st.sampled_from(["device", "user", "either"]),
    ),
    st.lists(st.sampled_from(["ann@example.com", "BOB@example.com", "Ann@Example.com", "eve@x"]), min_size=1).map(
        UserEmails
    ),
    st.lists(st.sampled_from(["hall", "Küche", "küche", "bath"]), min_size=1, max_size=3).map(Aliases),
    st.lists(st.sampled_from([Platform.IOS, Platform.ANDROID, Platform.WEB]), min_size=1).map(Platforms),
    st.sampled_from(Environment).map(Environments),
    st.lists(st.sampled_from([Kind.APNS, Kind.APNS_VOIP, Kind.FCM]), min_size=1, max_size=2).map(Kinds),
    st.builds(AppVersion, OPS, st.sampled_from(["1.9", "1.10", "1.10-beta.2", "2.0"])),
    st.builds(OsVersion, OPS, st.sampled_from(["14", "17.4", "17.4.1"])),
    st.lists(st.sampled_from(["PT-br", "pt", "en_us", "de"]), min_size=1, max_size=2).map(Locales),
    st.lists(st.sampled_from(["pt", "PT_BR", "de", "e"]), min_size=1, max_size=2).map(Languages),
    st.lists(st.sampled_from(["br", "PT", "US", "FR"]), min_size=1, max_size=2).map(Countries),
    st.lists(st.sampled_from(["Europe/Lisbon", "America/New_York", "UTC"]), min_size=1, max_size=2).map(TimeZones),
    st.booleans().map(UserKnown),
    st.booleans().map(PushEnabled),
    st.booleans().map(InAppConsent),
    st.builds(
        Seen,
        which=st.sampled_from(["first", "last"]),
        since=st.none() | TIMES,
        before=TIMES,
        within_days=st.none() | st.integers(1, 50),
        older_than_days=st.none() | st.integers(1, 50),
    ),
    st.builds(Attribute, name=st.sampled_from(["a", "b", "c"]), op=st.just("exists")),
    st.builds(Attribute, name=st.sampled_from(["a", "b"]), op=OPS, value=SCALARS),
    st.builds(Attribute, name=st.sampled_from(["a", "b"]), op=st.just("in"), value=st.lists(SCALARS, min_size=1)),
    st.builds(
        Attribute,
        name=st.sampled_from(["a", "b"]),
        op=st.sampled_from(["contains", "starts_with"]),
        value=st.sampled_from(["news", "new", "2026-", "ß", ""]),
    ),
    st.builds(Tags, any=st.lists(NAMES, min_size=1, max_size=3), of=st.sampled_from(["device", "user", "either"])),
)
AUDIENCES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(And),
        st.lists(inner, min_size=1, max_size=3).map(Or),
        inner.map(Not),
        st.builds(
            PreferredKind,
            inner,
            st.lists(st.sampled_from([Kind.APNS, Kind.APNS_VOIP, Kind.FCM]), min_size=1, max_size=3),
        ),
    ),
    max_leaves=8,
)


EACH = [
    *(UserEmails(["ann@example.com"]), Aliases(["hall"]), Aliases(["Küche"]), Platforms([Platform.IOS])),
    *(AppVersion("gte", "1.10"), OsVersion("lt", "17.4.1"), Languages(["pt"]), Countries(["US"]), UserKnown(True)),
    *(TimeZones(["Europe/Lisbon"]), Seen(which="first", before=NOW), Seen(which="last", within_days=2)),
    *(Attribute(name="a", op="exists"), Attribute(name="b", op="contains", value="news")),
    Attribute(name="a", op="lt", value="2027-01-01T00:00:00Z"),
    PreferredKind(Broadcast(), [Kind.APNS_VOIP, Kind.APNS, Kind.FCM]),
]
"""What `everything` asks beside tags and ids."""


def feed(index, images, sizes, labels=256):
    """Applies images in their order, in chunks of these sizes: chunks of one row by row, others as columns."""
    waiting = list(images)
    for size in itertools.cycle(sizes):
        if not waiting:
            return
        chunk, waiting = waiting[:size], waiting[size:]
        few = 1 if size == 1 else 0
        with (
            mock.patch.object(device_images, "FEW_ROWS", few),
            mock.patch.object(user_images, "FEW_ROWS", few),
            mock.patch.object(owners, "LIST_MAX", 3),
            mock.patch.object(attributes, "LABELS_MAX", labels),
        ):
            if users := [image for image in chunk if isinstance(image, UserImage)]:
                index.apply_users(user_rows(*users))
            if devices := [image for image in chunk if isinstance(image, DeviceImage)]:
                index.apply_devices(device_rows(*devices))


def feed_naive(naive, images):
    for image in images:
        (naive.apply_devices if isinstance(image, DeviceImage) else naive.apply_users)(image)


def everything(index):
    """All that can be asked of an index over the small worlds of these tests."""
    answers = {}
    for app in (1, 2):
        known = Devices(range(1, 40))
        answers[app, "routes"] = [(route, list(devices)) for route, devices in index.routes(app, known)]
        for user in range(1, 14):
            answers[app, "user", user] = list(index.resolve(app, UserNumbers([user]), ALERT_KINDS).devices)
            answers[app, "external", user] = list(index.resolve(app, UserIds([f"user-{user}"]), ALERT_KINDS).devices)
        for name in ("news", "sport", "strasse", "extra"):
            for of in ("device", "user", "either"):
                answers[app, name, of] = list(index.resolve(app, Tags(any=[name], of=of), frozenset(Kind)).devices)
        for leaf in EACH:
            answers[app, repr(leaf)] = list(index.resolve(app, leaf, frozenset(Kind)).devices)
        found = index.resolve(app, Broadcast(), ALERT_KINDS)
        answers[app, "skipped"] = found.skipped
        answers[app, "quiet"] = index.holders.have_quiet_hours(app)
    answers["quiet"] = (index.holders.clocks(np.arange(40, dtype=np.uint32)) & np.uint64((1 << 21) - 1)).tolist()
    addresses = index.columns(np.arange(32, dtype=np.uint32))
    answers["tokens"], answers["revisions"] = addresses.tokens.tolist(), addresses.revisions.tolist()
    return answers


@given(CHANGES, AUDIENCES, KINDS, st.sampled_from([(1,), (40,), (1, 20)]), st.sampled_from([0, 2, 256]))
@settings(max_examples=150)
def test_any_audience_over_any_changes_is_as_the_naive_model_says(changes, audience, kinds, sizes, labels):
    index, naive = Index(FixedClock()), Naive()
    feed(index, changes, sizes, labels)
    feed_naive(naive, changes)
    for app in (1, 2):
        found = index.resolve(app, audience, kinds)
        assert set(found.devices) == naive.reach(app, audience, kinds)
        assert found.skipped == naive.skipped(app, audience, kinds)
        unknown, unsubscribed = naive.missing(app, audience, kinds)
        for group in ("devices", "users", "user_numbers", "emails", "aliases"):
            assert [(group, name) for name in found.unknown[group]] == [it for it in unknown if it[0] == group]
            assert [(group, name) for name in found.unsubscribed[group]] == [
                it for it in unsubscribed if it[0] == group
            ]
        assert found.missing == len(unknown) + len(unsubscribed)


@given(CHANGES, st.randoms(use_true_random=False), st.sampled_from([(1,), (7, 30)]))
@settings(max_examples=50)
def test_images_in_any_order_and_any_chunks_give_the_same_index(changes, random, sizes):
    first, second = Index(FixedClock()), Index(FixedClock())
    feed(first, changes, (1,))
    shuffled = list(changes) + changes[: len(changes) // 2]
    random.shuffle(shuffled)
    shuffled.sort(key=lambda image: isinstance(image, UserImage)) if random.random() < 0.3 else None
    feed(second, shuffled, sizes)
    assert everything(first) == everything(second)


@given(CHANGES)
@settings(max_examples=30)
def test_loading_the_newest_images_equals_having_followed_every_change(changes):
    followed, naive, loaded = Index(FixedClock()), Naive(), Index(FixedClock())
    feed(followed, changes, (1, 3))
    feed_naive(naive, changes)
    users, devices = list(naive.users.values()), list(naive.devices.values())
    feed(loaded, users, (50,))
    feed(loaded, devices, (50,))
    assert everything(loaded) == everything(followed)


@given(CHANGES, CHANGES)
@settings(max_examples=30)
def test_a_removed_app_is_gone_for_good_and_leaves_others_alone(changes, late):
    index, naive = Index(FixedClock()), Naive()
    feed(index, changes, (20, 1))
    feed_naive(naive, changes)
    index.remove_app(1)
    naive.remove_app(1)
    feed(index, late, (1, 20))
    feed_naive(naive, late)
    assert not index.resolve(1, Broadcast(), frozenset(Kind)).devices
    assert index.resolve(1, UserIds(["user-1"]), ALERT_KINDS).unknown["users"] == ["user-1"]
    assert set(index.resolve(2, Broadcast(), ALERT_KINDS).devices) == naive.reach(2, Broadcast(), ALERT_KINDS)
    again = index.columns(np.arange(1, 21, dtype=np.uint32))
    assert set(again.tokens.tolist()) == {b""}


@pytest.mark.asyncio
async def test_an_app_goes_in_slices_and_is_unknown_from_the_first_on(monkeypatch):
    monkeypatch.setattr(removal, "DEVICES_AT_ONCE", 2)
    monkeypatch.setattr(removal, "USERS_AT_ONCE", 1)
    index, whole = small_index(), small_index()
    whole.remove_app(1)
    going = asyncio.create_task(index.forget_app(1))
    turns = 0
    while not going.done():
        await asyncio.sleep(0)
        turns += 1
        assert not index.resolve(1, Broadcast(), frozenset(Kind)).devices
        index.apply_devices(device_rows(DeviceImage(2, user=1, route=3, token=b"n" * 64, revision=9)))
        assert len(index.resolve(2, Broadcast(), frozenset(Kind)).devices) == 1
    assert turns >= 4
    assert everything(index) == everything(whole)


def small_index():
    index = Index(FixedClock())
    ann = UserImage(1, external="ann", tags=(1,), email="a@b.c", attributes=(("plan", "pro"),))
    index.apply_users(user_rows(ann, UserImage(2, external="bob")))
    index.apply_devices(
        device_rows(
            DeviceImage(1, user=1, token=b"a" * 64, install=1, profile=1, alias="hall"),
            DeviceImage(2, user=1, route=3, token=b"v" * 64),
            DeviceImage(3, user=2, flags=LIVE | DeviceFlag.RETIRED, token=b"b" * 64),
            DeviceImage(4, route=2, tags=(2,), token=b"c" * 64),
            DeviceImage(21, route=4, token=b"x" * 64),
        )
    )
    return index


def test_ids_of_another_app_are_unknown():
    found = small_index().resolve(2, DeviceIds([21, 1, 99]), ALERT_KINDS)
    assert list(found.devices) == [21]
    assert found.unknown["devices"] == [1, 99]
    assert small_index().resolve(2, UserIds(["ann"]), ALERT_KINDS).unknown["users"] == ["ann"]
    assert small_index().resolve(2, UserNumbers([1]), ALERT_KINDS).unknown["user_numbers"] == [1]
    assert not small_index().resolve(2, Tags(any=["sport"]), ALERT_KINDS).devices
    assert small_index().resolve(3, Broadcast(), ALERT_KINDS).skipped == {}


def test_unknown_and_unsubscribed_ids_keep_request_order_and_are_counted_once():
    found = small_index().resolve(1, UserIds(["zoe", "bob", "ann", "zoe", "amy"]), ALERT_KINDS)
    assert list(found.devices) == [1]
    assert (found.unknown["users"], found.unsubscribed["users"]) == (["zoe", "amy"], ["bob"])
    assert (found.named, found.missing) == (4, 3)
    assert found.skipped == {"other_kind": 1, "retired": 1}


def test_what_is_excluded_need_not_exist():
    found = small_index().resolve(1, And([Broadcast(), Not(DeviceIds([99, 1]))]), ALERT_KINDS)
    assert list(found.devices) == [4]
    assert (found.named, found.missing, found.unknown["devices"]) == (0, 0, [])


def test_long_lists_of_missing_ids_are_capped_and_counted():
    found = small_index().resolve(1, DeviceIds(list(range(100, 5_100))), ALERT_KINDS)
    assert found.unknown["devices"] == list(range(100, 1_100))
    assert (found.named, found.missing) == (5_000, 5_000)


def test_a_large_list_of_users_resolves_as_many_small_ones_do():
    index = Index(FixedClock())
    index.apply_users(user_rows(*(UserImage(key, external=f"person {key}") for key in range(1, 701))))
    index.apply_devices(
        device_rows(*(DeviceImage(key, user=key % 500 + 1, flags=3 if key % 3 else 2) for key in range(1, 601)))
    )
    ids = [f"person {key}" for key in range(800, 0, -1)]
    whole = index.resolve(1, UserIds(ids), ALERT_KINDS)
    parts = [index.resolve(1, UserIds([name]), ALERT_KINDS) for name in ids]
    assert whole.devices == Devices.union(*(part.devices for part in parts))
    for found, listed in (
        (lambda p: p.unknown["users"], whole.unknown["users"]),
        (lambda p: p.unsubscribed["users"], whole.unsubscribed["users"]),
    ):
        assert listed == [name for part in parts for name in found(part)]


def test_still_drops_what_is_no_longer_reachable():
    index = small_index()
    sent = index.resolve(1, Broadcast(), ALERT_KINDS).devices
    assert list(sent) == [1, 4]
    index.apply_devices(device_rows(DeviceImage(4, revision=2, flags=LIVE | DeviceFlag.RETIRED)))
    assert list(index.still(1, sent, Broadcast(), ALERT_KINDS)) == [1]
    assert list(index.still(2, sent, Broadcast(), ALERT_KINDS)) == []


@pytest.mark.parametrize("audience", [UserIds(["ann"]), UserNumbers([1]), Or([UserIds(["ann"]), Tags(any=["sport"])])])
def test_still_never_carries_a_users_message_to_another_users_phone(audience):
    index = small_index()
    sent = index.resolve(1, audience, ALERT_KINDS).devices
    assert 1 in sent
    index.apply_devices(device_rows(DeviceImage(1, revision=2, user=2)))
    assert 1 not in index.still(1, sent, audience, ALERT_KINDS)


def test_routes_partition_the_devices_of_the_app_alone():
    index = small_index()
    pieces = index.routes(1, Devices([1, 2, 4, 21, 77]))
    assert pieces == [(ROUTES[1], Devices([1])), (ROUTES[2], Devices([4])), (ROUTES[3], Devices([2]))]
    assert index.routes(9, Devices([1])) == []


def test_routes_of_an_app_with_many_bundles():
    routes = {key: Route(1, Kind.APNS, Environment.PRODUCTION, f"bundle {key}") for key in range(1, 41)}
    index = Index(FixedClock())
    index.apply_devices(device_rows(*(DeviceImage(key, route=key) for key in range(1, 41)), routes=routes))
    assert index.routes(1, Devices([3, 40, 99])) == [(routes[3], Devices([3])), (routes[40], Devices([40]))]
    assert len(index.routes(1, Devices(range(1, 41)))) == 40


def test_columns_are_copies_in_the_asked_order():
    index = small_index()
    asked = index.columns(np.array([4, 1, 5_000_000, 4], np.uint32))
    index.apply_devices(device_rows(DeviceImage(4, revision=7, token=b"new" * 30)))
    assert asked.tokens.tolist() == [b"c" * 64, b"a" * 64, b"", b"c" * 64]
    assert asked.revisions.tolist() == [1, 1, 0, 1]
    now = index.columns(np.array([4, 1], np.uint32))
    assert (now.tokens.tolist(), now.revisions.tolist()) == ([b"new" * 30, b"a" * 64], [7, 1])
    assert len(index.columns(np.zeros(0, np.uint32)).tokens) == 0


def test_a_tombstone_keeps_its_revision_against_older_images():
    index = small_index()
    index.apply_devices(device_rows(DeviceImage(1, revision=5, flags=int(DeviceFlag.DELETED))))
    index.apply_devices(device_rows(DeviceImage(1, revision=4)))
    assert index.resolve(1, DeviceIds([1]), ALERT_KINDS).unknown["devices"] == [1]
    index.apply_devices(device_rows(DeviceImage(1, revision=6)))
    assert list(index.resolve(1, DeviceIds([1]), ALERT_KINDS).devices) == [1]


def test_audiences_beyond_the_limits_are_refused_at_their_place():
    deep = Broadcast()
    for _ in range(16):
        deep = Not(deep)
    with pytest.raises(InvalidRequestError) as caught:
        small_index().resolve(1, deep, ALERT_KINDS)
    assert caught.value.faults[0].pointer == "/audience" + "/of" * 16


def test_stats_count_and_weigh():
    index = small_index()
    index.badges.put(np.array([1], np.uint32), np.array([1], np.uint16))
    stats = index.stats()
    assert {name: stats[name] for name in ("apps", "devices", "reachable", "users", "tags")} == {
        "apps": 2,
        "devices": 5,
        "reachable": 4,
        "users": 2,
        "tags": 2,
    }
    assert all(stats[name] > 0 for name in stats if name.endswith("_bytes"))


def test_the_index_knows_which_images_it_has_taken_in():
    index = Index(FixedClock())
    one, two = (
        DeviceImage(id=key, revision=3, route=1, user=0, flags=LIVE, token=b"a" * 64, tags=()) for key in (1, 2)
    )
    before = index.version
    index.apply_devices(device_rows(one, two))
    assert index.version > before
    ids = np.array([1, 1, 2, 3, 2**31 - 1], np.uint32)
    known = index.knows(ids, np.array([2, 4, 3, 1, 1], np.int32))
    assert known.tolist() == [True, False, True, False, False]


@pytest.mark.asyncio
async def test_many_images_are_taken_in_a_thousand_or_two_at_a_time():
    def images(count):
        users = [
            UserImage(
                key,
                external=f"u{key}",
                tags=(key % 3 + 1,),
                email=f"{key % 7}@x" if key % 2 else "",
                attributes=(("n", key % 5),) if key % 3 else (),
            )
            for key in range(1, count + 1)
        ]
        devices = [
            DeviceImage(
                key,
                user=key % 9,
                token=b"t" * (key % 5),
                tags=(1,) * (key % 2),
                alias="hall" if key % 4 == 0 else "",
                profile=key % 5,
                install=key,
                first_seen=NOW - key,
            )
            for key in range(1, count + 1)
        ]
        return user_rows(*users), device_rows(*devices)

    whole, parts = Index(FixedClock()), Index(FixedClock())
    users, devices = images(4_500)
    whole.apply_users(users)
    whole.apply_devices(devices)
    await parts.take_in(users=users, devices=devices)
    assert everything(parts) == everything(whole)
    assert parts.version > whole.version
    for audience in (UserEmails(["3@x"]), Attribute(name="n", op="gte", value=3), Aliases(["hall"])):
        found = parts.resolve(1, audience, ALERT_KINDS)
        assert found.devices == whole.resolve(1, audience, ALERT_KINDS).devices
        assert found.devices
    few = Index(FixedClock())
    await few.take_in(devices=images(3)[1])
    assert few.stats()["devices"] == 3
