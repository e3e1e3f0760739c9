"""Packed columns come out as what went in."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pushd.model.rows import DeviceRows, Postings
from pushd.store.columns import join_devices, split_by_width, unpack_devices, unpack_users

ids = st.integers(1, 2**31 - 1)
tokens = st.one_of(st.just(b""), st.binary(min_size=1, max_size=40).map(lambda token: token.replace(b"\0", b"x")))
aliases = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
rows = st.lists(
    st.tuples(ids, ids, ids, ids, st.integers(0, 15), tokens, st.lists(ids, max_size=4), ids, ids, ids, ids, aliases),
    max_size=20,
)


def int4s(values):
    return struct.pack(f">{len(values)}i", *values) or None


def array(values):
    """An int4[] as PostgreSQL sends it."""
    elements = b"".join(struct.pack(">ii", 4, value) for value in values)
    return struct.pack(">iiiii", 1, 0, 23, len(values), 1) + elements


def packed(given_rows):
    columns = list(zip(*given_rows, strict=True)) or [()] * 12
    return {
        "ids": int4s(columns[0]),
        "revisions": int4s(columns[1]),
        "routes": int4s(columns[2]),
        "users": int4s(columns[3]),
        "flags": struct.pack(f">{len(columns[4])}h", *columns[4]) or None,
        "token_bytes": struct.pack(f">{len(columns[5])}h", *map(len, columns[5])) or None,
        "tokens": b"".join(columns[5]) or None,
        "label_counts": struct.pack(f">{len(columns[6])}h", *map(len, columns[6])) or None,
        "labels": b"".join(array(tags) for tags in columns[6] if tags) or None,
        "installs": int4s(columns[7]),
        "profiles": int4s(columns[8]),
        "first_seen": int4s(columns[9]),
        "last_seen": int4s(columns[10]),
        "alias_bytes": struct.pack(f">{len(columns[11])}h", *(len(alias.encode()) for alias in columns[11])) or None,
        "aliases": "".join(columns[11]).encode() or None,
    }


def readable(devices: DeviceRows):
    return [
        (
            int(devices.ids[row]),
            int(devices.revisions[row]),
            int(devices.route_ids[row]),
            int(devices.user_ids[row]),
            int(devices.flags[row]),
            bytes(devices.tokens[row]),
            devices.tags.ids[devices.tags.offsets[row] : devices.tags.offsets[row + 1]].tolist(),
            int(devices.installs[row]),
            int(devices.profile_ids[row]),
            int(devices.first_seen[row]),
            int(devices.last_seen[row]),
            devices.aliases.get(row, ""),
        )
        for row in range(len(devices))
    ]


def without_padding(given_rows):
    """Tokens are text; NUL bytes at the end are padding."""
    return [(*row[:5], row[5].rstrip(b"\0"), *row[6:]) for row in given_rows]


@given(rows)
def test_devices_are_unpacked(given_rows):
    assert readable(unpack_devices(packed(given_rows))) == without_padding(given_rows)


@given(st.lists(rows, min_size=1, max_size=4))
def test_images_are_joined_in_order(parts):
    joined = join_devices([unpack_devices(packed(part)) for part in parts])
    assert readable(joined) == [row for part in parts for row in without_padding(part)]


@given(rows)
def test_splitting_by_width_keeps_every_row(given_rows):
    groups = split_by_width(unpack_devices(packed(given_rows)), widths=(8, 20))
    assert sorted(each for group in groups for each in readable(group)) == sorted(without_padding(given_rows))
    for group in groups:
        if group.tokens.dtype.itemsize > 8:
            lengths = np.char.str_len(group.tokens)
            assert (lengths > 8).all()


def test_users_are_unpacked():
    users = unpack_users(
        {
            "ids": int4s([3, 4]),
            "revisions": int4s([1, 2]),
            "apps": int4s([7, 7]),
            "deleted": b"\0\1",
            "external_ids": ["ann", "bob"],
            "label_counts": struct.pack(">2h", 2, 0),
            "labels": array([10, 11]),
            "email_bytes": struct.pack(">2h", 0, 5),
            "emails": b"B@b.c",
            "attribute_bytes": int4s([10, 0]),
            "attributes": b'{"age": 7}',
            "quiet": int4s([0, 2_073_600]),
        }
    )
    assert users.ids.tolist() == [3, 4]
    assert users.deleted.tolist() == [False, True]
    assert users.external_ids == ["ann", "bob"]
    assert (users.emails, users.attributes) == ({1: "B@b.c"}, {0: {"age": 7}})
    assert users.quiet.tolist() == [0, 2_073_600]
    assert isinstance(users.tags, Postings)
    assert (users.tags.offsets.tolist(), users.tags.ids.tolist()) == ([0, 2, 2], [10, 11])
