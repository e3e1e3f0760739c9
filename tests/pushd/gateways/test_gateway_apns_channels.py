"""Channel management against the simulator: what is asked, what is understood, and what goes wrong on the way."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from pushd.clock import SystemClock
from pushd.config import ApnsConfig
from pushd.errors import ConflictError, UnavailableError
from pushd.gateways.apns import ApnsGateway
from pushd.gateways.apns_channels import Place
from pushd.model.credential import ApnsCertificate, ApnsToken
from pushd.model.device import Environment
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import Answer, Close, Fault, Goaway, Reset, Silence
from pushd.simulator.simulator import Simulator
from tests.pushd.gateways.apns_world import PATIENT, TOPIC, Credentials, until

pytestmark = pytest.mark.asyncio

PLACE = Place(1, Environment.PRODUCTION, TOPIC)
MANAGED, LISTED = f"/1/apps/{TOPIC}/channels", f"/1/apps/{TOPIC}/all-channels"


class World:
    """A simulator and the management that asks it."""

    def __init__(self, simulator, gateway, credentials):
        self.simulator, self.gateway, self.credentials = simulator, gateway, credentials
        self.channels = gateway.channels

    def fault(self, action, topic=MANAGED, **rest):
        return self.simulator.faults.add(Fault(action=action, topic=topic, **rest))

    @property
    def calls(self):
        return dict(self.simulator.channels.calls)

    @property
    def connections(self):
        return self.simulator.record.connections_total


@asynccontextmanager
async def world(tmp_path, *, behaviour=None, clock=None, **settings):
    simulator = Simulator(tmp_path, behaviour=behaviour)
    await simulator.start()
    (key,) = simulator.identity.keys.values()
    token = ApnsToken(team_id=key.team_id, key_id=key.key_id, private_key=simulator.identity.pem(key.key_id))
    certificate = ApnsCertificate(p12=simulator.identity.p12([TOPIC], "apple"), password="apple")
    credentials = Credentials({1: token, 2: certificate})
    config = ApnsConfig(
        production_management_host="localhost",
        sandbox_management_host="localhost",
        production_management_port=simulator.management_port,
        sandbox_management_port=simulator.sandbox_management_port,
        management_timeout_s=settings.pop("timeout_s", 2.0),
        ca_file=str(simulator.ca_file),
        **settings,
    )
    gateway = ApnsGateway(config, PATIENT, credentials, clock)
    await gateway.start()
    try:
        yield World(simulator, gateway, credentials)
        assert not simulator.record.violation_kinds
    finally:
        await gateway.stop(0.2)
        await simulator.stop()


@pytest.mark.parametrize("credential", [1, 2], ids=["token", "certificate"])
async def test_a38_a_channel_is_created_read_listed_and_deleted_on_one_connection(tmp_path, credential):
    place = PLACE._replace(credential_id=credential)
    async with world(tmp_path) as w:
        ids = [await w.channels.create(place, stores=stores) for stores in (True, False)]
        assert [await w.channels.read(place, each) for each in ids] == [True, False]
        assert await w.channels.list(place) == ids
        assert await w.channels.delete(place, ids[0]) is True
        assert await w.channels.delete(place, ids[0]) is False
        assert await w.channels.read(place, ids[0]) is None
        assert await w.channels.list(place) == ids[1:]
        assert w.connections == 1


async def test_a04_environments_have_hosts_of_their_own(tmp_path):
    async with world(tmp_path) as w:
        sandbox = PLACE._replace(environment=Environment.SANDBOX)
        channel_id = await w.channels.create(sandbox, stores=False)
        assert await w.channels.list(PLACE) == []
        assert await w.channels.list(sandbox) == [channel_id]


async def test_callers_take_turns(tmp_path):
    async with world(tmp_path, behaviour=Behaviour(streams_max=1)) as w:
        ids = await asyncio.gather(*(w.channels.create(PLACE, stores=False) for _ in range(20)))
        assert await w.channels.list(PLACE) == ids
        assert w.connections == 1


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (Answer(reason="CannotCreateChannelConfig"), ConflictError, "CannotCreateChannelConfig"),
        (Answer(reason="FeatureNotEnabled"), ConflictError, "FeatureNotEnabled"),
        (Answer(reason="TopicMismatch"), ConflictError, "TopicMismatch"),
        (Answer(reason="InvalidProviderToken"), ConflictError, "InvalidProviderToken"),
        (Answer(status=403, reason="New"), ConflictError, "New"),
        (Answer(status=404), ConflictError, "status_404"),
        (Answer(status=502, html=True), UnavailableError, None),
        (Answer(reason="Service Unavailable"), UnavailableError, None),
        (Answer(reason="TooManyRequests"), UnavailableError, None),
        (Answer(status=201), UnavailableError, None),
        (Answer(status=302), UnavailableError, None),
    ],
)
async def test_refusals(tmp_path, answer, error, reason):
    async with world(tmp_path) as w:
        w.fault(answer)
        with pytest.raises(error) as caught:
            await w.channels.create(PLACE, stores=False)
        assert caught.value.extra.get("reason") == reason


async def test_what_is_no_list_is_no_answer(tmp_path):
    async with world(tmp_path, management_answer_bytes_max=200) as w:
        w.fault(Answer(status=200, body='{"channels":[7]}'), LISTED, count=1)
        with pytest.raises(UnavailableError, match="cannot be read"):
            await w.channels.list(PLACE)
        w.fault(Answer(status=200, body="x" * 60_000), LISTED, count=1)
        with pytest.raises(UnavailableError, match="too_large"):
            await w.channels.list(PLACE)
        assert await w.channels.list(PLACE) == []


async def test_a38_ten_thousand_channels_are_listed(tmp_path):
    async with world(tmp_path) as w:
        ids = [w.simulator.channels.create(Environment.PRODUCTION, TOPIC, stores=False) for _ in range(10_000)]
        assert await w.channels.list(PLACE) == ids
        with pytest.raises(ConflictError, match="10,000 channels"):
            await w.channels.create(PLACE, stores=False)


async def test_x24_retry_after_is_passed_on(tmp_path):
    async with world(tmp_path) as w:
        w.fault(Answer(reason="Service Unavailable", retry_after="30"), LISTED)
        with pytest.raises(UnavailableError) as caught:
            await w.channels.list(PLACE)
        assert caught.value.retry_after_s == 30.0


async def test_g03_silence_has_an_end(tmp_path):
    async with world(tmp_path, timeout_s=2.0) as w:
        w.fault(Silence(), count=1)
        with pytest.raises(UnavailableError, match="timeout"):
            await w.channels.create(PLACE, stores=False)
        assert await w.channels.list(PLACE) == []


async def test_g02_what_was_surely_not_done_is_asked_again(tmp_path):
    async with world(tmp_path) as w:
        assert await w.channels.list(PLACE) == []
        w.fault(Goaway(last="before"), count=1)
        first = await w.channels.create(PLACE, stores=False)
        w.fault(Reset(code=7), count=1)
        second = await w.channels.create(PLACE, stores=False)
        assert await w.channels.list(PLACE) == [first, second]
        assert w.connections >= 2


async def test_g02_a_creation_whose_fate_is_unknown_is_not_repeated(tmp_path):
    async with world(tmp_path) as w:
        w.fault(Close(how="abort"), count=1)
        with pytest.raises(UnavailableError, match="lost"):
            await w.channels.create(PLACE, stores=False)
        assert w.simulator.channels.ids(Environment.PRODUCTION, TOPIC) == []
        w.fault(Close(how="abort"), LISTED, count=1)
        assert await w.channels.list(PLACE) == []  # what may be asked twice is


async def test_a_connection_that_the_peer_closed_meanwhile_costs_nothing(tmp_path):
    async with world(tmp_path) as w:
        await w.channels.list(PLACE)
        w.simulator.drop_connections()
        await until(lambda: not w.simulator.open_connections)
        await asyncio.sleep(0.05)
        assert await w.channels.create(PLACE, stores=False)
        assert w.connections == 2


async def test_a68_an_idle_connection_is_closed(tmp_path):
    async with world(tmp_path, management_idle_close_s=0.05) as w:
        await w.channels.list(PLACE)
        async with asyncio.timeout(60):
            while w.simulator.open_connections:
                await asyncio.sleep(0.01)
        assert await w.channels.list(PLACE) == []
        assert w.connections == 2


class Skewed(SystemClock):
    """A clock that can be moved."""

    def __init__(self):
        self.moved_s = 0.0

    def now(self):
        return super().now() + self.moved_s

    def monotonic(self):
        return super().monotonic() + self.moved_s


async def test_a16_an_expired_token_is_replaced_once(tmp_path):
    clock = Skewed()
    async with world(tmp_path, clock=clock) as w:
        await w.channels.list(PLACE)
        clock.moved_s = 1_500.0
        w.fault(Answer(reason="ExpiredProviderToken"), LISTED, count=1)
        # Only our clock has gone on.
        w.simulator.tokens.behaviour = Behaviour(token_ahead_max_s=10_000.0)
        assert await w.channels.list(PLACE) == []
        assert w.connections == 2
        w.fault(Answer(reason="ExpiredProviderToken"), LISTED)
        with pytest.raises(UnavailableError, match="ExpiredProviderToken"):
            await w.channels.list(PLACE)


async def test_a06_a_credential_that_was_dropped_is_asked_for_anew(tmp_path):
    async with world(tmp_path) as w:
        await w.channels.list(PLACE)
        del w.credentials.secrets[1]
        w.gateway.drop_credential(1)
        with pytest.raises(ConflictError, match="credential"):
            await w.channels.list(PLACE)


async def test_nobody_there(tmp_path):
    async with world(tmp_path, timeout_s=1.0) as w:
        await w.channels.list(PLACE)
        await w.simulator.stop()
        with pytest.raises(UnavailableError, match="tcp"):
            await w.channels.list(PLACE)
    with pytest.raises(ConflictError):
        await w.channels.list(PLACE)
