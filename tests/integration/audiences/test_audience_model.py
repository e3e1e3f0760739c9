"""Any population, any changes, any audience: index, plain Python and SQL agree, live, restarted and on another node.

`AUDIENCE_EXAMPLES=2000` looks for longer, at random, than the fixed examples of every run.
"""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from unittest import mock

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushd.model import audience as model
from pushd.model.device import ALERT_KINDS, Environment, Kind, Platform
from pushd.targeting import evaluation, scope
from pushd.targeting.audiences import walk
from pushd.targeting.definitions import rebuild
from pushd.targeting.leaves_past import GATHERED
from tests.integration.audiences.naive import ORDER, PLACES, SHAPES
from tests.integration.audiences.world import ALL_KINDS, Nodes, World

LONG = int(os.environ.get("AUDIENCE_EXAMPLES", "0"))
HOUR = 3_600
INSTALLS = st.sampled_from([f"phone {number}" for number in range(6)])
USERS = st.sampled_from(["ann", "bob", "eve", "zoë"])
TAGS = st.lists(st.sampled_from(["News", "SPORT", "straße", "extra"]), max_size=3, unique=True)
NAMES = st.sampled_from(["news", "Sport", "STRASSE", "extra", "nothing"])
KINDS = [Kind.APNS, Kind.APNS_VOIP, Kind.FCM]
UUIDS = st.sampled_from(["c1", "c2", "c3"])
SEGMENTS = st.sampled_from(["s1", "s2"])
ORDINALS = st.integers(0, 9)
TEXTS = ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2027-06-30T12:00:00.5Z", "news", "newer", "", "Straße"]
VALUES = st.one_of(
    st.sampled_from([0, 1, 2.5, -3, True, False, None]),
    st.sampled_from(TEXTS),
    st.lists(st.sampled_from(["news", "sport", ""]), max_size=3),
    st.just({"deep": 1}),
)
LOCALES = ["pt_BR", "pt-br", "pt", "de-DE", "ptx"]
PROFILE = {
    "platform": st.sampled_from([Platform.IOS, Platform.ANDROID, None]),
    "os_version": st.sampled_from([*ORDER, None]),
    "app_version": st.sampled_from([*ORDER, "next", None]),
    "locale": st.sampled_from([*LOCALES, None]),
    "country": st.sampled_from(["BR", "br", "PT", None]),
    "time_zone": st.sampled_from(["America/Sao_Paulo", "Europe/Lisbon", None]),
}
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        **PROFILE,
        "user_id": st.one_of(st.none(), USERS, USERS),
        "tags": TAGS,
        "alias": st.sampled_from(["hall", "Küche", None]),
        "push_enabled": st.sampled_from([True, True, False]),
        "in_app_consent": st.sampled_from([True, True, False]),
    },
)
USER_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "email": st.sampled_from(["Ann@example.com", "ann@EXAMPLE.com", "bob@example.com", None]),
        "tags": TAGS,
        "attributes": st.dictionaries(st.sampled_from(["a", "b"]), VALUES, max_size=2),
    },
)
OPS = st.sampled_from(["eq", "ne", "lt", "lte", "gt", "gte"])
GROUP = st.lists(NAMES, max_size=2)
UUID_GROUP = st.lists(UUIDS, max_size=2)
SCALARS = st.one_of(st.sampled_from([0, 1, 2.5, True, False]), st.sampled_from(TEXTS))


@st.composite
def seen(draw, today):
    bounds = st.sampled_from([today - 5 * 86_400, today - 86_400, today, today + HOUR, today + 2 * HOUR])
    given = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "since": bounds,
                "before": bounds,
                "within_days": st.sampled_from([1, 5, 6]),
                "older_than_days": st.sampled_from([1, 4]),
            },
        )
    )
    return model.Seen(which=draw(st.sampled_from(["first", "last"])), **(given or {"within_days": 1}))


def attributes():
    def named(draw):
        op = draw(st.sampled_from(["exists", "eq", "ne", "lt", "lte", "gt", "gte", "in", "contains", "starts_with"]))
        value = None
        if op == "in":
            value = draw(st.lists(SCALARS, min_size=1, max_size=3))
        elif op in ("contains", "starts_with"):
            value = draw(st.sampled_from(["news", "new", "2026", ""]))
        elif op != "exists":
            value = draw(SCALARS)
        return model.Attribute(name=draw(st.sampled_from(["a", "b"])), op=op, value=value)

    return st.composite(named)()


def outcomes():
    plain = st.builds(model.Outcome, notification_id=ORDINALS, is_=st.sampled_from(
        ["targeted", "accepted", "failed", "opened", "not_opened", "clicked"]))  # fmt: skip
    failed = st.builds(model.Outcome, notification_id=ORDINALS, is_=st.just("failed"), reasons=st.just(["BadTopic"]))
    clicked = st.builds(model.Outcome, notification_id=ORDINALS, is_=st.just("clicked"), buttons=st.just(["yes"]))
    return st.one_of(plain, plain, failed, clicked)


def said(group):
    return group.any or group.all or group.exclude


def leaves(today):
    ids = st.lists(ORDINALS, min_size=1, max_size=4)
    tag_elements = st.lists(
        st.builds(model.TagElement, st.sampled_from(["AND", "AND_NOT", "OR", "OR_NOT"]), NAMES),
        min_size=1,
        max_size=4,
        unique_by=lambda each: each.name.casefold(),
    )
    sides = st.sampled_from(["device", "user", "either"])
    return st.one_of(
        st.just(model.Broadcast()),
        ids.map(model.DeviceIds),
        ids.map(model.UserNumbers),
        st.lists(st.one_of(USERS, st.just("nobody")), min_size=1, max_size=3).map(model.UserIds),
        st.lists(st.sampled_from(["ANN@example.com", "bob@example.com", "x@y"]), min_size=1).map(model.UserEmails),
        st.lists(st.sampled_from(["hall", "Küche", "küche"]), min_size=1, max_size=2).map(model.Aliases),
        st.lists(INSTALLS, min_size=1, max_size=3).map(model.Installs),
        st.builds(model.Tags, any=GROUP, all=GROUP, exclude=GROUP, of=sides).filter(said),
        st.builds(model.Channels, any=UUID_GROUP, all=UUID_GROUP, exclude=UUID_GROUP).filter(said),
        SEGMENTS.map(model.Segment),
        tag_elements.map(model.TagsSegment),
        outcomes(),
        st.builds(model.Opened, is_=st.booleans(), within_days=st.sampled_from([1, 2])),
        st.one_of(
            st.just(model.InGeofences(any=True)),
            ids.map(lambda given: model.InGeofences(ids=given)),
            st.just(model.InGeofences(tags=["Shop"])),
        ),
        st.booleans().map(model.Located),
        st.lists(st.sampled_from([Platform.IOS, Platform.ANDROID]), min_size=1, max_size=2).map(model.Platforms),
        st.sampled_from(Environment).map(model.Environments),
        st.lists(st.sampled_from(KINDS), min_size=1, max_size=2).map(model.Kinds),
        st.builds(model.AppVersion, OPS, st.sampled_from([*ORDER, "2", "v1.9"])),
        st.builds(model.OsVersion, OPS, st.sampled_from(ORDER)),
        st.lists(st.sampled_from(["PT-BR", "pt_br", "de-de", ""]), min_size=1, max_size=2).map(model.Locales),
        st.lists(st.sampled_from(["pt", "PT_BR", "de"]), min_size=1, max_size=2).map(model.Languages),
        st.lists(st.sampled_from(["br", "PT"]), min_size=1, max_size=2).map(model.Countries),
        st.lists(st.sampled_from(["europe/lisbon", "UTC"]), min_size=1, max_size=2).map(model.TimeZones),
        seen(today),
        st.booleans().map(model.UserKnown),
        st.booleans().map(model.PushEnabled),
        st.booleans().map(model.InAppConsent),
        attributes(),
    )


def audiences(today):
    kinds = st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True)
    return st.recursive(
        leaves(today),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(model.And),
            st.lists(inner, min_size=1, max_size=3).map(model.Or),
            inner.map(model.Not),
            st.builds(model.PreferredKind, inner, kinds),
        ),
        max_leaves=6,
    )


TODAY = 1_800_000_000 // 86_400 * 86_400 + 6 * HOUR
"""What times of audiences are drawn around; moved to the day of the test."""
REGISTER = st.tuples(
    st.just("register"),
    INSTALLS,
    st.sampled_from(KINDS),
    st.sampled_from([Environment.PRODUCTION, Environment.PRODUCTION, Environment.SANDBOX]),
    st.one_of(st.none(), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    FIELDS,
)
PUT_USER = st.tuples(st.just("put_user"), USERS, USER_FIELDS)
FENCE_TAGS = st.lists(st.sampled_from(["shop", "city"]), max_size=2, unique=True)
SHAPE = st.integers(0, len(SHAPES) - 1)
EVENTS = st.lists(
    st.tuples(INSTALLS, st.sampled_from(["delivered", "opened", "clicked"]), st.sampled_from(["yes", None])), max_size=3
)
SUBSCRIBE = st.tuples(st.just("subscribe"), UUIDS, INSTALLS, USERS, st.sampled_from([True, True, False]))
LOCATE = st.tuples(st.just("locate"), ORDINALS, st.integers(0, len(PLACES) - 1))
# Those that may happen while an evaluation stands still.
CHANGES = (
    REGISTER,
    REGISTER,
    st.tuples(st.just("change"), ORDINALS, FIELDS),
    st.tuples(st.just("delete"), ORDINALS),
    st.tuples(st.just("retire"), ORDINALS),
    st.tuples(st.just("revive")),
    PUT_USER,
    st.tuples(st.just("delete_user"), USERS),
    SUBSCRIBE,
    LOCATE,
    st.tuples(st.just("forget"), ORDINALS),
    st.tuples(st.just("change_fence"), ORDINALS, SHAPE, st.booleans(), FENCE_TAGS),
    st.tuples(st.just("delete_fence"), ORDINALS),
)
MAKE_FENCE = st.tuples(st.just("make_fence"), SHAPE, st.sampled_from([True, True, False]), FENCE_TAGS)
SEND = st.tuples(
    st.just("send"),
    st.lists(ORDINALS, min_size=2, max_size=6),
    st.lists(st.sampled_from([0, 1, 64, 65]), min_size=6, max_size=6),
    EVENTS,
)
MORE = (
    st.tuples(st.just("make_channel"), UUIDS),
    st.tuples(st.just("delete_channel"), UUIDS),
    MAKE_FENCE,
    st.tuples(st.just("put_segment"), SEGMENTS, audiences(TODAY)),
    st.tuples(st.just("delete_segment"), SEGMENTS),
    SEND,
    SEND,
    st.tuples(st.just("wait"), st.sampled_from([10, HOUR, 2 * HOUR])),
)
POPULATION = st.lists(st.one_of(REGISTER, REGISTER, PUT_USER), min_size=4, max_size=10)
SETTING = st.tuples(
    *(st.just(("make_channel", uuid)) for uuid in ("c1", "c2")),
    *(SUBSCRIBE, SUBSCRIBE, SUBSCRIBE, LOCATE, LOCATE, MAKE_FENCE, LOCATE, LOCATE, MAKE_FENCE, SEND, SEND),
)
HISTORY = st.lists(st.one_of(*CHANGES, *MORE), min_size=4, max_size=14)
REACH = {"all": ALL_KINDS, "alert": ALERT_KINDS, "voip": frozenset({Kind.APNS_VOIP})}
QUESTIONS = st.lists(
    st.tuples(audiences(TODAY), st.sampled_from(["all", "all", "alert", "voip"])),
    min_size=6,
    max_size=10,
)
LATE = st.lists(st.one_of(*CHANGES), max_size=5)

SETTINGS = settings(
    max_examples=LONG or 60,
    derandomize=not LONG,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def nodes(module_dsn):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        both = Nodes(module_dsn)
        runner.run(both.start())
        yield runner, both
        runner.run(both.stop())


@given(POPULATION, SETTING, HISTORY, QUESTIONS, LATE)
@SETTINGS
def test_index_python_and_sql_agree_live_restarted_and_on_another_node(
    nodes, population, setting, history, questions, late
):
    runner, both = nodes
    runner.run(compared(both, population, [*setting, *history], questions, late))


async def compared(both, population, history, questions, late):
    world = World(both)
    await world.start()
    for change in population:
        await world.do(change)
    await world.do(("wait", 0))
    for change in history:
        await world.do(moved(change, world))
    asked = await bound(world, questions)
    await agreed(world, asked)
    for audience, kinds in asked[:3]:
        await agreed_in_slices(world, audience, kinds, late)
    await agreed(world, await bound(world, questions), restarted=True)
    await world.do(("delete_app",))
    await both.synchronous()
    for reader in (both.first, both.second):
        assert not reader.index.resolve(world.app_id, model.Broadcast(), ALL_KINDS).devices


async def bound(world, questions):
    return [(await world.bound(moved(audience, world)), REACH[kinds]) for audience, kinds in questions]


def moved(what, world):
    """A change, or an audience, with times around today in place of those it was drawn with."""
    if isinstance(what, tuple):
        return tuple(moved(each, world) for each in what)
    if isinstance(what, model.Seen):
        shift = world.clock.today - TODAY
        since, before = (None if bound is None else bound + shift for bound in (what.since, what.before))
        return model.Seen(
            which=what.which,
            since=since,
            before=before,
            within_days=what.within_days,
            older_than_days=what.older_than_days,
        )
    if isinstance(what, model.And | model.Or | model.Not | model.PreferredKind):
        return rebuild(what, lambda child: moved(child, world))
    return what


async def agreed(world, asked, *, restarted=False):
    """Everybody's answers, after both nodes have heard of everything; and those of an index made anew."""
    both = world.nodes
    await both.synchronous()
    world.naive.now = world.clock.now()
    fresh, definitions, _ = await both.second.loaded() if restarted else (None, None, None)
    for audience, kinds in asked:
        expected = world.naive.reach(audience, kinds)
        assert await world.by_index(both.first, audience, kinds) == expected, audience
        assert await world.by_index(both.second, audience, kinds) == expected, audience
        assert await world.by_index(both.second, audience, kinds, fresh, definitions) == expected, audience
        assert await world.by_sql(audience, kinds) == expected, audience


async def agreed_in_slices(world, audience, kinds, late):
    """The answer of an evaluation that stands still at every step, and between them the world changes."""
    expanded = world.context.index.expand(world.app_id, audience)
    if any(isinstance(node, (*GATHERED, model.TagsSegment)) for node, _, _ in walk(expanded, "")):
        return
    waiting = list(late)

    async def pause(_):
        if waiting:
            await world.do(waiting.pop(0))

    with (
        mock.patch.object(evaluation, "SLICE_S", -1),
        mock.patch.object(evaluation, "FEW_CHANGED", 0),
        mock.patch.object(evaluation, "asyncio", SimpleNamespace(sleep=pause)),
        mock.patch.object(scope, "SLICE_IDS", 2),
        mock.patch.object(scope, "SLICE_SETS", 1),
    ):
        found = await world.context.index.resolve_in_slices(world.app_id, expanded, kinds)
    assert set(found.devices) == world.naive.reach(audience, kinds), audience
