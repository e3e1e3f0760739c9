"""External ids to user ids."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.targeting import identities as module
from pushd.targeting.columns import Column
from pushd.targeting.identities import Identities, Table


def new(users=100):
    apps = Column(np.int32)
    identities = Identities(apps)
    apps.reach(users)
    identities.reach(users)
    return apps, identities


def put_many(apps, identities, users, app_id, texts):
    ids, app_ids = np.array(users, np.uint32), np.full(len(users), app_id, np.int32)
    apps.data[ids] = app_ids
    identities.put_many(ids, app_ids, texts)


@pytest.mark.parametrize("count", [1, 90, 5_000, 40_000])
def test_every_id_is_found_and_no_other(count):
    apps, identities = new(count + 1)
    texts = [f"person-{key}@example.com" for key in range(1, count + 1)]
    for start in range(0, count, 7_000):
        put_many(apps, identities, range(start + 1, min(start + 7_000, count) + 1), 1, texts[start : start + 7_000])
    assert identities.find_many(1, texts).tolist() == list(range(1, count + 1))
    assert [identities.find(1, text) for text in texts[:100]] == list(range(1, count + 1))[:100]
    assert not identities.find_many(1, [text + "x" for text in texts]).any()
    assert not identities.find_many(2, texts).any()
    assert identities.text(count) == texts[-1]


def test_the_look_up_weighs_few_bytes_an_entry():
    count = 300_000
    apps, identities = new(count + 1)
    for start in range(0, count, 50_000):
        users = range(start + 1, start + 50_001)
        put_many(apps, identities, users, 1, [f"person-{key}" for key in users])
    assert identities.nbytes / count < 18


def test_users_that_go_are_not_found_and_their_cells_are_swept():
    apps, identities = new(20_001)
    for turn in range(10):
        users = range(turn * 2_000 + 1, turn * 2_000 + 2_001)
        put_many(apps, identities, users, 1, [f"p{key}" for key in range(2_000)])
        assert identities.find_many(1, [f"p{key}" for key in range(2_000)]).tolist() == list(users)
        apps.data[np.array(users)] = 0
        identities.drop_many(np.array(users, np.uint32))
        assert not identities.find_many(1, [f"p{key}" for key in range(2_000)]).any()
        assert identities.find(1, "p7") == 0
    assert sum(len(table.data) for table in identities._tables) < 3 * 4_000


def test_of_two_users_with_one_id_the_newer_is_found():
    apps, identities = new()
    for user in (9, 4):
        apps.cells[user] = 1
        identities.put(user, 1, "ann")
    assert identities.find(1, "ann") == 9
    with mock.patch.object(module, "FEW_IDS", 2):
        assert identities.find_many(1, ["ann"] * 200).tolist() == [9] * 200


def test_a_user_may_get_another_id():
    apps, identities = new()
    apps.cells[4] = 1
    for text in ("ann", "Ann", "a much longer external id than before", "ann"):
        identities.put(4, 1, text)
        assert identities.find(1, text) == 4
        assert identities.text(4) == text
    assert identities.find(1, "Ann") == 0


def test_texts_beyond_ascii_and_with_nul():
    apps, identities = new()
    texts = ["ü" * 255, "名前", "a", "a\0"]
    put_many(apps, identities, [1, 2, 3], 1, texts[:3])
    assert [identities.find(1, text) for text in texts] == [1, 2, 3, 0]
    assert identities.find_many(1, texts * 5).tolist() == [1, 2, 3, 0] * 5
    with mock.patch.object(module, "FEW_IDS", 2):
        assert identities.find_many(1, texts * 50).tolist() == [1, 2, 3, 0] * 50


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(1, 60), unique=True, max_size=30))))
@settings(max_examples=100)
def test_any_adding_and_dropping_with_few_hashes(steps):
    apps, identities = new()
    there = set()
    few = mock.patch.object(module, "hash", lambda text: len(text) % 3 << 40, create=True)
    columns = mock.patch.object(module, "FEW_IDS", 2)
    small = mock.patch.object(module, "COMPARED_BYTES_MAX", 400)
    with few, columns, small:
        for add, users in steps:
            chosen = [user for user in users if (user in there) != add]
            if not chosen:
                continue
            if not add:
                apps.data[np.array(chosen)] = 0
                identities.drop_many(np.array(chosen, np.uint32))
                there -= set(chosen)
            elif len(chosen) > 3:
                put_many(apps, identities, chosen, 1, ["x" * user for user in chosen])
                there |= set(chosen)
            else:
                for user in chosen:
                    apps.cells[user] = 1
                    identities.put(user, 1, "x" * user)
                there |= set(chosen)
        expected = [user if user in there else 0 for user in range(1, 61)]
        assert [identities.find(1, "x" * user) for user in range(1, 61)] == expected
        assert identities.find_many(1, ["x" * user for user in range(1, 61)] * 2).tolist() == expected * 2


def test_a_table_whose_entries_share_a_home_at_its_end_reaches_beyond_it():
    table = Table()
    users = np.arange(1, 101, dtype=np.uint32)
    digests = np.full(100, 0xFFFFFFFF, np.uint32)
    assert not table.add_many(users, digests)
    table.renew(users, digests)
    assert sorted(user for user in table.data.tolist() if user) == users.tolist()
    assert table.data[-1] == 0
