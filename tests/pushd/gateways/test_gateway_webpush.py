"""The Web Push gateway: what it sends, to whom, over which links, and with which keys."""

import asyncio
import time

import aiohttp
import pytest
from aiohttp import web

from protocols import aes128gcm, jwt, vapid, webpush
from pushd.batch import Lane, Rendered
from pushd.cli.children import free_port
from pushd.config.webpush import WebPushConfig
from pushd.credentials import vapid_keys
from pushd.gateways.webpush import WebPushGateway
from pushd.model.credential import VapidKeys
from pushd.outcome import Outcome
from pushd.simulator.faults import Answer, Silence
from pushd.simulator.identity import Identity
from pushd.transport.resolve import Address
from tests.contract.webpush_far import address, public
from tests.mortal import mortal
from tests.npm import modules
from tests.pushd.gateways.apns_world import PATIENT, Credentials, until
from tests.pushd.gateways.webpush_world import PAYLOAD, World

pytestmark = pytest.mark.asyncio


async def test_browsers_read_what_was_sent_and_services_see_the_headers(push_world):
    async with push_world() as w:
        batch = await w.send(w.tokens(3))
        assert w.reasons(batch) == {"accepted": 3}
        assert w.plaintexts == {f"n{n}": PAYLOAD.payload for n in (1, 2, 3)}
        headers = w.service.pushes[0].headers
        assert headers["ttl"] == "0"
        assert headers["urgency"] == "high"
        assert headers["topic"] == "pushd-7"
        assert headers["content-encoding"] == "aes128gcm"
        assert headers["content-length"] == str(86 + 17 + len(PAYLOAD.payload))
        assert headers["authorization"].startswith("vapid t=")
        assert not {"encryption", "crypto-key", "cookie", "user-agent"} & set(headers)
        assert not w.service.record.violation_kinds


async def test_w30_the_endpoint_is_used_exactly_as_given(push_world):
    async with push_world() as w:
        made = w.subscriber(1)
        made.endpoint += "?token=BQYAAAB%2f%3d&x=a/b"
        await w.send([address(made)])
        assert w.service.pushes[0].headers[":path"] == "/push/n1?token=BQYAAAB%2f%3d&x=a/b"
        second = w.subscriber(2, http1=True)
        second.endpoint += "?token=BQYAAAB%2f%3d&x=a/b"
        assert w.reasons(await w.send([address(second)])) == {"accepted": 1}


async def test_w31_the_ttl_is_what_is_left_of_the_messages_life(push_world):
    async with push_world() as w:
        long = Rendered(payload=b"{}", expires_at=int(time.time()) + 10_000_000)
        short = Rendered(payload=b"{}", expires_at=int(time.time()) + 60)
        await w.send(w.tokens(2), payloads=[long, short])
        ttls = {push.name: int(push.headers["ttl"]) for push in w.service.pushes}
        assert ttls["n1"] == 2_419_200
        assert 55 <= ttls["n2"] <= 60


async def test_w05_padding_hides_the_length(push_world):
    async with push_world(padding_block_bytes=128) as w:
        payloads = [Rendered(payload=b"x" * length) for length in (1, 50, 128, 129)]
        assert w.reasons(await w.send(w.tokens(4), payloads=payloads)) == {"accepted": 4}
        lengths = {push.name: int(push.headers["content-length"]) - 103 for push in w.service.pushes}
        assert lengths == {"n1": 128, "n2": 128, "n3": 128, "n4": 256}
        assert w.plaintexts["n2"] == b"x" * 50


async def test_w07_nothing_to_say_is_sent_without_a_coding(push_world):
    async with push_world() as w:
        for http1 in (False, True):
            batch = await w.send(w.tokens(2, 10 + 10 * http1, http1=http1), payloads=Rendered(payload=b""))
            assert w.reasons(batch) == {"accepted": 2}
        assert set(w.plaintexts.values()) == {b""}
        assert all("content-encoding" not in push.headers for push in w.service.pushes)


async def test_w08_salts_and_keys_are_fresh_in_every_message(push_world):
    async with push_world(encrypt_workers=1) as w:
        bodies = []
        encrypt = w.gateway._encryptor.encrypt

        async def watch(*given):
            made, bad = await encrypt(*given)
            bodies.extend(row.tobytes() for row in made)
            return made, bad

        w.gateway._encryptor.encrypt = watch
        await w.send(w.tokens(100) * 2)
        assert len({body[:16] for body in bodies}) == len({body[21:86] for body in bodies}) == 200


async def test_w23_one_token_serves_an_origin_and_each_has_its_own(push_world):
    async with push_world(services=2) as w:
        for _ in range(3):
            await w.send([*w.tokens(40), *w.tokens(40, 100, w.services[1])])
        assert w.gateway._tokens.signed == 2
        for service in w.services:
            values = {push.headers["authorization"] for push in service.pushes}
            assert len(values) == 1
            token, _ = vapid.parse(values.pop().encode())
            assert jwt.unverified(token)[1]["aud"] == service.origin


async def test_w25_old_subscriptions_are_served_with_the_key_they_were_made_with(push_world):
    async with push_world() as w:
        old = w.tokens(5)
        rotated = vapid_keys.complete(VapidKeys(subject="mailto:push@example.com"), w.secret)
        w.credentials.secrets[1] = rotated
        new = [address(w.subscriber(n, secret=rotated)) for n in range(50, 55)]
        batch = await w.send([*old, *new])
        assert w.reasons(batch) == {"accepted": 10}
        keys = {push.name: vapid.parse(push.headers["authorization"].encode())[1] for push in w.service.pushes}
        assert {keys[f"n{n}"] for n in range(1, 6)} == {public(w.secret)}
        assert {keys[f"n{n}"] for n in range(50, 55)} == {public(rotated)}
        w.credentials.secrets[1] = vapid_keys.complete(VapidKeys(subject="mailto:push@example.com", previous=[]), None)
        assert w.reasons(await w.send(old)) == {"made_with_another_key": 5}


async def test_w40_w46_nothing_is_sent_where_the_guard_does_not_let_it(push_world):
    async with push_world() as w:
        good = w.tokens(1)[0]
        prefix = good[: webpush.ENDPOINT_AT]
        bad = [
            prefix + "https://evil.example/x",
            prefix + f"https://localhost:{w.service.port + 1}/x",
            prefix + "https://127.0.0.1/x",
            prefix + f"https://localhost@evil.example:{w.service.port}/x",
            prefix + "https://permanently-removed.invalid/x",
            prefix + "https://LOCALHOST/x",
            "nonsense",
            good[:40] + "*" + good[41:],
        ]
        batch = await w.send([*bad, good])
        assert [w.reason(batch, row) for row in range(9)] == [
            *["endpoint_not_allowed"] * 4,
            "subscription_removed",
            "endpoint_not_allowed",
            *["bad_subscription"] * 2,
            "accepted",
        ]
        assert batch.outcomes[4] == 203
        assert w.gateway.reasons.outcome(203) is Outcome.UNREGISTERED


async def test_w06_a_point_off_the_curve_ends_that_row_alone(push_world):
    async with push_world(encrypt_workers=1) as w:
        tokens = w.tokens(100)
        broken = jwt.encode(b"\x04" + b"\x01" * 64).decode() + tokens[6][webpush.P256DH_CHARS :]
        batch = await w.send([*tokens[:6], broken, *tokens[7:]])
        assert w.reasons(batch) == {"accepted": 99, "bad_subscription": 1}
        assert w.reason(batch, 6) == "bad_subscription"


class Flips:
    """A resolver whose answers change."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def resolve(self, host, port):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [Address(2, each, port) for each in answer]


async def test_x29_w43_a_name_that_leads_to_a_private_address_is_refused_over_either_protocol(push_world):
    async with push_world(networks_allowed=()) as w:
        for http1 in (False, True):
            batch = await w.send(w.tokens(3, 10 + 10 * http1, http1=http1))
            assert w.reasons(batch) == {"endpoint_not_allowed": 3}
        assert not w.service.record.connections_total
        assert not w.service.pushes


async def test_x29_answers_of_dns_that_flip(push_world):
    async with push_world(resolver=Flips(["127.0.0.1"], ["10.0.0.1"]), transport={"bulk_links": 1}) as w:
        assert w.reasons(await w.send(w.tokens(2))) == {"accepted": 2}
        w.service._open.copy().pop().end("dropped", abort=True)
        await asyncio.sleep(0.05)
        assert w.reasons(await w.send(w.tokens(2, 10))) == {"endpoint_not_allowed": 2}


async def test_x19_names_without_an_answer_and_one_dead_address_of_three(push_world):
    async with push_world(resolver=Flips(OSError("NXDOMAIN")), transport={"queue_timeout_s": 1.0}) as w:
        assert w.reasons(await w.send(w.tokens(2))) == {"no_connection": 2}
    async with push_world(resolver=Flips(["127.0.0.2", "127.0.0.1", "127.0.0.1"])) as w:
        assert w.reasons(await w.send(w.tokens(2))) == {"accepted": 2}


@pytest.mark.parametrize("http1", [False, True])
async def test_w45_a_redirect_is_not_followed(push_world, http1):
    async with push_world(services=2) as w:
        target = f"{w.services[1].origin}/push/n1"
        w.services[1].subscribe(public(w.secret), name="n1")
        for status in (301, 307, 308):
            w.service.faults.clear()
            w.fault(Answer(status=status, body=f"<a href={target}>"), 1)
            batch = await w.send(w.tokens(1, http1=http1))
            assert w.gateway.reasons.outcome(int(batch.outcomes[0])) is Outcome.REJECTED
        assert not w.services[1].record.connections_total
        assert not w.services[1].pushes


async def test_one_slow_origin_does_not_delay_another(push_world):
    async with push_world(services=2) as w:
        slow, quick = w.services
        w.fault(Silence(), service=slow)
        stuck = asyncio.create_task(w.send(w.tokens(500, 1_000, slow)))
        await until(lambda: sum(link.requests for link in slow.record.connections) > 10)
        for part in range(5):
            batch = await w.send([*w.tokens(100, 1 + 100 * part, quick)])
            assert w.reasons(batch) == {"accepted": 100}
        # What does not move counts for nobody else.
        await until(lambda: w.gateway.room(batch.route, 1, Lane.BULK) == 4_000)
        assert not stuck.done()
        stuck.cancel()


async def test_w47_a_service_that_takes_nothing_holds_few_rows(push_world):
    async with push_world(resolver=Flips(["127.0.0.9"]), transport={"queue_timeout_s": 0.3}) as w:
        first = await w.send(w.tokens(200))
        assert w.reasons(first) == {"no_connection": 200}
        second = w.batch(w.tokens(2_000, 1_000))
        sending = asyncio.create_task(w.gateway.send(second))
        await asyncio.sleep(0.25)
        assert second.pending <= 32
        await sending
        assert w.reasons(second) == {"no_connection": 2_000}


async def test_w47_links_to_a_new_service_begin_with_few_streams(push_world):
    async with push_world(transport={"bulk_links": 1, "response_timeout_s": 1.0}, streams_first=4) as w:
        w.fault(Silence())
        await w.send(w.tokens(9))
        (link, *_) = w.service.record.connections
        assert link.open_streams_peak <= 4


async def test_pools_are_bounded_and_idle_ones_make_way(push_world):
    async with push_world(services=3, pools_max=2) as w:
        for service in (*w.services, *w.services):
            batch = await w.send(w.tokens(1, 1, service))
            assert w.reasons(batch) in ({"accepted": 1}, {"not_written": 1})
            assert w.gateway.ways <= 2
            for connection in list(service._open):
                connection.end("idle")
            await asyncio.sleep(0.02)
        assert sum(w.accepted.values()) >= 5


async def test_lanes_have_links_of_their_own(push_world):
    async with push_world(transport={"bulk_links": 1}) as w:
        await w.send(w.tokens(5))
        await w.send(w.tokens(5, 10), lane=Lane.TRANSACTIONAL)
        assert w.service.record.connections_total == 2


async def test_w34_a_service_without_http_2_is_asked_once_and_served_over_http_1_1(push_world):
    async with push_world(http1_connections=3) as w:
        batch = await w.send(w.tokens(60, http1=True))
        assert w.reasons(batch) == {"accepted": 60}
        assert {push.protocol for push in w.service.pushes} == {"http/1.1"}
        (origin,) = [each for each in w.gateway._origins.values() if each.target.port == w.service.http1_port]
        until = origin.http1_until
        assert until
        mixed = await w.send([*w.tokens(5, 100, http1=True), *w.tokens(5, 200)])
        assert w.reasons(mixed) == {"accepted": 10}
        assert origin.http1_until == until
        assert set(w.plaintexts.values()) == {PAYLOAD.payload}


async def test_w34_requests_over_http_1_1_are_not_pipelined(tmp_path):
    early = connections = 0

    async def serve(reader, writer):
        nonlocal early, connections
        connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                await asyncio.sleep(0.01)
                early += len(reader._buffer)
                writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    identity = Identity(tmp_path / "identity")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=identity.tls(("http/1.1",)))
    port = server.sockets[0].getsockname()[1]
    config = WebPushConfig(
        hosts_added=(f"localhost:{port}",),
        networks_allowed=("127.0.0.0/8", "::1/128"),
        ca_file=str(identity.ca_file),
        http1_connections=2,
    )
    secret = vapid_keys.complete(VapidKeys(subject="mailto:push@example.com"), None)
    gateway = WebPushGateway(config, PATIENT, Credentials({1: secret}))
    await gateway.start()
    browser = jwt.encode(aes128gcm.new_pair().public).decode(), jwt.encode(bytes(16)).decode()
    tokens = [webpush.address(f"https://localhost:{port}/push/{n}", *browser) for n in range(40)]
    batch = World.batch(None, tokens)
    await asyncio.wait_for(gateway.send(batch), 60)
    await gateway.stop(0.3)
    server.close()
    assert set(batch.outcomes.tolist()) == {1}
    assert early == 0
    assert connections <= 4, "two that served, and those that asked for HTTP/2 first"


async def test_a_way_that_is_given_up_closes_what_it_has(push_world):
    async with push_world() as w:
        await w.send([*w.tokens(3, http1=True), *w.tokens(3, 10)])
        ways = list(w.gateway._ways.values())
        assert len(ways) == 2
        w.gateway.drop_credential(1)
        async with asyncio.timeout(60):
            while not all(way.idle and (way._http1 is None or way._http1._session is None) for way in ways):
                await asyncio.sleep(0.01)
        assert w.reasons(await w.send(w.tokens(3, 20, http1=True))) == {"accepted": 3}


async def test_a_credential_that_is_replaced_signs_with_the_new_key(push_world):
    async with push_world() as w:
        await w.send(w.tokens(1))
        other = vapid_keys.complete(VapidKeys(subject="mailto:push@example.com"), None)
        w.credentials.secrets[1] = other
        w.gateway.drop_credential(1)
        assert w.reasons(await w.send([address(w.subscriber(5, secret=other))])) == {"accepted": 1}
        proof = await w.gateway.prove(w.batch([]).route, 1)
        assert proof.accepted is None
        assert (await w.gateway.prove(w.batch([]).route, 9)).accepted is False


class NpmService:
    """The npm package `web-push-testing`, which nobody here wrote, behind TLS: it checks VAPID and decrypts."""

    SCRIPT = """
        const Server = require('web-push-testing/src/server.js')
        const { PushApiModel } = require('web-push-testing/src/PushApiModel.js')
        new Server(new PushApiModel(), Number(process.argv[1])).startServer()
    """

    def __init__(self, identity):
        self.identity = identity

    async def __aenter__(self):
        self.inside = free_port()
        home = modules("web-push-testing@1.2.2")
        self.node = await asyncio.create_subprocess_exec(
            *mortal("node", "-e", self.SCRIPT, self.inside), cwd=home, stdout=asyncio.subprocess.PIPE
        )
        self.client = aiohttp.ClientSession(f"http://127.0.0.1:{self.inside}")
        assert b"running" in await asyncio.wait_for(self.node.stdout.readline(), 60)
        app = web.Application()
        app.router.add_post("/{path:.*}", self.relay)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=self.identity.tls(("http/1.1",))).start()
        self.port = self.runner.addresses[0][1]
        return self

    async def relay(self, request):
        async with self.client.post(request.path_qs, data=await request.read(), headers=request.headers) as answer:
            return web.Response(status=answer.status, body=await answer.read())

    async def ask(self, path, **data):
        async with self.client.post(path, json=data) as answer:
            assert answer.status == 200
            return (await answer.json())["data"]

    async def __aexit__(self, *_):
        await self.runner.cleanup()
        await self.client.close()
        self.node.terminate()
        await self.node.wait()


async def test_the_whole_of_npms_push_service_takes_what_we_send(tmp_path):
    async with NpmService(Identity(tmp_path / "identity")) as far:
        secret = vapid_keys.complete(VapidKeys(subject="mailto:push@example.com"), None)
        key = vapid.public_text(vapid.load_private(secret.private_key).public_key())
        config = WebPushConfig(
            hosts_added=(f"localhost:{far.port}",),
            networks_allowed=("127.0.0.0/8", "::1/128"),
            ca_file=str(far.identity.ca_file),
            padding_block_bytes=64,
        )
        gateway = WebPushGateway(config, PATIENT, Credentials({1: secret}))
        await gateway.start()
        made = [await far.ask("/subscribe", userVisibleOnly="true", applicationServerKey=key) for _ in range(5)]
        tokens = []
        for each in made:
            endpoint = each["endpoint"].replace(f"http://localhost:{far.inside}", f"https://localhost:{far.port}")
            tokens.append(webpush.address(endpoint, each["keys"]["p256dh"], each["keys"]["auth"]))
        batch = World.batch(None, tokens)
        await asyncio.wait_for(gateway.send(batch), 60)
        await gateway.stop(0.3)
        assert set(batch.outcomes.tolist()) == {1}
        for each in made:
            read = await far.ask("/get-notifications", clientHash=each["clientHash"])
            assert [message.encode() for message in read["messages"]] == [PAYLOAD.payload]
