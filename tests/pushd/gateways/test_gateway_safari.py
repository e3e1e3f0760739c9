"""The Safari gateway: url-args made where the site is known, a pool per certificate, and Apple's refusals."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import orjson
import pytest

from pushd.batch import Batch, Lane, Rendered
from pushd.config import ApnsConfig
from pushd.content.safari import LINK
from pushd.gateways import safari
from pushd.gateways.safari import SafariGateway, complete
from pushd.model.credential import SafariCertificate
from pushd.model.device import Environment, Kind, Route
from pushd.outcome import NOT_WRITTEN
from pushd.simulator.faults import Answer, Fault
from pushd.simulator.simulator import Simulator

from .apns_world import PATIENT, Credentials, token

pytestmark = pytest.mark.asyncio

SITE = "web.com.example"
FORMAT = "https://example.com/%@?from=%@"


def pushed(link=None, arguments=(), text="B"):
    body = {"aps": {"alert": {"title": "T", "body": text}, "url-args": list(arguments)}}
    headers = [("apns-push-type", "alert"), ("apns-priority", "10")]
    return Rendered(payload=orjson.dumps(body), headers=(*headers, *([(LINK, link)] if link else [])))


def args(rendered):
    return orjson.loads(rendered.payload)["aps"]["url-args"]


class World:
    """The gateway with two websites, and the simulated APNs."""

    def __init__(self, simulator, gateway):
        self.simulator, self.gateway = simulator, gateway

    async def send(self, rows=1, payloads=None, **more):
        batch = self.batch(rows, payloads, **more)
        await asyncio.wait_for(self.gateway.send(batch), 60)
        return [self.gateway.reasons.name(code) for code in batch.outcomes.tolist()]

    def batch(self, rows=1, payloads=None, *, site=SITE, credential=1, first=1):
        ids = np.arange(first, first + rows, dtype=np.uint32)
        return Batch(
            route=Route(1, Kind.SAFARI, Environment.PRODUCTION, site),
            credential_id=credential,
            lane=Lane.BULK,
            ids=ids,
            tokens=np.array([token(number) for number in ids.tolist()], "S64"),
            revisions=np.ones(rows, np.int32),
            notifications=7,
            payloads=payloads or pushed(),
        )

    def arrived(self, number=1):
        push = self.simulator.record.last(token(number))
        return dict(push.headers), orjson.loads(push.payload)


@pytest.fixture
def world(tmp_path):
    @asynccontextmanager
    async def make(url_format=FORMAT):
        simulator = Simulator(tmp_path / "simulator")
        await simulator.start()
        p12 = simulator.identity.p12
        secrets = {
            1: SafariCertificate(p12=p12([SITE], "apple"), password="apple", url_format=url_format),
            2: SafariCertificate(p12=p12(["web.org.example"]), url_format="https://example.org/"),
        }
        config = ApnsConfig(production_host="localhost", production_port=simulator.port, ca_file=str(simulator.ca_file))
        gateway = SafariGateway(config, PATIENT, Credentials(secrets))
        await gateway.start()
        try:
            yield World(simulator, gateway)
        finally:
            await gateway.stop(0.5)
            await simulator.stop()

    return make


async def test_s02_s03_what_arrives_is_a_website_push(world):
    async with world() as w:
        assert await w.send(3, pushed("https://example.com/pears?from=push")) == ["accepted"] * 3
        headers, body = w.arrived(3)
        assert headers["apns-topic"] == SITE
        assert (headers["apns-push-type"], headers["apns-priority"]) == ("alert", "10")
        assert not {"authorization", LINK} & set(headers)
        assert body == {"aps": {"alert": {"title": "T", "body": "B"}, "url-args": ["pears", "push"]}}
        assert not w.simulator.record.violations


async def test_s03_no_link_means_empty_arguments_as_many_as_placeholders(world):
    async with world() as w:
        assert await w.send() == ["accepted"]
        assert w.arrived()[1]["aps"]["url-args"] == ["", ""]
        assert await w.send(site="web.org.example", credential=2, first=2) == ["accepted"]
        assert w.arrived(2)[1]["aps"]["url-args"] == []


async def test_s03_a_link_that_does_not_fit_is_refused_aloud_and_alone(world):
    async with world() as w:
        assert await w.send(2, pushed("https://example.org/x")) == ["link_does_not_fit_site"] * 2
        assert not w.simulator.record.total
        mixed = [pushed("https://example.com/a?from=b"), pushed("app:open"), pushed(), pushed(arguments=["1"])]
        assert await w.send(4, mixed) == ["accepted", "link_does_not_fit_site", "accepted", "link_does_not_fit_site"]
        assert w.simulator.record.total == 2


async def test_s03_messages_of_a_batch_are_completed_in_slices(world, monkeypatch):
    monkeypatch.setattr(safari, "AT_ONCE", 2)
    async with world() as w:
        turns = []

        def turn():
            turns.append(1)
            asyncio.get_running_loop().call_soon(turn)

        batch = w.batch(7, [pushed(f"https://example.com/{row}?from=b") for row in range(7)])
        turn()
        await w.gateway._complete(batch, w.gateway._secrets.secrets[1])
        assert len(turns) >= 3
        assert [args(each)[0] for each in batch.payloads] == [str(row) for row in range(7)]


async def test_a_batch_that_is_recalled_before_it_is_complete_comes_home_unwritten(world, monkeypatch):
    monkeypatch.setattr(safari, "AT_ONCE", 1)
    async with world() as w:
        batch = w.batch(3, [pushed(f"https://example.com/{row}?from=b") for row in range(3)])
        sending = asyncio.create_task(w.gateway.send(batch))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert batch.outcomes.tolist() == [NOT_WRITTEN.code] * 3
        assert not w.simulator.record.total


async def test_s02_a_pool_per_certificate(world):
    async with world() as w:
        await w.send(20)
        await w.send(20, site="web.org.example", credential=2, first=100)
        used = {link.key_id for link in w.simulator.record.connections}
        assert used == {secret.identity.fingerprint for secret in w.gateway._secrets.secrets.values()}
        assert len(w.gateway.pools) == 2
        # Another site's certificate is refused by Apple, and the row says so.
        assert await w.send(site=SITE, credential=2, first=200) == ["topic_not_in_certificate"]


async def test_s06_dead_tokens_and_a_revoked_certificate(world):
    async with world() as w:
        w.simulator.faults.add(Fault(action=Answer(reason="Unregistered"), tokens=[token(2)]))
        assert await w.send(3) == ["accepted", "Unregistered", "accepted"]
        revoked = w.gateway._secrets.secrets[1].identity.fingerprint
        w.simulator.tokens.revoked.add(revoked)
        w.gateway.drop_credential(1)
        assert await w.send(2, first=10) == ["BadCertificate"] * 2


async def test_s02_the_certificate_is_proven_without_a_push(world):
    async with world() as w:
        proof = await w.gateway.prove(Route(1, Kind.SAFARI, Environment.PRODUCTION, SITE), 1)
        assert proof.accepted is True
        w.simulator.tokens.revoked.add(w.gateway._secrets.secrets[1].identity.fingerprint)
        w.gateway.drop_credential(1)
        proof = await w.gateway.prove(Route(1, Kind.SAFARI, Environment.PRODUCTION, SITE), 1)
        assert proof.accepted is False


@pytest.mark.parametrize(
    ("link", "given", "url_format", "made"),
    [
        ("https://example.com/a", [], "https://example.com/%@", ["a"]),
        ("https://example.com/a", ["b"], "https://example.com/%@", ["b"]),
        ("https://example.com/a", ["b", "c"], "https://example.com/%@", None),
        (None, ["b", 1], "https://example.com/%@/%@", None),
        (None, ["b", "c"], "", ["b", "c"]),
        (None, [], "", []),
        ("https://example.com/a", [], "", None),
    ],
)
async def test_s03_url_args_of_a_message(link, given, url_format, made):
    completed = complete(pushed(link, given), url_format)
    assert (completed and args(completed)) == made
    if completed:
        assert LINK not in dict(completed.headers)


async def test_s03_what_an_override_broke_is_not_sent():
    for body in (b'{"aps":null}', b"[]", b'{"x":1}', b'{"aps":{"alert":{},"url-args":{"a":1}}}'):
        assert complete(Rendered(payload=body, headers=()), "https://example.com/") is None
