"""Nobody delays another, on real sockets: the fan-out, the APNs gateway and the simulator. By counts, not by times."""

import asyncio
import socket
from collections import Counter
from contextlib import asynccontextmanager

import msgspec
import pytest

from pushd.batch import Lane
from pushd.config import ApnsConfig
from pushd.gateways.apns import ApnsGateway
from pushd.model.credential import ApnsToken, CredentialState
from pushd.model.device import Environment
from pushd.outcome import ACCEPTED, CANCELLED
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import Answer, Fault, Silence, Slow
from pushd.simulator.simulator import Simulator
from tests.pushd.fanout.conftest import notification, rows
from tests.pushd.fanout.test_fairness import ids_of
from tests.pushd.gateways.apns_world import PATIENT, FakeClock

pytestmark = pytest.mark.asyncio


class CredentialPerApp:
    """A keyring in which app n has credential n, all with the simulator's key."""

    def __init__(self, simulator):
        (key, *_) = simulator.identity.keys.values()
        pem = simulator.identity.pem(key.key_id)
        self._secret = ApnsToken(team_id=key.team_id, key_id=key.key_id, private_key=pem)
        self.held = set()

    def find(self, route):
        return route.app_id

    def secret(self, credential_id):
        return self._secret

    def state(self, credential_id, bundle=None):
        return CredentialState.PAUSED if credential_id in self.held else CredentialState.ACTIVE


@pytest.fixture
def wire(bench, tmp_path):
    @asynccontextmanager
    async def make(behaviour=None, production_port=None, transport=None, **config):
        clock = FakeClock()
        simulator = Simulator(tmp_path / "simulator", behaviour=behaviour or Behaviour(), clock=clock)
        await simulator.start()
        hosts = ApnsConfig(
            production_host="localhost",
            sandbox_host="localhost",
            production_port=production_port or simulator.port,
            sandbox_port=simulator.sandbox_port,
            ca_file=str(simulator.ca_file),
        )
        keyring = CredentialPerApp(simulator)
        settings = {"response_timeout_s": 30.0, "ping_after_s": 30.0, "queue_timeout_s": 30.0, **(transport or {})}
        gateway = ApnsGateway(hosts, msgspec.structs.replace(PATIENT, **settings), keyring, clock)
        await gateway.start()
        one = await bench(gateway=gateway, keyring=keyring, drain_timeout_s=0.05, **config)
        one.simulator = simulator
        try:
            yield one
        finally:
            await one.fanout.stop()
            await gateway.stop(0.1)
            await simulator.stop()

    return make


def populate(one, app_id, count, environment=Environment.PRODUCTION):
    ids = ids_of(app_id, count)
    one.index.apply_devices(rows(ids, app_id=app_id, environment=environment))
    return ids


def fault(one, action, **where):
    one.simulator.faults.add(Fault(action=action, **where))


def prefix(app_id):
    """The first characters that tokens of an app share, and no other app's have."""
    return f"{ids_of(app_id, 1)[0]:064x}"[:60]


def pending(one, number):
    ledger = one.fanout.ledger(number)
    return ledger.pending if ledger else 0


def links(one):
    return Counter(pool.label.rpartition("/")[2] for pool in one.gateway.pools if pool.links)


async def singles(one, app_id, count, first):
    """So many single sends, one after the other; all are answered."""
    ids = populate(one, app_id, count)
    for number, device in enumerate(ids):
        one.release(notification(first + number, app_id=app_id), [device])
        await one.done(first + number)


async def test_transactional_sends_have_a_link_of_their_own_and_pass_a_campaign_that_is_stuck(wire):
    async with wire() as one:
        bulk = populate(one, 1, 4_000)
        fault(one, Silence(), token_prefix=prefix(1), skip=1)
        one.release(notification(1, app_id=1), bulk)
        await one.until(lambda: sum(pool.outstanding for pool in one.gateway.pools) >= 1_000)
        ids = populate(one, 1, 4_050)[4_000:]
        one.simulator.faults.clear()
        for number, device in enumerate(ids):
            one.release(notification(100 + number, app_id=1), [device])
            await one.done(100 + number)
        assert links(one)["transactional"] == 1 <= links(one)["bulk"]
        assert pending(one, 1) >= 500, "what the gateway swallowed still waits for its answer"


async def test_a_slow_tenant_does_not_delay_another(wire):
    async with wire(unsettled_rows_max=4_000) as one:
        fault(one, Slow(latency_ms=3_000), token_prefix=prefix(1))
        one.release(notification(1, app_id=1), populate(one, 1, 10_000))
        await one.until(lambda: one.fanout.unsettled > 1_500)
        one.release(notification(2, app_id=2), populate(one, 2, 5_000))
        await singles(one, 3, 20, 100)
        await one.done(2)
        assert one.store.codes(2) == {ACCEPTED.code: 5_000}
        assert pending(one, 1) > 5_000


async def test_a_gateway_that_hangs_does_not_delay_another(wire):
    """The production host accepts connections and never says a word; the sandbox host answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as mute:
        async with wire(production_port=mute.getsockname()[1], transport={"connect_timeout_s": 60.0}) as one:
            one.release(notification(1, app_id=1), populate(one, 1, 6_000))
            await one.until(lambda: one.fanout.unsettled > 1_000)
            one.release(notification(2, app_id=2), populate(one, 2, 4_000, Environment.SANDBOX))
            one.release(notification(3, app_id=2), ids_of(2, 1))
            await one.done(2, 3)
            assert pending(one, 1) == 6_000
            one.fanout.cancel(1)
            await one.done(1)
            assert one.store.codes(1) == {CANCELLED.code: 6_000}, "what no link took need not wait for the gateway"


async def test_a_gateway_that_is_not_there_does_not_delay_another(wire):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with wire(production_port=port) as one:
        one.release(notification(1, app_id=1), populate(one, 1, 6_000))
        await asyncio.sleep(0.1)
        one.release(notification(2, app_id=2), populate(one, 2, 4_000, Environment.SANDBOX))
        await one.done(2)
        assert pending(one, 1) == 6_000


async def test_a_credential_that_is_held_does_not_delay_another(wire):
    async with wire() as one:
        one.keyring.held.add(1)
        one.release(notification(1, app_id=1), populate(one, 1, 10_000))
        one.release(notification(2, app_id=2), populate(one, 2, 5_000))
        await one.done(2)
        assert (pending(one, 1), one.fanout.unsettled) == (10_000, 0)


async def test_a51_a_campaign_of_bad_tokens_goes_on_alone_and_leaves_the_link_of_the_others_fast(wire):
    """APNs allows one stream after a rejection until the next success (throttle_on_rejection)."""
    async with wire(Behaviour(throttle_on_rejection=True, latency_ms=3), doubt_min=50) as one:
        fault(one, Answer(reason="BadDeviceToken"), token_prefix=prefix(1))
        bad, good = ids_of(1, 3_000), ids_of(2, 6_000)
        one.index.apply_devices(rows(bad, app_id=9))
        one.index.apply_devices(rows(good, app_id=9))
        one.release(notification(2, app_id=9), bad)
        campaign = one.fanout._campaigns.get(2)
        await one.until(lambda: campaign.lane is Lane.DOUBTFUL)
        one.release(notification(3, app_id=9), good)
        await one.done(3)
        assert one.store.codes(3) == {ACCEPTED.code: 6_000}
        assert pending(one, 2) > 0, "the bad one is slow, and alone"
        await one.until(lambda: links(one)["doubtful"] == 1)
        assert one.store.codes(2).total() + 100 < 3_000
        left = pending(one, 2)
        await one.until(lambda: pending(one, 2) < left)
        one.fanout.cancel(2)
        await one.done(2)
        assert sum(one.store.codes(2).values()) == 3_000
        assert not one.simulator.record.violation_kinds


async def test_a51_a_gateway_that_leaves_after_many_bad_tokens_is_met_again_and_the_campaign_ends(wire):
    async with wire(Behaviour(bad_tokens_max=50)) as one:
        fault(one, Answer(reason="BadDeviceToken"), token_prefix=prefix(1), rate=0.5, sticky=True)
        one.release(notification(1, app_id=1), populate(one, 1, 1_500))
        await one.done(1)
        codes = one.store.codes(1)
        assert sum(codes.values()) == 1_500
        assert 500 < codes[ACCEPTED.code] < 1_000
        assert set(codes) == {
            ACCEPTED.code,
            *(code for code in codes if one.gateway.reasons.name(code) == "BadDeviceToken"),
        }
