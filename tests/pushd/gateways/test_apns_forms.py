"""The header plan of device pushes: what enters the peer's table, and what can neither repeat nor smuggle a field."""

import pytest

from protocols.errors import LocalProtocolError
from protocols.http2 import Field, Indexing, Variable
from pushd.gateways.apns_forms import DeviceShape

CONSTANTS = (("apns-topic", "com.example.app"), ("apns-push-type", "alert"), ("apns-priority", "10"))


@pytest.mark.parametrize("collapses", [False, True])
def test_a42_what_enters_the_table_and_what_never_does(collapses):
    plan = DeviceShape(CONSTANTS, collapses).plan(b"api.push.apple.com", b"bearer x.y.z")
    literal = {field.name for field in plan.fields if field.indexing is not Indexing.INCREMENTAL}
    varying = [b":path", b"apns-id", b"apns-expiration", *([b"apns-collapse-id"] if collapses else [])]
    assert literal == {*varying, b"authorization"}
    assert [variable.name for variable in plan.variables] == varying
    assert plan.variables[0] == Variable(b":path", Indexing.WITHOUT, b"/3/device/")
    assert Field(b"apns-topic", b"com.example.app") in plan.fields
    assert hash(plan) == hash(DeviceShape(CONSTANTS, collapses).plan(b"api.push.apple.com", b"bearer x.y.z"))


def test_a37_no_header_twice():
    with pytest.raises(LocalProtocolError, match="A-37"):
        DeviceShape((*CONSTANTS, ("apns-topic", "again")), False).plan(b"h", b"bearer x")


def test_t14_a_topic_cannot_smuggle_a_header():
    with pytest.raises(LocalProtocolError):
        DeviceShape((("apns-topic", "a\r\nb: c"),), False).plan(b"h", b"bearer x")
