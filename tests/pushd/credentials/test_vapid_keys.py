"""VAPID keys and their tokens."""

import msgspec
import pytest

from protocols import jwt, vapid, webpush
from pushd.config.webpush import WebPushConfig
from pushd.credentials import secrets, vapid_keys
from pushd.credentials.vapid_keys import VapidRing, VapidTokens
from pushd.errors import InvalidRequestError
from pushd.model.credential import VapidKeys

ORIGIN, OTHER = "https://push.example", "https://other.example:8443"


class Clock:
    def __init__(self):
        self.wall_s, self.passed_s = 1_700_000_000.0, 0.0

    def now(self):
        return self.wall_s

    def monotonic(self):
        return self.passed_s

    def pass_(self, seconds):
        self.wall_s += seconds
        self.passed_s += seconds


def made(**fields):
    return vapid_keys.complete(VapidKeys(subject="mailto:push@example.com", **fields), None)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tokens(clock):
    return VapidTokens(clock, WebPushConfig(tokens_max=3))


@pytest.fixture
def key():
    ring = VapidRing(made())
    return ring.key(ring.current)


def test_w23_a_token_is_signed_once_for_each_key_and_origin(tokens, key):
    first = tokens.authorization(key, ORIGIN)
    assert all(tokens.authorization(key, ORIGIN) is first for _ in range(200))
    other = tokens.authorization(key, OTHER)
    assert tokens.signed == 2
    assert vapid.verify(first, ORIGIN, 1_700_000_001) == vapid.verify(other, OTHER, 1_700_000_001) == key.public


def test_w22_w23_tokens_live_twelve_hours_and_are_signed_anew_at_six(tokens, key, clock):
    first = tokens.authorization(key, ORIGIN)
    assert jwt.unverified(vapid.parse(first)[0])[1]["exp"] == 1_700_000_000 + 43_200
    clock.pass_(21_599)
    assert tokens.authorization(key, ORIGIN) == first
    clock.pass_(1)
    assert tokens.authorization(key, ORIGIN) != first
    assert tokens.signed == 2


@pytest.mark.parametrize("jump_s", [7_200.0, -7_200.0])
def test_x20_the_wall_clock_jumps(tokens, key, clock, jump_s):
    first = tokens.authorization(key, ORIGIN)
    clock.wall_s += jump_s
    second = tokens.authorization(key, ORIGIN)
    assert second != first
    vapid.verify(second, ORIGIN, clock.now())
    assert tokens.authorization(key, ORIGIN) is second


def test_x20_the_machine_slept(tokens, key, clock):
    first = tokens.authorization(key, ORIGIN)
    clock.wall_s += 5_400
    assert tokens.authorization(key, ORIGIN) != first


def test_x21_two_hundred_refusals_at_once_sign_one_token(tokens, key, clock):
    tokens.authorization(key, ORIGIN)
    clock.pass_(61)
    for _ in range(200):
        tokens.refuse(key, ORIGIN)
        tokens.authorization(key, ORIGIN)
    assert tokens.signed == 2


def test_a_young_token_is_not_signed_again(tokens, key, clock):
    tokens.authorization(key, ORIGIN)
    assert not tokens.refuse(key, ORIGIN)
    clock.pass_(60)
    assert tokens.refuse(key, ORIGIN)


def test_w23_the_memory_of_tokens_is_bounded(tokens, key):
    for number in range(10):
        tokens.authorization(key, f"https://wns{number}.example")
    tokens.authorization(key, "https://wns9.example")
    assert tokens.signed == 10
    tokens.authorization(key, "https://wns0.example")
    assert tokens.signed == 11


def test_w25_after_a_rotation_every_subscription_has_its_own_key():
    first = made()
    second = vapid_keys.complete(VapidKeys(subject=first.subject), first)
    third = vapid_keys.complete(VapidKeys(subject=first.subject), second)
    assert len({first.private_key, second.private_key, third.private_key}) == 3
    assert third.previous == [second.private_key, first.private_key]
    ring = VapidRing(third)
    for secret in (first, second, third):
        mark = VapidRing(secret).current
        assert ring.find(mark) == mark
        assert ring.key(mark).public == VapidRing(secret).key(mark).public
    assert ring.find(webpush.KEY_UNKNOWN) == ring.current == VapidRing(third).current
    assert ring.find(b"someoneelse") is None
    assert VapidRing(first).find(ring.current) is None


def test_older_keys_are_forgotten_when_told_and_kept_in_bounds():
    secret = made()
    for _ in range(12):
        secret = vapid_keys.complete(VapidKeys(subject=secret.subject), secret)
    assert len(secret.previous) == vapid_keys.PREVIOUS_MAX
    assert vapid_keys.complete(VapidKeys(subject=secret.subject, previous=[]), secret).previous == []
    again = vapid_keys.complete(VapidKeys(subject="mailto:b@example.com", private_key=secret.private_key), secret)
    assert again.previous == secret.previous


def test_what_may_be_seen_of_a_credential():
    secret = made(previous=[vapid_keys.generate()])
    shown = secrets.examine(secret)
    assert shown["public_key"] == vapid.public_text(vapid.load_private(secret.private_key).public_key())
    assert set(shown) == {"type", "subject", "public_key", "previous_public_keys"}
    for text in (str(shown), repr(secret), str(secret)):
        assert secret.private_key not in text
        assert secret.previous[0] not in text
    assert secrets.load(secrets.dump(secret)) == secret


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"subject": "root"}, "/secret/subject"),
        ({"private_key": "AAAA"}, "/secret/private_key"),
        ({"previous": ["AAAA"]}, "/secret/previous/0"),
    ],
)
def test_secrets_that_cannot_be_used(fields, pointer):
    secret = msgspec.structs.replace(made(), **fields)
    with pytest.raises(InvalidRequestError) as error:
        secrets.examine(secret, "/secret")
    (fault,) = error.value.faults
    assert fault.pointer == pointer
    assert "AAAA" not in fault.detail
