"""Access tokens: one fetch for all, ahead of expiry, old ones serving meanwhile; refusals, outages and clocks."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import msgspec
import orjson
import pytest
import structlog

from protocols import fcm
from pushd.clock import SystemClock
from pushd.credentials.oauth_endpoint import EndpointError, TokenEndpoint
from pushd.credentials.oauth_tokens import Logins, RefreshTimes
from pushd.gateways.fcm import AccountGrant
from pushd.model.credential import FcmServiceAccount
from pushd.simulator.fcm_oauth import Script, TokenServer
from pushd.simulator.identity import Identity

pytestmark = pytest.mark.asyncio

TIMES = RefreshTimes(ahead_s=300, jitter_s=60, backoff_base_s=0.02, backoff_cap_s=0.05)
REFUSED = orjson.dumps({"error": "invalid_grant", "error_description": "Invalid JWT Signature."})


class FakeClock(SystemClock):
    """The machine's clocks, set forward by hand."""

    def __init__(self):
        self.wall_s = self.passed_s = 0.0

    def now(self):
        return super().now() + self.wall_s + self.passed_s

    def monotonic(self):
        return super().monotonic() + self.passed_s


class World:
    def __init__(self, server, logins, clock, key_file):
        self.server, self.logins, self.clock = server, logins, clock
        self.secret = msgspec.convert(key_file, FcmServiceAccount)
        self.login = logins.of(AccountGrant(self.secret))

    async def settled(self):
        """Once no fetch runs."""
        for _ in range(200):
            if self.login._fetching is None:
                return
            await asyncio.sleep(0.005)
        pytest.fail("a fetch does not end")


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """Certificates and the account's key, which take long to make."""
    return Identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture
def world(identity):
    @asynccontextmanager
    async def make(timeout_s=1.0, server_clock=None, times=TIMES, **changed):
        clock = FakeClock()
        server = TokenServer(identity, server_clock or clock)
        account = server.account("pushd-demo")
        port = await server.start("127.0.0.1", 0)
        endpoint = TokenEndpoint("localhost", port, fcm.OAUTH_PATH, timeout_s)
        endpoint.start(ssl.create_default_context(cafile=server._identity.ca_file))
        logins = Logins(endpoint, times, clock)
        try:
            yield World(server, logins, clock, {**account.key_file, **changed})
        finally:
            await logins.stop()
            await server.stop()

    return make


async def test_f01_an_account_gets_a_token(world):
    async with world() as w:
        assert w.login.current() is None
        held = await w.login.ready(2)
        assert held.authorization.startswith(b"Bearer ya29.")
        assert w.server.holder(held.authorization).client_email == w.secret.client_email
        assert held.token not in repr(held)
        assert w.login.current() is held


async def test_x21_two_hundred_who_need_a_token_make_one_fetch(world):
    async with world() as w:
        w.server.scripts.append(Script(200, orjson.dumps({"access_token": "t", "expires_in": 3599}), 0.05))
        got = await asyncio.gather(*(w.login.ready(2) for _ in range(200)))
        assert {held.token for held in got} == {"t"}
        assert w.server.requests == 1


async def test_f03_one_login_per_account_and_key(world):
    async with world() as w:
        assert w.logins.of(AccountGrant(w.secret)) is w.login
        other = msgspec.structs.replace(w.secret, private_key_id="another")
        assert w.logins.of(AccountGrant(other)) is not w.login


async def test_f03_the_old_token_serves_while_the_new_one_is_fetched(world):
    async with world() as w:
        first = await w.login.ready(2)
        w.clock.passed_s += 3_300
        assert w.login.current() is first
        assert w.login.current() is first
        await w.settled()
        second = w.login.current()
        assert second is not first
        assert w.server.requests == 2
        await w.settled()
        assert w.server.requests == 2


async def test_f03_a_short_lived_token_is_used_for_half_its_life(world):
    async with world() as w:
        w.server.lifetime_s = 100
        first = await w.login.ready(2)
        w.clock.passed_s += 40
        assert w.login.current() is first
        assert w.login._fetching is None
        w.clock.passed_s += 20
        w.login.current()
        await w.settled()
        assert w.login.current() is not first


async def test_f05_an_outage_of_the_endpoint_leaves_the_old_token_in_service(world):
    async with world() as w:
        first = await w.login.ready(2)
        w.server.always = Script(503, b"<html>")
        w.clock.passed_s += 3_400
        for _ in range(5):
            assert w.login.current() is first
            await w.settled()
            await asyncio.sleep(0.03)
        assert w.server.requests > 2
        w.clock.passed_s += 300
        assert w.login.current() is None
        w.server.always = None
        assert await w.login.ready(2) is not None


async def test_f05_a_hung_endpoint_blocks_nobody_for_longer_than_they_wait(world):
    async with world(timeout_s=0.2) as w:
        w.server.always = Script(200, b"{}", 5.0)
        begun = asyncio.get_running_loop().time()
        assert await w.login.ready(0.1) is None
        assert asyncio.get_running_loop().time() - begun < 1
        assert not w.login.refused


async def test_f05_a_refusal_is_told_once_and_not_hammered(world):
    times = RefreshTimes(ahead_s=300, jitter_s=60, backoff_base_s=0.02, backoff_cap_s=60)
    async with world(times=times) as w:
        w.server.always = Script(400, REFUSED)
        with structlog.testing.capture_logs() as logs:
            for _ in range(20):
                assert await w.login.ready(0.5) is None
        assert w.login.refused == "invalid_grant"
        assert w.server.requests == 1
        assert [line["event"] for line in logs if line["log_level"] == "error"] == ["access_token_denied"]
        w.server.always = None
        w.login.forget_refusal()
        assert await w.login.ready(2) is not None


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"access_token":"a b","expires_in":9}'])
async def test_g08_a_200_without_a_token_is_an_outage(world, body):
    async with world() as w:
        w.server.scripts.append(Script(200, body))
        assert await w.login.ready(2) is not None
        assert w.server.requests == 2


async def test_f02_a_redirect_is_not_followed(world):
    async with world() as w:
        w.server.scripts.append(Script(307, b""))
        assert await w.login.ready(2) is not None
        assert w.server.requests == 2


async def test_f02_the_address_in_a_key_file_is_not_used(world):
    async with world(token_uri="https://169.254.169.254/token", universe_domain="evil.example") as w:
        assert await w.login.ready(2) is not None
        assert w.server.granted == 1


async def test_f04_a_refused_token_is_replaced_once_and_the_second_refusal_is_the_accounts(world):
    async with world() as w:
        first = await w.login.ready(2)
        assert w.login.refuse(first)
        assert w.login.refuse(first)
        second = await w.login.ready(2)
        assert second is not first
        assert w.login.refuse(first)
        assert not w.login.refuse(second)
        assert not w.login.refuse(second)
        assert w.server.requests == 2


async def test_f04_a_token_that_was_taken_gets_its_second_chance_again(world):
    async with world() as w:
        first = await w.login.ready(2)
        w.login.refuse(first)
        second = await w.login.ready(2)
        w.login.accepted(second)
        assert w.login.refuse(second)
        assert await w.login.ready(2) not in (first, second)


@pytest.mark.parametrize("wall_s", [7_200, -7_200])
async def test_x20_a_wall_clock_that_jumped_costs_one_more_question(world, wall_s):
    async with world(server_clock=SystemClock()) as w:
        first = await w.login.ready(2)
        w.clock.wall_s = wall_s
        with structlog.testing.capture_logs() as logs:
            assert w.login.current() is first
            w.clock.passed_s += 3_300
            w.login.current()
            await w.settled()
        assert w.login.current() not in (None, first)
        assert not w.login.refused
        told = [line for line in logs if line["event"] == "wall_clock_differs"]
        assert len(told) == 1
        assert abs(told[0]["seconds"] + wall_s + 3_300) < 5


async def test_x20_a_suspended_machine_refreshes_at_once(world):
    async with world() as w:
        first = await w.login.ready(2)
        w.clock.wall_s += 5_400  # CLOCK_MONOTONIC stands still while the machine sleeps
        assert w.login.current() is first
        await w.settled()
        assert w.login.current() is not first


async def test_no_endpoint_no_answer():
    endpoint = TokenEndpoint("localhost", 1, "/token", 1.0)
    with pytest.raises(EndpointError, match="stopped"):
        await endpoint.post(b"")
    endpoint.start(ssl.create_default_context())
    with pytest.raises(EndpointError):
        await endpoint.post(b"")
    await endpoint.stop()


async def test_an_answer_without_end_is_cut(world):
    async with world() as w:
        w.server.scripts.append(Script(200, b"x" * 3_000_000))
        assert await w.login.ready(2) is not None


async def test_f05_a_failure_of_ours_while_asking_is_told_and_tried_again(world, monkeypatch):
    async with world() as w:
        monkeypatch.setattr(w.login._grant, "form", lambda now: 1 / 0)
        with structlog.testing.capture_logs() as logs:
            assert await w.login.ready(0.1) is None
        assert {line["event"] for line in logs} == {"callback_failed", "access_token_not_fetched"}
        monkeypatch.undo()
        assert await w.login.ready(2.0) is not None
        assert not w.login.refused
