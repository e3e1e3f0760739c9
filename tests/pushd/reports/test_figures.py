"""Figures from counts, and a sentence for whatever a gateway may have answered."""

import re

import pytest

from pushd.gateways import apns, email, fcm, hms, safari, webpush
from pushd.model.device import GatewayName
from pushd.model.notification import Ledger, ReasonCount, State
from pushd.outcome import COMMON_REASONS, VENDOR_CODES_FROM, Reasons
from pushd.reports.figures import by_gateway, by_platform, in_words, rate, status
from pushd.reports.words import SERVICES, explain

GATEWAYS = {
    GatewayName.APNS: apns.ApnsGateway,
    GatewayName.FCM: fcm.FcmGateway,
    GatewayName.HMS: hms.HmsGateway,
    GatewayName.SAFARI: safari.SafariGateway,
    GatewayName.EMAIL: email.EmailGateway,
    GatewayName.WEBPUSH: webpush.WebPushGateway,
}


def test_every_gateway_is_named():
    assert set(SERVICES) == set(GATEWAYS) == set(GatewayName)


def test_every_common_reason_has_a_sentence_of_its_own():
    table = Reasons()
    told = [explain(GatewayName.APNS, table, reason.code) for reason in COMMON_REASONS]
    assert len(set(told)) == len(told)
    for reason, text in zip(COMMON_REASONS, told, strict=True):
        assert f"({reason.name})" not in text
        assert re.fullmatch(r"[A-Z][^{}]*\.", text), text


def count(gateway, outcome, reason, number):
    return ReasonCount(gateway=gateway, outcome=outcome, reason=reason, count=number)


def test_outcomes_add_up_by_gateway():
    rows = [
        count(GatewayName.APNS, "accepted", "accepted", 5),
        count(GatewayName.WEBPUSH, "unregistered", "gone", 1),
        count(GatewayName.APNS, "rejected", "BadTopic", 2),
        count(GatewayName.APNS, "lost", "connection_lost", 1),
        count(GatewayName.APNS, "suppressed", "quiet_hours", 4),
    ]
    first, second = by_gateway(rows)
    if first.gateway is not GatewayName.APNS:
        first, second = second, first
    assert (first.accepted, first.failed, first.suppressed, first.expired) == (5, 3, 4, 0)
    assert (second.gateway, second.failed, second.accepted) == (GatewayName.WEBPUSH, 1, 0)


def test_platforms_that_nobody_named_are_counted_too():
    found = by_platform({"ios": 3, "android": 5}, {"ios": 1}, {}, (10, 2, 0))
    assert [(each.platform, each.targeted, each.opened, each.clicked) for each in found] == [
        ("android", 5, 0, 0),
        ("ios", 3, 1, 0),
        ("unknown", 2, 1, 0),
    ]
    assert [each.platform for each in by_platform({"ios": 3}, {}, {}, (3, 0, 0))] == ["ios"]


@pytest.mark.parametrize(
    ("state", "ledger", "word"),
    [
        (State.RUNNING, Ledger(targeted=3, pending=3), "published"),
        (State.DONE, Ledger(targeted=3, accepted=1, failed=2), "published"),
        (State.DONE, Ledger(targeted=3, failed=3), "failed"),
        (State.DONE, Ledger(), "published"),
        (State.CANCELLED, Ledger(targeted=3, failed=3), "cancelled"),
    ],
)
def test_a_send_has_a_status_in_one_word(state, ledger, word):
    assert status(state, ledger) == word


def test_rates_of_nothing_are_none():
    assert rate(1, 3) == 0.3333
    assert rate(0, 0) is None


def test_vendors_reasons_keep_the_vendors_word():
    from tests.pushd.commands.world import BAD, DEAD

    table = Reasons([DEAD, BAD])
    assert BAD.code >= VENDOR_CODES_FROM
    rows = [
        count(GatewayName.APNS, "rejected", "BadTopic", 2),
        count(GatewayName.APNS, "unregistered", "Unregistered", 1),
    ]
    told = [each.explanation for each in in_words(rows, {GatewayName.APNS.number: table})]
    assert "APNs" in told[0]
    assert "BadTopic" in told[0]
    assert "Unregistered" in told[1]
