"""APNs requests: topics, limits, priorities, tokens, collapse ids and message ids."""

import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import apns
from protocols.errors import LocalProtocolError

DOCUMENTED = {
    "alert": ("com.example.app", 4096),
    "background": ("com.example.app", 4096),
    "voip": ("com.example.app.voip", 5120),
    "complication": ("com.example.app.complication", 4096),
    "fileprovider": ("com.example.app.pushkit.fileprovider", 4096),
    "location": ("com.example.app.location-query", 4096),
    "liveactivity": ("com.example.app.push-type.liveactivity", 4096),
    "pushtotalk": ("com.example.app.voip-ptt", 4096),
    "controls": ("com.example.app.push-type.controls", 4096),
    "widgets": ("com.example.app.push-type.widgets", 4096),
    "mdm": ("com.example.app", 4096),
}


@pytest.mark.parametrize("push_type", DOCUMENTED)
def test_a32_a40_topic_and_limit_of_every_push_type(push_type):
    assert (apns.topic("com.example.app", push_type), apns.payload_limit(push_type)) == DOCUMENTED[push_type]


def test_a31_every_documented_push_type_is_known():
    assert set(apns.PUSH_TYPES) == set(DOCUMENTED)
    with pytest.raises(LocalProtocolError):
        apns.topic("com.example.app", "carrier-pigeon")


def test_a33_priorities():
    assert {t: (apns.priority(t, urgent=False), apns.priority(t, urgent=True)) for t in DOCUMENTED} == {
        **dict.fromkeys(DOCUMENTED, (5, 10)),
        "background": (5, 5),
        "pushtotalk": (10, 10),
    }


@pytest.mark.parametrize("token", ["ab", "AB" * 32, "0f" * 80, "0" * 1024])
def test_a30_tokens_of_any_length_pass_in_lower_case(token):
    assert apns.check_token(token) == token.lower()


@pytest.mark.parametrize(
    "token", ["", "abc", "zz", "ab/", "ab?x", "ab%2f", "ab\r\n", "ab ", "\u0661\u0661", "ab" * 513, "a\x00"]
)
def test_a30_g09_other_tokens_are_refused_unnamed(token):
    with pytest.raises(ValueError) as caught:
        apns.check_token(token)
    assert not token or token not in str(caught.value)


def test_a30_columns_of_tokens():
    tokens = [b"ab", b"AB09ef", b"abc", b"", b"gg", b"ab/..", b"a\x00b", b"\x00ab", b"abcdef01", b"ab\xff\xff"]
    expected = [True, True, False, False, False, False, False, False, True, False]
    assert apns.valid_tokens(np.array(tokens, "S8")).tolist() == expected
    assert apns.valid_tokens(np.array([], "S8")).tolist() == []
    assert apns.valid_tokens(np.array([b"", b""], "S1")).tolist() == [False, False]
    assert apns.valid_tokens(np.array([b"aB09", b"09fF"], "S4")).tolist() == [True, True]
    assert apns.valid_tokens(np.array([b"abc", b"123"], "S3")).tolist() == [False, False]
    assert apns.valid_tokens(np.array([b"ab" * 513], "S1026")).tolist() == [False]
    strided = np.array(tokens * 2, "S8")[::2]
    assert apns.valid_tokens(strided).tolist() == (expected * 2)[::2]


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=20))
def test_a30_columns_agree_with_the_scalar(values):
    column = np.array(values, "S12")

    def scalar(value: bytes) -> bool:
        try:
            apns.check_token(value.decode("latin-1"))
        except ValueError:
            return False
        return True

    # A fixed-width column cannot tell trailing NULs from padding.
    assert apns.valid_tokens(column).tolist() == [scalar(value.rstrip(b"\x00")) for value in values]


@pytest.mark.parametrize("text", ["a", "x" * 64, "ä" * 32, "日" * 21, "two words", "\U0001f600" * 16])
def test_a35_collapse_ids_up_to_64_bytes(text):
    apns.check_collapse_id(text)
    header = apns.collapse_header(text)
    assert header.isascii()
    assert header.isprintable()
    assert len(header) <= 64


@pytest.mark.parametrize("text", ["", "x" * 65, "ä" * 33, "日" * 22, "\U0001f600" * 17, "a\r\nb: c", "a\x00", "\ud800"])
def test_a35_other_collapse_ids_are_refused(text):
    with pytest.raises(ValueError):
        apns.check_collapse_id(text)


def test_a35_ascii_goes_out_as_it_is_and_the_rest_as_distinct_hashes():
    assert apns.collapse_header("order-17/b") == "order-17/b"
    hashed = {apns.collapse_header(text) for text in ("ä", "ö", " a", "a ", "a b", "日")}
    assert len(hashed) == 6
    assert all(len(header) == 43 for header in hashed)


@given(st.text(max_size=70))
def test_a35_whatever_passes_is_a_safe_header_value(text):
    try:
        apns.check_collapse_id(text)
    except ValueError:
        return
    header = apns.collapse_header(text).encode("ascii")
    assert 1 <= len(header) <= 64
    assert all(0x21 <= octet <= 0x7E for octet in header)


def test_a36_the_id_is_a_canonical_uuid_of_version_8():
    text = apns.apns_id(0x123456789, 0xABCDEF)
    assert text == "00000012-3456-8789-8000-000000abcdef"
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)


notification_ids = st.integers(0, 2**60 - 1)
device_ids = st.integers(0, 2**32 - 1)


@given(notification_ids, device_ids)
def test_a36_ids_read_back(notification_id, device_id):
    text = apns.apns_id(notification_id, device_id)
    assert apns.apns_id_parts(text) == (notification_id, device_id)
    assert uuid.UUID(text).version == 8


@given(st.lists(st.tuples(notification_ids, device_ids), max_size=40))
def test_a36_columns_agree_with_the_scalar(pairs):
    notifications = np.array([pair[0] for pair in pairs], np.int64)
    devices = np.array([pair[1] for pair in pairs], np.uint32)
    expected = [apns.apns_id(*pair).encode() for pair in pairs]
    matrix = apns.apns_ids(notifications, devices)
    assert matrix.shape == (len(pairs), 36)
    assert [row.tobytes() for row in matrix] == expected
    if pairs:
        alike = apns.apns_ids(pairs[0][0], devices)
        assert [row.tobytes() for row in alike] == [apns.apns_id(pairs[0][0], pair[1]).encode() for pair in pairs]


@pytest.mark.parametrize(("notification_id", "device_id"), [(-1, 0), (2**60, 0), (0, -1), (0, 2**32)])
def test_a36_ids_that_do_not_fit_are_our_bug(notification_id, device_id):
    with pytest.raises(LocalProtocolError):
        apns.apns_id(notification_id, device_id)
    if device_id == 0:
        with pytest.raises(LocalProtocolError):
            apns.apns_ids(np.array([notification_id], np.int64), np.zeros(1, np.uint32))


@pytest.mark.parametrize(
    "text",
    [
        "",
        str(uuid.UUID(int=0)),
        "00000123-4567-8789-8000-000000ABCDEF",
        "00000123-4567-8789-8000-0001000000ef",
        "00000123x4567-8789-8000-000000abcdef",
        "0000_123-4567-8789-8000-000000abcdef",
        "g0000123-4567-8789-8000-000000abcdef",
    ],
)
def test_a36_ids_of_others_do_not_read(text):
    with pytest.raises(ValueError):
        apns.apns_id_parts(text)
