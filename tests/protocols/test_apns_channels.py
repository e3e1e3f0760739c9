"""Broadcast channels: ids, paths, and bodies of channel management, hostile ones too."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import apns_channels as channels

ID = "dHN0LXNyY2gtY2hubA=="


@pytest.mark.parametrize("channel_id", [ID, "AAAA", "+/8=", "a" * 240])
def test_a38_ids_are_base64_of_any_size(channel_id):
    assert channels.check_channel_id(channel_id) == channel_id
    assert channels.is_channel_id(channel_id.encode())


@pytest.mark.parametrize("channel_id", ["", "AAA", "A===", "AAAA\n", "AA\r\nA", "AA A", "a-b_", "ä" * 4, "a" * 244])
def test_a38_what_is_no_id_enters_no_header(channel_id):
    with pytest.raises(ValueError, match="channel id"):
        channels.check_channel_id(channel_id)
    assert not channels.is_channel_id(channel_id.encode())


def test_a38_a_column_of_ids_is_judged_row_by_row():
    column = np.array([b"AAAA", b"", b"AAA", ID.encode(), b"AA\0A"])
    assert channels.valid_ids(column).tolist() == [True, False, False, True, False]
    assert channels.valid_ids(column[:0]).tolist() == []


@given(st.binary(max_size=64))
def test_a38_ids_hold_nothing_but_base64(octets):
    if channels.is_channel_id(octets):
        assert set(octets) <= set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


def test_a04_paths():
    assert channels.broadcast_path("com.example.app") == b"/4/broadcasts/apps/com.example.app"
    assert channels.channels_path("com.example.app") == b"/1/apps/com.example.app/channels"
    assert channels.all_channels_path("com.example.app") == b"/1/apps/com.example.app/all-channels"


@pytest.mark.parametrize("bundle", ["", "a/b", "a?b", "a%2fb", "..\r\n", "a b", ".a", "ä"])
def test_a04_nothing_of_a_bundle_id_can_change_a_path(bundle):
    for path in (channels.broadcast_path, channels.channels_path, channels.all_channels_path):
        with pytest.raises(ValueError, match="bundle"):
            path(bundle)


def test_a38_a_channel_is_asked_for_with_its_storage_policy():
    assert orjson.loads(channels.creation(stores=True)) == {"message-storage-policy": 1, "push-type": "LiveActivity"}
    assert orjson.loads(channels.creation(stores=False))["message-storage-policy"] == 0


def test_a38_answers_are_read():
    assert channels.parse_channel(b'{"message-storage-policy":1,"push-type":"LiveActivity"}') is True
    assert channels.parse_channel(b'{"message-storage-policy":0}') is False
    assert channels.parse_channels(b'{"channels":[]}') == []
    assert channels.parse_channels(orjson.dumps({"channels": [ID, "AAAA"]})) == [ID, "AAAA"]


HOSTILE = [b"", b"<html>", b"[]", b"null", b'{"channels":{}}', b'{"channels":[1]}', b'{"channels":["a b"]}', b"{"]


@pytest.mark.parametrize("body", [*HOSTILE, b'{"message-storage-policy":true}', b'{"message-storage-policy":2}'])
def test_a38_what_is_no_answer_raises_value_error(body):
    for parse in (channels.parse_channel, channels.parse_channels):
        with pytest.raises(ValueError, match=r"answer|channel id"):
            parse(body)
