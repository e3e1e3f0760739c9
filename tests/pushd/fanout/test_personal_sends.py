"""Personal campaigns in the fan-out: columns per batch, slices for what is slow, rows that fail, and the same again."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from pushd.batch import Bodies, Rendered
from pushd.bitset import Devices
from pushd.fanout import personal
from pushd.model.app import Settings
from pushd.model.audience import Broadcast
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.outcome import ACCEPTED, PAYLOAD_TOO_LARGE, TEMPLATE_FAILED
from tests.pushd.fanout.conftest import notification, people, rows

pytestmark = pytest.mark.asyncio
COUNT = 3_000


def personal_send(number, **fields):
    """A notification whose message differs by device."""
    fields = {"message": Message(title="For {{ user.name }}", body="{{ item }}"), "liquid": True, **fields}
    given = notification(number)
    return msgspec.structs.replace(given, send=Send(audience=Broadcast(), content_tags={"item": "It"}, **fields))


def populate(index, count=COUNT):
    ids = range(1, count + 1)
    users = people(ids)
    users.attributes = {row: {"name": f"N{number}", "points": number} for row, number in enumerate(ids)}
    index.apply_users(users)
    index.apply_devices(rows(ids, user_ids=ids))
    return ids


def titles(gateway):
    """What each device was told."""
    found = {}
    for batch in gateway.batches:
        payloads = batch.payloads
        each = [payloads] * len(batch) if isinstance(payloads, Rendered) else payloads
        for device, rendered in zip(batch.ids.tolist(), each, strict=True):
            found[device] = msgspec.json.decode(rendered.payload)["aps"]["alert"]
    return found


async def test_every_device_gets_its_own(bench):
    one = await bench()
    ids = populate(one.index)
    one.release(personal_send(1), ids)
    await one.done(1)
    assert one.store.codes(1) == {ACCEPTED.code: COUNT}
    assert titles(one.gateway) == {number: {"title": f"For N{number}", "body": "It"} for number in ids}
    assert all(isinstance(batch.payloads, Bodies) for batch in one.gateway.batches)


async def test_what_all_share_stays_one_payload(bench):
    one = await bench()
    ids = populate(one.index)
    one.release(notification(1), ids)
    await one.done(1)
    assert all(isinstance(batch.payloads, Rendered) for batch in one.gateway.batches)


async def test_slow_rows_go_out_in_small_batches(bench, monkeypatch):
    monkeypatch.setattr(personal, "SLICE_S", 0.0005)
    one = await bench()
    ids = populate(one.index, 600)
    message = Message(
        title="{{ user.name | upcase }}", body="{% for i in (1..60) %}{{ i }}{% endfor %}{{ user.points }}"
    )
    one.release(personal_send(1, message=message), ids)
    await one.done(1)
    assert one.store.codes(1) == {ACCEPTED.code: 600}
    assert len(one.gateway.batches) > 6
    assert titles(one.gateway)[7]["title"] == "N7"


async def test_rows_that_fail_end_as_rejected_and_the_ledger_is_whole(bench):
    one = await bench()
    ids = populate(one.index, 300)
    message = Message(
        title="{{ user_data.text }}", body="{% for i in user_data.many %}{{ user_data.many | sort }}{% endfor %}a"
    )
    own = {"user-7": {"text": "x" * 5_000}, "user-8": {"many": list(range(300))}}
    one.release(personal_send(1, message=message, user_data=own), ids)
    await one.done(1)
    assert one.store.codes(1) == {ACCEPTED.code: 298, PAYLOAD_TOO_LARGE.code: 1, TEMPLATE_FAILED.code: 1}
    assert one.store.rows[1, 7][1] == PAYLOAD_TOO_LARGE.code
    assert one.store.rows[1, 8][1] == TEMPLATE_FAILED.code


async def test_a_campaign_all_of_whose_rows_fail_ends(bench):
    one = await bench()
    ids = populate(one.index, 40)
    one.release(personal_send(1, message=Message(title="a", url="{{ user.name }}")), ids)
    await one.done(1)
    assert one.store.codes(1) == {TEMPLATE_FAILED.code: 40}
    assert not one.gateway.batches


async def test_many_small_ones_are_one_batch_beside_plain_ones(bench):
    one = await bench()
    populate(one.index, 50)
    for number in range(1, 51):
        given = personal_send(number) if number % 2 else notification(number)
        one.release(given, [number])
    await one.done(*range(1, 51))
    found = titles(one.gateway)
    assert [found[number]["title"] for number in range(1, 51)] == [
        f"For N{number}" if number % 2 else f"number {number}" for number in range(1, 51)
    ]


async def test_what_is_resumed_renders_the_same_again(bench):
    """All that a row needs is in the send and in the index: who goes on with it needs no template."""
    first, second = await bench(), await bench()
    given = personal_send(1, locales={"de": {"title": "Für {{ user.name }}"}}, user_data={"user-3": {"item": "Hers"}})
    kept = msgspec.json.decode(msgspec.json.encode(given.send), type=Send)
    assert kept == given.send
    for one in (first, second):
        populate(one.index, 500)
    first.release(given, range(1, 501))
    await first.done(1)
    again = msgspec.structs.replace(given, send=kept)
    options = {
        "targeted": 500,
        "counts": {(0, ACCEPTED.code): 100},
        "remaining": Devices(np.arange(101, 501)),
        "attempted": Devices(),
    }
    second.fanout.resume(again, Settings(), **options)
    await second.done(1)
    before, after = titles(first.gateway), titles(second.gateway)
    assert after == {device: told for device, told in before.items() if device > 100}
    assert before[3]["body"] == "Hers"
