"""Provider tokens: pinned, signed seldom, and right again after the clock moved."""

import asyncio
import itertools

import jwt as pyjwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from protocols import jwt
from pushd.config import ApnsConfig
from pushd.credentials.apns_tokens import TokenMint, TokenMints
from pushd.model.credential import ApnsToken
from tests.pushd.credentials.conftest import SetClock, new_secret

MINUTE = 60.0
SECRET = new_secret()


@pytest.fixture
def mint(clock, secret) -> TokenMint:
    return TokenMint(secret, clock, ApnsConfig())


def events(logs) -> list[str]:
    return [entry["event"] for entry in logs if entry["log_level"] in ("error", "critical", "warning")]


def test_a10_a17_the_token_says_who_and_when_in_wall_seconds(mint, secret):
    pinned = mint.pin()
    claims = pyjwt.decode(
        pinned.jwt, jwt.load_p8(secret.private_key).public_key(), algorithms=["ES256"], options={"verify_iat": False}
    )
    assert claims == {"iss": "TEAM123456", "iat": 1_700_000_000}
    assert pyjwt.get_unverified_header(pinned.jwt) == {"alg": "ES256", "kid": "KEY1234567"}
    assert pinned.authorization == b"bearer " + pinned.jwt


def test_g09_a_pinned_token_does_not_show_itself(mint):
    pinned = mint.pin()
    assert pinned.jwt.decode() not in repr(pinned)


def test_a13_new_connections_share_a_token_for_thirty_minutes(mint, clock):
    first = mint.pin()
    clock.advance(30 * MINUTE)
    assert mint.pin() is first
    clock.advance(1)
    assert mint.pin() is not first


def test_a13_a_connection_keeps_its_token_for_fifty_minutes(mint, clock):
    first = mint.pin()
    clock.advance(50 * MINUTE - 1)
    assert not mint.stale(first)
    clock.advance(1)
    assert mint.stale(first)
    assert not mint.stale(mint.pin())


@given(st.lists(st.tuples(st.floats(0.1, 900), st.booleans(), st.integers(0, 4)), max_size=120))
def test_a12_a13_no_connection_changes_early_and_no_token_grows_old(steps):
    clock = SetClock()
    mint = TokenMint(SECRET, clock, ApnsConfig())
    connections: dict[int, tuple] = {}  # the token pinned, and since when
    signed: set[float] = set()
    for seconds, opens, which in steps:
        clock.advance(seconds)
        if opens or which not in connections:
            connections[which] = (mint.pin(), clock.monotonic())
        pinned, changed_at = connections[which]
        if mint.stale(pinned):
            moved = mint.pin()
            assert moved is not pinned
            assert clock.monotonic() - changed_at >= 20 * MINUTE - 1e-6
            connections[which] = (moved, clock.monotonic())
        in_use = connections[which][0]
        assert clock.monotonic() - in_use.minted_at < 50 * MINUTE
        signed.add(in_use.minted_at)
    gaps = sorted(signed)
    assert all(later - earlier > 30 * MINUTE for earlier, later in itertools.pairwise(gaps))


@pytest.mark.asyncio
async def test_a14_x21_two_hundred_tasks_make_one_token(mint, clock):
    mint.pin()
    clock.advance(51 * MINUTE)
    with capture_logs() as logs:
        pins = await asyncio.gather(*(_pin(mint) for _ in range(200)))
    assert len({id(pin) for pin in pins}) == 1
    assert [entry["event"] for entry in logs].count("apns_token_signed") == 1


async def _pin(mint: TokenMint):
    await asyncio.sleep(0)
    return mint.pin()


def test_a14_one_mint_for_a_key_of_many_apps(clock, secret):
    mints = TokenMints(clock, ApnsConfig())
    same = ApnsToken(team_id=secret.team_id, key_id=secret.key_id, private_key=secret.private_key, topics=["a.b"])
    assert mints.of(secret) is mints.of(same)
    assert mints.of(new_secret("KEY7654321")) is not mints.of(secret)
    assert mints.of(new_secret()) is not mints.of(secret)


def test_mints_that_nobody_used_for_long_are_forgotten(clock, secret):
    mints = TokenMints(clock, ApnsConfig())
    idle = mints.of(secret)
    idle.pin()
    clock.advance(60 * MINUTE)
    mints.of(new_secret("KEY7654321"))
    assert mints.of(secret) is not idle


def test_a_key_that_cannot_be_used_makes_no_mint(clock):
    with pytest.raises(ValueError, match="not PEM"):
        TokenMints(clock, ApnsConfig()).of(ApnsToken(team_id="T", key_id="K", private_key="nonsense"))


def test_a16_an_expired_token_is_replaced_once_it_is_twenty_minutes_old(mint, clock):
    first = mint.pin()
    clock.advance(20 * MINUTE + 1)
    assert mint.refuse(first)
    second = mint.pin()
    assert second is not first
    assert mint.refuse(first), "another connection meets the same refusal: the new token is there"
    assert mint.pin() is second


def test_a16_a_young_token_is_not_signed_again_but_told_of_once(mint, clock):
    first = mint.pin()
    clock.advance(5 * MINUTE)
    with capture_logs() as logs:
        assert [mint.refuse(first) for _ in range(10)] == [False] * 10
    assert events(logs) == ["apns_token_refused_early"]
    assert mint.pin() is first


def test_a16_silence_replaces_an_old_token_and_alerts_nobody(mint, clock):
    first = mint.pin()
    with capture_logs() as logs:
        assert not mint.refuse(first, told=False)
        clock.advance(25 * MINUTE)
        assert mint.refuse(first, told=False)
        assert mint.pin() is not first
    assert events(logs) == []


def test_a16_a_token_that_is_old_indeed_needs_no_alert(mint, clock):
    first = mint.pin()
    clock.advance(56 * MINUTE)
    with capture_logs() as logs:
        assert mint.refuse(first)
    assert events(logs) == []
    assert mint.pin() is not first


@pytest.mark.parametrize("jump_s", [7_200.0, -7_200.0, 90.0, -90.0])
def test_a17_x20_a_wall_clock_that_jumps_displaces_tokens_with_one_alert(mint, clock, jump_s):
    first = mint.pin()
    clock.advance(MINUTE)
    clock.wall += jump_s
    assert mint.displaced(first)
    assert not mint.stale(first), "its age is what it was: the connection is replaced, its token not changed on it"
    with capture_logs() as logs:
        pins = [mint.pin() for _ in range(5)]
    assert len(set(map(id, pins))) == 1
    assert events(logs) == ["wall_clock_jumped"]
    assert jwt.unverified(pins[0].jwt)[1]["iat"] == int(clock.now())
    assert not mint.displaced(pins[0])


def test_x20_a_clock_that_jumps_to_and_fro_finds_its_old_token(mint, clock):
    first = mint.pin()
    clock.wall += 7_200
    second = mint.pin()
    clock.wall -= 7_200
    assert mint.pin() is first
    clock.wall += 7_200
    assert mint.pin() is second


def test_x20_a_suspended_machine_signs_anew(mint, clock):
    # Linux's monotonic clock stands still while the machine sleeps; the wall clock does not.
    first = mint.pin()
    clock.wall += 90 * MINUTE
    assert mint.displaced(first)
    assert jwt.unverified(mint.pin().jwt)[1]["iat"] == int(clock.now())


def test_a17_slewing_is_no_jump(mint, clock):
    first = mint.pin()
    clock.advance(25 * MINUTE)
    clock.wall += 2
    assert not mint.displaced(first)
    assert mint.pin() is first


def test_a16_a_refusal_after_a_jump_is_repaired(mint, clock):
    first = mint.pin()
    clock.wall += 7_200
    assert mint.refuse(first)
    assert mint.pin() is not first


def test_what_is_remembered_is_bounded(mint, clock):
    for _ in range(50):
        clock.wall += 100
        mint.pin()
    assert len(mint._minted) <= 4
