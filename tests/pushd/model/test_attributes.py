"""Attributes of users: times told from other texts, and limits that name what is over them."""

import pytest

from pushd.model.attributes import LIST_MAX, NAME_MAX, PER_USER_MAX, TEXT_MAX, as_time, check


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01t00:00:01.5z", 1.5),
        ("1970-01-01 02:00:00+02:00", 0.0),
        ("2026-11-21T17:50:00-05:00", 1795301400.0),
    ],
)
def test_times_of_rfc_3339(text, seconds):
    assert as_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1970-01-01", "1970-01-01T00:00:00", "1970-02-30T00:00:00Z", "news", "0000-01-01T00:00:00Z"]
)
def test_other_texts_are_no_times(text):
    assert as_time(text) is None


@pytest.mark.parametrize(
    ("attributes", "pointers"),
    [
        ({"a": 1, "b": "x" * TEXT_MAX, "c": ["y"] * LIST_MAX, "d": {"deep": [1]}, "e": None, "f": True}, []),
        ({f"a{at}": at for at in range(PER_USER_MAX + 1)}, ["/attributes"]),
        ({"": 1, "x" * (NAME_MAX + 1): 1}, ["/attributes/", "/attributes/" + "x" * (NAME_MAX + 1)]),
        ({"a/b~": "x" * (TEXT_MAX + 1)}, ["/attributes/a~1b~0"]),
        ({"a": [0] * (LIST_MAX + 1), "b": ["x" * (TEXT_MAX + 1)]}, ["/attributes/a", "/attributes/b"]),
        ({"a": 2**63, "b": 1e301, "c": -(2**62)}, ["/attributes/a", "/attributes/b"]),
        ({"a": {"n": 2**70}}, ["/attributes"]),
        ({f"a{at}": "x" * TEXT_MAX for at in range(20)}, ["/attributes"]),
    ],
)
def test_limits_name_what_is_over_them(attributes, pointers):
    assert [fault.pointer for fault in check(attributes)] == pointers
