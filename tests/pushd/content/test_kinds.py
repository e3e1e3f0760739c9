"""Which addresses a push type reaches."""

import pytest

from protocols import apns
from pushd.content.kinds import kinds
from pushd.model.device import ALERT_KINDS, Kind
from pushd.model.message import PushType


def test_an_alert_reaches_alert_kinds_only():
    assert kinds(PushType.ALERT) == ALERT_KINDS
    assert Kind.APNS_VOIP not in kinds(PushType.ALERT)
    assert Kind.EMAIL not in kinds(PushType.ALERT)


def test_a_background_push_goes_where_silence_is_allowed():
    assert kinds(PushType.BACKGROUND) == {Kind.APNS, Kind.FCM, Kind.HMS}


@pytest.mark.parametrize("push_type", [t for t in PushType if t not in (PushType.ALERT, PushType.BACKGROUND)])
def test_every_other_type_reaches_its_own_addresses(push_type):
    own = push_type.value if push_type is PushType.EMAIL else f"apns_{push_type.value}"
    assert kinds(push_type) == {Kind(own)}


def test_a31_every_push_type_of_the_model_is_apples_but_mail_and_what_goes_to_channels():
    ours = {PushType.EMAIL, PushType.CHANNEL}
    assert {t.value for t in PushType if t not in ours} == set(apns.PUSH_TYPES)


def test_every_kind_is_reached_by_something():
    assert frozenset().union(*(kinds(t) for t in PushType)) == set(Kind)
