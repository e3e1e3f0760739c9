"""What the record remembers: columns for all, whole pushes of the newest, duplicates, bounds."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pushd.simulator import record as record_module
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.record import Record
from pushd.simulator.rules import Rules, check_line

RULES = Rules()


def request(token, *, apns_id=None, payload=b"{}", topic=b"com.example.app"):
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/3/device/" + token.encode()),
        (b":authority", b"localhost"),
        (b"apns-topic", topic),
        (b"apns-push-type", b"alert"),
    ]
    if apns_id is not None:
        fields.append((b"apns-id", apns_id.encode()))
    made = RULES.read(1, fields)
    made.body, made.size = payload, len(payload)
    assert check_line(made) is None
    return made


def apns_id(number):
    return f"00000000-0000-8000-8000-{number:012x}"


def test_counts_by_token_status_and_reason():
    record = Record(Behaviour())
    for token, status, reason in (
        ("aa", 200, ""),
        ("bb", 410, "Unregistered"),
        ("aa", 503, "Shutdown"),
        ("aa", 200, ""),
    ):
        record.push(1, request(token * 32), status, reason, 5)
    assert (record.count("aa" * 32), record.count("AA" * 32), record.count("aa" * 32, status=200)) == (3, 3, 2)
    assert (record.count("cc" * 32), record.count("not hex")) == (0, 0)
    assert record.statuses == {200: 2, 410: 1, 503: 1}
    assert record.reasons == {"": 2, "Unregistered": 1, "Shutdown": 1}
    assert record.topics == {"com.example.app": 4}
    assert record.accepted_tokens() == {"aa" * 32: 2}


def test_pushes_come_in_order_and_since():
    record = Record(Behaviour())
    for number in range(10):
        record.push(7, request(f"{number % 2:064x}", apns_id=apns_id(number), payload=b"%d" % number), 200, "", number)
    assert [push.number for push in record.pushes(since=7)] == [8, 9, 10]
    assert [push.number for push in record.pushes(f"{1:064x}", since=2, limit=2)] == [4, 6]
    last = record.last(f"{1:064x}")
    assert (last.number, last.at_ms, last.connection, last.apns_id) == (10, 9, 7, apns_id(9))
    assert (last.payload, dict(last.headers)["apns-topic"]) == (b"9", "com.example.app")
    assert record.last("ff" * 32) is None


def test_only_the_newest_are_kept_whole():
    record = Record(Behaviour(pushes_kept=2))
    for number in range(4):
        record.push(1, request("aa" * 32), 200, "", number)
    assert [push.payload for push in record.pushes()] == [None, None, b"{}", b"{}"]


def test_duplicates_are_of_accepted_pushes():
    record = Record(Behaviour())
    told = [("aa", 1, 200), ("bb", 2, 200), ("aa", 3, 200), ("bb", 2, 503), ("cc", 4, 200), ("dd", 4, 200)]
    for token, number, status in told:
        record.push(1, request(token * 32, apns_id=apns_id(number)), status, "", 0)
    assert record.duplicate_tokens() == {"aa" * 32: 2}
    assert record.duplicate_ids() == {apns_id(4): 2}


def test_pushes_without_an_id_are_no_duplicates():
    record = Record(Behaviour())
    for _ in range(3):
        record.push(1, request("aa" * 32, apns_id="not-an-id"), 200, "", 0)
    assert record.duplicate_ids() == {}
    assert record.pushes()[0].apns_id is None


def test_empty():
    record = Record(Behaviour())
    assert record.duplicate_tokens() == record.duplicate_ids() == {}
    assert record.pushes() == []


@given(st.data())
def test_columns_agree_with_a_plain_list(data):
    """Chunks of a few rows, so that every boundary is met."""
    chunk_rows, record_module.CHUNK_ROWS = record_module.CHUNK_ROWS, data.draw(st.integers(1, 7))
    try:
        record, rows = Record(Behaviour()), []
        dice = random.Random(data.draw(st.integers(0, 99)))
        for number in range(data.draw(st.integers(0, 40))):
            token = f"{dice.randrange(6):02x}" * dice.choice((32, 40))
            row = (token, apns_id(dice.randrange(20)), dice.choice((200, 200, 410)))
            rows.append(row)
            record.push(1, request(row[0], apns_id=row[1]), row[2], "", number)
        assert [(push.token, push.apns_id, push.status) for push in record.pushes()] == rows
        for token in {row[0] for row in rows}:
            assert record.count(token) == sum(row[0] == token for row in rows)
            mine = [number for number, row in enumerate(rows, 1) if row[0] == token]
            assert [push.number for push in record.pushes(token)] == mine
            assert record.last(token).number == mine[-1]
        accepted = [row for row in rows if row[2] == 200]
        tokens = Counter(row[0] for row in accepted)
        assert record.accepted_tokens() == tokens
        assert record.duplicate_tokens() == {token: count for token, count in tokens.items() if count > 1}
        ids = Counter(row[1] for row in accepted)
        assert record.duplicate_ids() == {name: count for name, count in ids.items() if count > 1}
    finally:
        record_module.CHUNK_ROWS = chunk_rows


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(record_module, "CHUNK_ROWS", 10)
    record = Record(Behaviour(rows_max=30, violations_kept=3, connections_kept=2))
    for number in range(95):
        record.push(1, request(f"{number:064x}", topic=b"t%d" % number), 200, "", number)
        record.violate(1, "kind", "detail", number)
    assert record.total == 95
    assert [push.number for push in record.pushes()] == list(range(71, 96))
    assert (len(record.violations), record.violation_kinds) == (3, {"kind": 95})


def test_names_that_clients_choose_are_bounded(monkeypatch):
    monkeypatch.setattr(record_module, "NAMES_MAX", 3)
    record = Record(Behaviour())
    for number in range(6):
        record.push(1, request("aa" * 32, topic=b"t%d" % number), 200, "", 0)
    assert record.topics == {"t0": 1, "t1": 1, "t2": 1, "other": 3}


def test_reset_keeps_open_connections_only():
    record = Record(Behaviour())
    first, second = record.connect("production", 1), record.connect("production", 2)
    first.closed_ms = 3
    record.push(1, request("aa" * 32), 200, "", 0)
    record.violate(1, "kind", "detail", 0)
    record.reset()
    assert (record.total, record.statuses, record.pushes()) == (0, {}, [])
    assert list(record.connections) == [second]
    assert record.connect("production", 4).id not in (first.id, second.id)
