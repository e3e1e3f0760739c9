"""How long messages live: what the send says, else its app, else its type, else 28 days; counted from the release."""

import pytest

from pushd.content.life import BROADCAST_PATIENCE_S, expires_at, lasting, tried_until
from pushd.model.app import Settings
from pushd.model.audience import Broadcast
from pushd.model.message import TTL_MAX_S, Message, PushType
from pushd.model.notification import Send

APP = Settings(default_ttl_s=28_800)
NOW = 1_800_000_000.75


def send(push_type=PushType.ALERT, ttl_s=None):
    return Send(audience=Broadcast(), message=Message(title="x", push_type=push_type), ttl_s=ttl_s)


@pytest.mark.parametrize(
    ("asked", "settings", "ttl_s"),
    [
        (send(), Settings(), None),
        (send(), APP, 28_800),
        (send(ttl_s=60), APP, 60),
        (send(ttl_s=0), APP, 0),
        (send(), Settings(default_ttl_s=0), 0),
        # Now or never by their type, whatever the app says of its messages.
        (send(PushType.PUSHTOTALK), APP, 0),
        (send(PushType.PUSHTOTALK, ttl_s=5), APP, 5),
        (send(PushType.CHANNEL), APP, None),
    ],
)
def test_a_send_says_its_life_from_its_release_on(asked, settings, ttl_s):
    kept = lasting(asked, settings)
    assert kept.ttl_s == ttl_s
    if ttl_s is not None:
        assert lasting(kept, Settings(default_ttl_s=1)) is kept


def test_life_is_counted_from_the_release():
    assert expires_at(send(ttl_s=60), NOW) == tried_until(send(ttl_s=60), NOW) == int(NOW) + 60
    assert expires_at(send(), NOW) == tried_until(send(), NOW) == int(NOW) + TTL_MAX_S
    assert expires_at(send(ttl_s=0), NOW) == tried_until(send(ttl_s=0), NOW) == 0
    assert expires_at(send(PushType.CHANNEL), NOW) == 0
    assert tried_until(send(PushType.CHANNEL), NOW) == int(NOW) + BROADCAST_PATIENCE_S
