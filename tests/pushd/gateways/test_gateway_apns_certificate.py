"""The APNs gateway with certificates, against the simulator and against OpenSSL's own server where TLS refuses."""

import asyncio
import socket
import subprocess

import msgspec
import pytest

from pushd.batch import Rendered
from pushd.config import ApnsConfig
from pushd.gateways.apns import ApnsGateway
from pushd.model.credential import ApnsCertificate
from pushd.model.device import Environment, Kind, Route
from pushd.simulator.behaviour import Behaviour
from tests.mortal import mortal

from .apns_world import PATIENT, ROUTE, TOPIC, Credentials

pytestmark = pytest.mark.asyncio


def certificate(identity, *topics, **rest):
    return ApnsCertificate(p12=identity.p12(topics or (TOPIC,), "apple", **rest), password="apple")


def use(w, secret):
    w.credentials.secrets[1] = secret


async def test_a20_the_certificate_takes_the_place_of_the_token(world):
    async with world() as w:
        use(w, certificate(w.simulator.identity))
        batch = await w.send(300)
        assert w.reasons(batch) == {"accepted": 300}
        headers = dict(w.record.last(f"{1:064x}").headers)
        assert "authorization" not in headers
        assert headers["apns-topic"] == TOPIC
        (link,) = {link.key_id for link in w.record.connections}
        assert link == w.credentials.secrets[1].identity.fingerprint
        assert not w.record.violations


async def test_a60_a_certificate_need_not_wait_for_its_first_answer(world):
    async with world(Behaviour(latency_ms=150), transactional_links=1, bulk_links=1) as w:
        use(w, certificate(w.simulator.identity))
        assert w.reasons(await w.send(200)) == {"accepted": 200}
        assert max(link.open_streams_peak for link in w.record.connections) > 100


async def test_a21_a_topic_that_the_certificate_does_not_list_is_not_tried(world):
    voip = Rendered(payload=b'{"aps":{}}', headers=(("apns-push-type", "voip"), ("apns-priority", "10")))
    route = Route(1, Kind.APNS_VOIP, Environment.PRODUCTION, TOPIC)
    async with world() as w:
        use(w, certificate(w.simulator.identity))
        batch = await w.send(3, payloads=voip, route=route)
        assert w.reasons(batch) == {"topic_not_in_certificate": 3}
        assert not w.record.total
        w.gateway.drop_credential(1)
        use(w, certificate(w.simulator.identity, TOPIC, f"{TOPIC}.voip"))
        assert w.reasons(await w.send(3, payloads=voip, route=route)) == {"accepted": 3}


async def test_a06_a_revoked_certificate_and_one_of_the_other_environment_hold_the_credential(world):
    async with world() as w:
        secret = certificate(w.simulator.identity)
        use(w, secret)
        w.simulator.tokens.revoked.add(secret.identity.fingerprint)
        assert w.reasons(await w.send(5)) == {"BadCertificate": 5}
        use(w, certificate(w.simulator.identity, environments=[Environment.SANDBOX]))
        w.gateway.drop_credential(1)
        assert w.reasons(await w.send(5)) == {"BadCertificateEnvironment": 5}


async def test_a25_nothing_is_sent_with_an_expired_certificate(world):
    async with world() as w:
        use(w, certificate(w.simulator.identity, days_valid=2))
        assert w.reasons(await w.send(2)) == {"accepted": 2}
        w.clock.wall_s += 3 * 86_400
        assert w.reasons(await w.send(2)) == {"certificate_expired": 2}
        assert (await w.gateway.prove(ROUTE, 1)) == (False, "certificate_expired")


async def test_a20_a_certificate_that_cannot_be_opened_is_no_credential(world):
    async with world() as w:
        use(w, msgspec.structs.replace(certificate(w.simulator.identity), password="pear"))
        assert w.reasons(await w.send(2)) == {"no_credential": 2}


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a24_x18_a_certificate_that_tls_refuses_is_the_credentials_fault(world, tmp_path, version):
    """The server knows another CA: under TLS 1.3 its alert comes after the handshake."""
    async with world() as w:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        directory = w.simulator.identity.directory
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                "k",
                "-out",
                "other",
                "-subj",
                "/CN=x",
            ],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        server = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", directory / "server.pem"]
        server += ["-key", directory / "server.pem", "-CAfile", tmp_path / "other", "-alpn", "h2", "-quiet", version]
        server += ["-Verify", "2", "-verify_return_error"]
        process = subprocess.Popen(
            mortal(*server), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        config = ApnsConfig(production_host="localhost", production_port=port, ca_file=str(w.simulator.ca_file))
        credentials = Credentials({1: certificate(w.simulator.identity)})
        gateway = ApnsGateway(config, PATIENT, credentials, w.clock)
        try:
            await listening(port)
            await gateway.start()
            batch = w.batch(20)
            await asyncio.wait_for(gateway.send(batch), 60)
            assert {gateway.reasons.name(code) for code in batch.outcomes.tolist()} == {"certificate_refused"}
        finally:
            await gateway.stop(0.2)
            process.terminate()
            await asyncio.to_thread(process.wait)
            process.stdin.close()


async def listening(port):
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise AssertionError("the server does not listen")
