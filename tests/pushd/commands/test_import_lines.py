"""Lines of imported files: what they name, and where they are wrong."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from pushd.commands.import_lines import Head, count_lines, cut, names_of, users_of
from pushd.errors import InvalidRequestError

NAMES = st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]), min_size=1, max_size=255)
BODIES = st.lists(st.sampled_from([b"a", b"bb", b"", b"\r"]), max_size=12).map(b"\n".join)


def written(rows) -> bytes:
    """Rows as another program writes CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode()


@given(st.lists(NAMES, min_size=1, max_size=20))
def test_names_come_back_as_another_program_wrote_them(names):
    lines, rest = cut(written([[name] for name in names]), 100)
    assert rest == b""
    first = names[0].removeprefix("\ufeff")
    found = names_of(1, lines)
    assert found.faults == [] or not first
    assert found.names == ([first] if first else []) + names[1:]


@given(BODIES, st.integers(1, 5))
def test_cutting_loses_nothing_and_counts_as_it_is_cut(body, most):
    lines, rest = [], body
    while rest:
        some, rest = cut(rest, most)
        assert 0 < len(some) <= most
        lines += some
    assert len(lines) == count_lines(body)
    assert b"\n".join(lines) == body.removesuffix(b"\n")


@pytest.mark.parametrize(
    ("line", "column", "says"),
    [
        (b"a,b", 2, "2 columns"),
        (b"a,b,\xff", 3, "UTF-8"),
        (b'"a', 1, "CSV"),
        (b'"a"b', 1, "CSV"),
        (b'""', 1, "empty"),
        (b"x" * 256, 1, "256 characters"),
        (b"a,\0", 2, "U+0000"),
        (b"x" * 200_000 + b'"', 1, "CSV"),
    ],
)
def test_a_line_that_names_nobody_says_where_and_why(line, column, says):
    found = names_of(7, [b"fine", line, b"", b"fine"])
    assert (found.names, found.numbers) == (["fine", "fine"], [7, 10])
    (fault,) = found.faults
    assert (fault.line, fault.column) == (8, column)
    assert says in fault.detail
    assert len(fault.value) <= 255
    assert "\0" not in fault.value
    assert fault.fault().pointer == f"/8/{column}"


def test_255_characters_are_characters_not_octets():
    found = names_of(1, [("ü" * 255).encode(), ("ü" * 256).encode()])
    assert (found.numbers, [each.line for each in found.faults]) == ([1], [2])


def test_cells_of_users_say_what_they_name():
    head = Head(b"\xef\xbb\xbfexternal_id, email ,tags,attributes.a,attributes.b c,subscribe\r")
    rows = [
        ["ada", "null", "", "", "", ""],
        ["bob", "b@example.com", "x; y;;", "1.5", "false", '["a;b"]'],
        ["eve", "", '["a", "b"]', '"1"', "007", "n"],
        ["zoe", "", "", "[1]", "null", ""],
    ]
    found = users_of(2, cut(written(rows), 10)[0], head)
    assert found.faults == []
    ada, bob, eve, zoe = found.users
    assert (ada.email, ada.tags, ada.attributes, ada.subscribe) == (None, UNSET, UNSET, [])
    assert (bob.email, bob.tags, bob.subscribe) == ("b@example.com", ["x", "y"], ["a;b"])
    assert bob.attributes == {"a": 1.5, "b c": False}
    assert (eve.email, eve.tags, eve.attributes) == (UNSET, ["a", "b"], {"a": "1", "b c": "007"})
    assert zoe.attributes == {"a": [1], "b c": None}


@pytest.mark.parametrize(
    "line",
    [
        b"ada,b",
        b",x",
        b"ada,x,y,",
        b'ada,"[1",x',
        b"ada,[1],x",
        b"ada," + b"t" * 2_000 + b",x",
        b"ada,x," + b"9" * 400,
        b"ada,x,\xff",
        b"ada," + b"[" * 100_000 + b",x",
        b"x" * 256 + b",,",
    ],
)
def test_a_user_that_cannot_be_is_a_fault(line):
    found = users_of(2, [line, b"fine,,"], Head(b"external_id,tags,attributes.x"))
    assert [user.external_id for user in found.users] == ["fine"]
    assert [fault.line for fault in found.faults] == [2]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"external_id": ""}',
        b'{"external_id": "a", "x": 1}',
        b'{"external_id": "a\\u0000"}',
        b'{"external_id": "a", "attributes": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
        b'{"external_id": "a", "attributes": {"a": 1e400}}',
        b'{"external_id": "a", "quiet_hours": {"from_minute": 60}}',
        b'{"external_id": "a", "quiet_hours": {"from_minute": 60, "to_minute": 60}}',
        b'{"external_id": "a", "subscribe": ["n"], "unsubscribe": ["n"]}',
        b'{"external_id": "\xff"}',
    ],
)
def test_json_that_is_no_user_is_a_fault(line):
    found = users_of(1, [line, b"  ", b'{"external_id": "fine"}\r'], None)
    assert [user.external_id for user in found.users] == ["fine"]
    assert found.numbers == [3]
    assert [fault.line for fault in found.faults] == [1]


@pytest.mark.parametrize(
    ("header", "pointers"),
    [
        (b"email", ["/1/1"]),
        (b"external_id,external_id", ["/1/2"]),
        (b"external_id,plan", ["/1/2"]),
        (b"\xff", ["/1/1"]),
        (b"", ["/1/1", "/1/1"]),
        (b",".join(b"attributes.%d" % number for number in range(1_200)), ["/1/1001"]),
    ],
)
def test_a_header_that_cannot_be_is_refused(header, pointers):
    with pytest.raises(InvalidRequestError) as caught:
        Head(header)
    assert [fault.pointer for fault in caught.value.faults] == pointers
