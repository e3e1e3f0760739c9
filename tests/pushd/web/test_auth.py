import base64
from types import SimpleNamespace

import pytest

from pushd.errors import TooManyRequestsError, UnauthorizedError
from pushd.model.app import Key, Role
from pushd.web.auth import ADDRESSES_MAX, Authenticator
from pushd.web.proxies import Client

pytestmark = pytest.mark.asyncio

SECRET = "pushd_server_" + "a" * 43
KEY = Key(id=1, app_id=1, role=Role.SERVER, name="", hint="pushd_server_aaa", created_at=0, revoked_at=None)


class Keys:
    def __init__(self):
        self.known = {SECRET: KEY}
        self.asked = 0

    async def authenticate(self, secret, _):
        self.asked += 1
        return self.known.get(secret)


class Now:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def incoming(authorization=None, address="203.0.113.1"):
    headers = {} if authorization is None else {"Authorization": authorization}
    return SimpleNamespace(headers=headers, client=Client(address, False), caller="")


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.fixture
def clock():
    return Now()


@pytest.fixture
def keys():
    return Keys()


@pytest.fixture
def auth(keys, clock):
    return Authenticator(keys, 10, clock)


async def fail(auth, times, address="203.0.113.1", header="Bearer pushd_server_wrong"):
    for _ in range(times):
        with pytest.raises(UnauthorizedError):
            await auth.key(incoming(header, address))


@pytest.mark.parametrize(
    "header",
    [f"Bearer {SECRET}", f"bearer  {SECRET}", *(basic(form.format(SECRET)) for form in ("{}", "{}:", ":{}", "api:{}"))],
)
async def test_a_key_comes_as_bearer_or_either_half_of_basic(auth, header):
    request = incoming(header)
    assert await auth.key(request) is KEY
    assert request.caller == KEY.hint


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", SECRET, f"Digest {SECRET}", "Basic !", "Basic /w==", "Bearer " + "x" * 9000],
)
async def test_no_key_is_no_key_and_costs_no_look_up(auth, keys, header):
    with pytest.raises(UnauthorizedError):
        await auth.key(incoming(header))
    assert keys.asked == 0


async def test_ten_failures_in_a_minute_are_the_end_of_guessing(auth, keys, clock):
    await fail(auth, 10)
    asked = keys.asked
    for header in ("Bearer pushd_server_other", None, f"Bearer {SECRET}"):
        with pytest.raises(TooManyRequestsError) as caught:
            await auth.key(incoming(header))
        assert 0 < caught.value.retry_after_s <= 60
    assert keys.asked == asked
    clock.now += 61
    assert await auth.key(incoming(f"Bearer {SECRET}")) is KEY


async def test_another_address_is_not_concerned(auth):
    await fail(auth, 10)
    assert await auth.key(incoming(f"Bearer {SECRET}", "203.0.113.2")) is KEY


async def test_a_key_that_was_good_before_is_not_locked_out(auth, keys):
    await auth.key(incoming(f"Bearer {SECRET}"))
    await fail(auth, 10)
    assert await auth.key(incoming(f"Bearer {SECRET}")) is KEY
    keys.known.clear()
    with pytest.raises(UnauthorizedError):
        await auth.key(incoming(f"Bearer {SECRET}"))
    with pytest.raises(TooManyRequestsError):
        await auth.key(incoming(f"Bearer {SECRET}"))


async def test_failures_spread_over_minutes_are_forgiven(auth, clock):
    for _ in range(4):
        await fail(auth, 5)
        clock.now += 61
    assert await auth.key(incoming(f"Bearer {SECRET}")) is KEY


async def test_an_ipv6_network_is_one_address(auth):
    for host in range(10):
        await fail(auth, 1, f"2001:db8:1:2::{host:x}")
    with pytest.raises(TooManyRequestsError):
        await auth.key(incoming(None, "2001:db8:1:2:ffff::1"))
    await fail(auth, 1, "2001:db8:1:3::1")


async def test_what_is_remembered_is_bounded(auth):
    for number in range(ADDRESSES_MAX + 10):
        auth._count(f"198.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(auth._failures) == ADDRESSES_MAX
