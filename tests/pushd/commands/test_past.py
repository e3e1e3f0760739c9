"""Audiences that ask the past: what became of earlier notifications, who opened what, tags folded from the left."""

import dataclasses

import msgspec
import numpy as np
import pytest

from pushd.bitset import Devices
from pushd.commands import audience, notifications, past, receipts
from pushd.config import Config, StoreConfig
from pushd.errors import InvalidRequestError, UnavailableError, UnknownTargetsError
from pushd.model.audience import And, Audience, Broadcast, DeviceIds, Not, Or, PreferredKind, Segment, Tags, UserIds
from pushd.model.device import Kind
from pushd.model.message import Message, PushType
from pushd.model.notification import Send
from pushd.model.receipt import Event, Receipt
from pushd.store.settlements import Delta, Settlement
from pushd.targeting import scope
from tests.pushd.commands.world import BAD, DEAD

pytestmark = pytest.mark.asyncio(loop_scope="package")

ALERTS = frozenset({Kind.APNS})


def leaf(**fields) -> Audience:
    """An audience as a request would have it."""
    return msgspec.convert(fields, Audience)


def outcome(notification_id, what, **more):
    return leaf(type="outcome", notification_id=notification_id, **{"is": what}, **more)


def segment(*steps):
    return leaf(type="tags_segment", elements=[{"association": how, "name": name} for how, name in steps])


async def resolved(world, wanted):
    return (await audience.resolve(world.context, world.app.id, wanted, ALERTS)).devices


async def sent(world, wanted):
    """The id of a notification, accepted and in nobody's hands."""
    answer = await notifications.send(world.context, world.app.id, Send(audience=wanted, message=Message(title="x")))
    return msgspec.json.decode(answer.body)["id"]


async def report(world, notification_id, *events, install_id=None, **fields):
    rows = [
        Receipt(
            id=f"{install}-{event}", notification_id=notification_id, event=Event(event), install_id=install, **fields
        )
        for install, event in events
    ]
    return await receipts.take(world.context, world.app.id, rows, install_id)


async def registered(world, count, **fields):
    """Devices of so many installs, by install."""
    return {name: (await world.register(name, **fields)).id for name in (f"i{number}" for number in range(count))}


@pytest.mark.parametrize("count", [6, 70], ids=["small", "large"])
async def test_what_became_of_an_earlier_notification(world, count):
    ids = await registered(world, count)
    number = await sent(world, Broadcast())
    late = (await world.register("late")).id
    everyone = Devices(ids.values())
    store, node = world.context.store, world.context.node_id

    async def settle(code, devices):
        if count > 64:
            settlement = Settlement(deltas=[Delta(number, 0, 0, code, Devices(devices))])
        else:
            settlement = Settlement(
                notifications=np.full(len(devices), number, np.int64),
                devices=np.array(devices, np.uint32),
                gateways=np.zeros(len(devices), np.int16),
                codes=np.full(len(devices), code, np.int16),
            )
        await store.settlements.settle(settlement, node)

    await settle(1, [ids["i0"], ids["i1"]])
    await settle(DEAD.code, [ids["i2"]])
    await settle(BAD.code, [ids["i3"]])
    await report(world, number, ("i0", "opened"), ("i4", "delivered"), ("late", "opened"))
    await report(world, number, ("i1", "clicked"), button="yes")
    opened = Devices([ids["i0"], ids["i1"]])
    for _ in range(2):
        assert await resolved(world, outcome(number, "targeted")) == everyone
        assert await resolved(world, outcome(number, "accepted")) == opened
        assert await resolved(world, outcome(number, "failed")) == Devices([ids["i2"], ids["i3"]])
        assert await resolved(world, outcome(number, "failed", reasons=["BadTopic"])) == Devices([ids["i3"]])
        assert await resolved(world, outcome(number, "failed", reasons=["response_timeout"])) == Devices()
        assert await resolved(world, outcome(number, "opened")) == opened
        assert await resolved(world, outcome(number, "not_opened")) == everyone - opened
        assert await resolved(world, outcome(number, "clicked")) == Devices([ids["i1"]])
        assert await resolved(world, outcome(number, "clicked", buttons=["yes"])) == Devices([ids["i1"]])
        assert await resolved(world, outcome(number, "clicked", buttons=["no"])) == Devices()
        rest = And([Broadcast(), Not(outcome(number, "targeted"))])
        assert await resolved(world, rest) == Devices([late])
        await store.receipts.folder.fold(1, -60)  # what is folded is the same
    # In an audience that says the same twice, both are what they are.
    assert await resolved(world, Or([outcome(number, "opened"), outcome(number, "opened")])) == opened


async def test_the_past_is_asked_within_a_preferred_kind(world):
    ids = await registered(world, 3)
    number = await sent(world, DeviceIds([ids["i0"], ids["i1"]]))
    wanted = PreferredKind(of=outcome(number, "targeted"), kinds=[Kind.APNS])
    assert await resolved(world, wanted) == Devices([ids["i0"], ids["i1"]])


async def test_a_follow_up_reaches_the_rest_and_a_retry_of_it_asks_no_more(world):
    ids = await registered(world, 4, user_id="ada")
    number = await sent(world, Broadcast())
    await report(world, number, ("i0", "opened"))
    wanted = And([UserIds(["ada"]), outcome(number, "not_opened")])
    await sent(world, wanted)
    _, _, devices = world.fanout.released[-1]
    assert devices == Devices(ids.values()) - Devices([ids["i0"]])
    await report(world, number, ("i1", "opened"))
    index = world.context.index
    assert index.still(world.app.id, devices, wanted, ALERTS) == devices
    assert (
        index.still(world.app.id, devices, And([UserIds(["ada"]), Not(outcome(number, "opened"))]), ALERTS) == devices
    )
    assert index.still(world.app.id, devices, And([UserIds(["bob"]), outcome(number, "opened")]), ALERTS) == Devices()


async def test_a_segment_may_ask_the_past(world):
    ids = await registered(world, 3)
    number = await sent(world, Broadcast())
    await report(world, number, ("i0", "opened"))
    index, app_id = world.context.index, world.app.id
    stored = {"rest": outcome(number, "not_opened"), "gone": outcome(2_000_000_000, "opened")}
    index.define_segments(app_id, stored)
    rest = Devices(ids.values()) - Devices([ids["i0"]])
    assert await resolved(world, Segment(id="rest")) == rest
    assert await resolved(world, And([Not(Segment(id="rest")), outcome(number, "targeted")])) == Devices([ids["i0"]])
    with pytest.raises(InvalidRequestError) as caught:
        await resolved(world, Or([Segment(id="rest"), Segment(id="gone")]))
    assert [fault.pointer for fault in caught.value.faults] == ["/audience"]


async def test_opened_anything_lately(world):
    ids = await registered(world, 3)
    number = await sent(world, DeviceIds([ids["i0"]]))
    now = world.context.clock.now()
    # A notification of 10 days ago: receipts are never older than what they are about.
    await world.context.store.database.execute(
        "UPDATE notifications SET created_at = created_at - interval '10 days' WHERE id = $1", number
    )
    await report(world, number, ("i0", "opened"))
    await report(world, number, ("i1", "clicked"), at=now - 5 * 86_400)
    await report(world, number, ("i2", "delivered"))
    for days, expected in ((1, ["i0"]), (4, ["i0"]), (5, ["i0", "i1"]), (366, ["i0", "i1"])):
        opened = Devices([ids[name] for name in expected])
        assert await resolved(world, leaf(type="opened", within_days=days, **{"is": True})) == opened
        rest = Devices(ids.values()) - opened
        assert await resolved(world, leaf(type="opened", within_days=days, **{"is": False})) == rest
    other = await world.another_app()
    await other.register("i0")
    assert await resolved(other, leaf(type="opened", within_days=9, **{"is": True})) == Devices()


@pytest.mark.parametrize("slice_ids", [2, scope.SLICE_IDS])
async def test_installs_by_name_and_those_that_are_not_there(world, monkeypatch, slice_ids):
    monkeypatch.setattr(scope, "SLICE_IDS", slice_ids)
    ids = await registered(world, 3)
    quiet = await world.register("quiet", token=None)
    voip = await world.register("i0", kind=Kind.APNS_VOIP)
    wanted = leaf(type="installs", ids=["i2", "never", "i0", "quiet", "i2"])
    found = await audience.count(world.context, world.app.id, wanted, PushType.ALERT)
    assert (found.devices, found.errors.count) == (2, 2)
    assert (found.errors.unknown.installs, found.errors.unsubscribed.installs) == (["never"], ["quiet"])
    calls = await audience.count(world.context, world.app.id, wanted, PushType.VOIP)
    assert (calls.devices, calls.errors.unsubscribed.installs) == (1, ["i2", "quiet"])
    assert await resolved(world, And([Broadcast(), Not(wanted)])) == Devices([ids["i1"]])
    assert voip.id not in await resolved(world, wanted)
    assert quiet.id not in await resolved(world, wanted)
    with pytest.raises(UnknownTargetsError) as caught:
        await sent(world, leaf(type="installs", ids=["never", "quiet"]))
    assert caught.value.extra["targets"]["unknown"] == {"installs": ["never"]}


async def test_installs_that_nobody_has_are_asked_for_in_slices(world, monkeypatch):
    asked, installs = [], world.context.store.past.installs

    async def counted(app_id, names):
        asked.append(len(names))
        return await installs(app_id, names)

    monkeypatch.setattr(world.context.store.past, "installs", counted)
    names = [f"nobody's {number}" for number in range(scope.SLICE_IDS + 10)]
    found = await audience.count(world.context, world.app.id, leaf(type="installs", ids=names), PushType.ALERT)
    assert (found.errors.count, found.errors.unknown.installs) == (len(names), names[:1_000])
    assert asked == [scope.SLICE_IDS, 10]


async def test_tags_are_folded_from_the_left(world):
    sets = {"i0": ["A"], "i1": ["b"], "i2": ["a", "B"], "i3": []}
    ids = {name: (await world.register(name, tags=tags)).id for name, tags in sets.items()}
    await world.register("i3", user_id="ada", tags=[])

    async def names(*steps):
        found = await resolved(world, segment(*steps))
        return "".join(name[1] for name, number in ids.items() if number in found)

    assert await names(("AND", "a")) == await names(("OR", "a")) == "02"
    assert await names(("AND_NOT", "a")) == await names(("OR_NOT", "A")) == "13"
    assert await names(("AND", "a"), ("AND_NOT", "b")) == "0"
    assert await names(("AND_NOT", "a"), ("OR", "b")) == "123"
    assert await names(("AND", "a"), ("OR_NOT", "b")) == "023"
    assert await names(("OR", "b"), ("AND", "a")) == "2"
    await world.register("i9", tags=["c"])
    await world.register("i9", tags=[])  # nobody carries it any more; the app knows it all the same
    assert await names(("OR", "a"), ("AND_NOT", "b"), ("OR", "c")) == "0"


@pytest.mark.parametrize(
    ("wanted", "pointers"),
    [
        (outcome(2_000_000_000, "opened"), ["/audience/notification_id"]),
        (And([Broadcast(), Not(outcome(2_000_000_000, "opened"))]), ["/audience/of/1/of/notification_id"]),
        (outcome(1, "opened", reasons=["BadTopic"]), ["/audience/reasons"]),
        (outcome(1, "failed", buttons=["yes"]), ["/audience/buttons"]),
        (Or([Broadcast(), segment(("AND", "cars"), ("OR", "Cars"))]), ["/audience/of/1/elements/1/name"]),
        (segment(("AND", "unheard"), ("OR", "of")), ["/audience/elements/0/name", "/audience/elements/1/name"]),
        (Or([leaf(type="opened", within_days=1, **{"is": True})] * 33), ["/audience/of/32"]),
    ],
)
async def test_what_cannot_be_is_refused_where_it_stands(world, wanted, pointers):
    with pytest.raises(InvalidRequestError) as caught:
        await resolved(world, wanted)
    assert [fault.pointer for fault in caught.value.faults] == pointers


async def test_a_reason_that_no_gateway_has_is_refused(world):
    await world.register("a")
    number = await sent(world, Broadcast())
    with pytest.raises(InvalidRequestError) as caught:
        await resolved(world, outcome(number, "failed", reasons=["BadTopic", "BadWeather"]))
    assert caught.value.faults[0].pointer == "/audience/reasons/1"


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "outcome", "notification_id": 0, "is": "opened"},
        {"type": "outcome", "notification_id": 1, "is": "seen"},
        {"type": "outcome", "notification_id": 1},
        {"type": "opened", "is": True, "within_days": 0},
        {"type": "opened", "is": True, "within_days": 367},
        {"type": "tags_segment", "elements": []},
        {"type": "tags_segment", "elements": [{"association": "AND", "name": str(at)} for at in range(257)]},
        {"type": "tags_segment", "elements": [{"association": "NOR", "name": "a"}]},
        {"type": "tags_segment", "elements": [{"association": "AND", "name": ""}]},
        {"type": "tags_segment", "elements": [{"association": "AND", "name": "a" * 256}]},
        {"type": "installs", "ids": []},
    ],
)
async def test_shapes_that_are_no_leaf(fields):
    with pytest.raises(msgspec.ValidationError):
        leaf(**fields)


async def test_another_apps_notification_is_as_absent_as_none(world):
    await world.register("a")
    number = await sent(world, Broadcast())
    other = await world.another_app()
    told = []
    for notification_id in (number, 2_000_000_000):
        with pytest.raises(InvalidRequestError) as caught:
            await resolved(other, outcome(notification_id, "targeted"))
        told.append((str(caught.value), caught.value.faults))
    assert told[0] == told[1]


async def test_what_takes_too_long_is_given_up(world):
    await world.register("a")
    number = await sent(world, Broadcast())
    config = Config(store=StoreConfig(past_timeout_s=0.0))
    hasty = dataclasses.replace(world.context, config=config)
    with pytest.raises(UnavailableError):
        await audience.resolve(hasty, world.app.id, outcome(number, "targeted"), ALERTS)


async def test_only_audiences_that_ask_the_store_are_gathered_for(world):
    assert not past.asks(Tags(any=["a"]))
    assert not past.asks(And([Tags(any=["a"]), Not(UserIds(["ada"]))]))
    assert past.asks(And([Tags(any=["a"]), Not(outcome(1, "opened"))]))
    assert past.asks(segment(("AND", "a")))
