"""Signatures of beacons, made by hand as a service worker would make them."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.model.receipt import Event
from pushd.reports.beacons import Beacons, event_id, sign

SECRET = bytes(range(32))
BEACONS = Beacons(SECRET)


def by_hand(key: str, text: str) -> str:
    octets = base64.urlsafe_b64decode(key + "=")
    return base64.urlsafe_b64encode(hmac.new(octets, text.encode(), hashlib.sha256).digest()).decode().rstrip("=")


def test_the_key_of_an_install_is_made_of_app_and_name():
    expected = hmac.new(SECRET, b"7\nphone", hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(BEACONS.key(7, "phone") + "=") == expected
    assert len({BEACONS.key(7, "phone"), BEACONS.key(8, "phone"), BEACONS.key(7, "phone2")}) == 3
    assert Beacons(bytes(32)).key(7, "phone") != BEACONS.key(7, "phone")


@pytest.mark.parametrize(
    ("event", "button", "text"),
    [(Event.OPENED, None, "17\nopened\n"), (Event.CLICKED, "ja, gern", "17\nclicked\nja, gern")],
)
def test_a_signature_is_good_for_its_own_event_alone(event, button, text):
    signature = by_hand(BEACONS.key(7, "phone"), text)
    assert sign(BEACONS.key(7, "phone"), 17, event, button) == signature
    assert BEACONS.genuine(7, "phone", 17, event, button, signature)
    assert BEACONS.genuine(7, "phone", 17, event, button, signature + "=")
    assert not BEACONS.genuine(8, "phone", 17, event, button, signature)
    assert not BEACONS.genuine(7, "other", 17, event, button, signature)
    assert not BEACONS.genuine(7, "phone", 18, event, button, signature)
    assert not BEACONS.genuine(7, "phone", 17, Event.READ, button, signature)
    assert not BEACONS.genuine(7, "phone", 17, event, "nein", signature)


@given(st.text(max_size=64))
def test_nonsense_is_no_signature(text):
    assert not BEACONS.genuine(7, "phone", 17, Event.OPENED, None, text)


def test_an_event_has_one_id():
    ids = [event_id(event, button) for event in Event for button in (None, "a", "b ")]
    assert len(set(ids)) == len(ids)
    assert all(len(each) <= 128 for each in ids)
    assert len(event_id(Event.CLICKED, "x" * 64)) <= 128
