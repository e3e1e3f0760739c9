"""APNs with a certificate, through the daemon: uploaded, proven, sent with, and refused where it cannot serve."""

import base64

import pytest

from pushd.simulator.faults import Answer
from tests.acceptance.world import BUNDLE

pytestmark = pytest.mark.asyncio(loop_scope="package")


def upload(world, *topics, environment="production", **rest):
    p12 = world.simulator.identity.p12(topics or (BUNDLE,), "apple", **rest)
    secret = {"type": "apns_certificate", "p12": base64.b64encode(p12).decode(), "password": "apple"}
    return {"secret": secret, "environment": environment, "name": "certificate"}


async def test_a20_a_certificate_sends_and_the_ledger_is_exact(world):
    tenant = await world.tenant(credential=False)
    made = await tenant.server.ok("POST", "/credentials", upload(world, BUNDLE, f"{BUNDLE}.voip"))
    assert made["gateway"] == "apns"
    assert made["summary"]["topics"] == f"{BUNDLE}, {BUNDLE}.voip"
    assert made["summary"]["type"] == "apns_certificate"
    proof = await tenant.server.ok("POST", f"/credentials/{made['id']}/test", {})
    assert proof["accepted"] is True
    tokens = await tenant.register_many(60)
    tenant.fault(Answer(reason="Unregistered"), tokens=tokens[:2])
    view = await tenant.sent()
    assert (view["counts"]["targeted"], view["counts"]["accepted"], view["counts"]["failed"]) == (60, 58, 2)
    assert sum(tenant.arrived(token) for token in tokens) == 58
    voip = await tenant.register("phone", kind="apns_voip")
    view = await tenant.sent(message={"push_type": "voip", "data": {"call": 1}})
    assert view["counts"]["accepted"] == 1
    assert tenant.arrived(voip["token"]) == 1


async def test_a21_a25_what_a_certificate_cannot_serve_is_refused_at_the_upload(world):
    tenant = await world.tenant(credential=False)
    sandbox_only = upload(world, environments=["sandbox"])
    refused = await tenant.server("POST", "/credentials", json=sandbox_only)
    assert (refused.status, refused.pointers) == (400, ["/environment"])
    expired = await tenant.server("POST", "/credentials", json=upload(world, days_valid=-1))
    assert (expired.status, expired.pointers) == (400, ["/secret"])
    wrong = upload(world)
    wrong["secret"]["password"] = "pear"
    refused = await tenant.server("POST", "/credentials", json=wrong)
    assert (refused.status, refused.pointers) == (400, ["/secret/password"])
    wrong["secret"]["p12"] = base64.b64encode(b"not a p12").decode()
    refused = await tenant.server("POST", "/credentials", json=wrong)
    assert (refused.status, refused.pointers) == (400, ["/secret/p12"])


async def test_a24_a_revoked_certificate_pauses_and_its_successor_sends_what_waited(world):
    tenant = await world.tenant(credential=False)
    made = await tenant.server.ok("POST", "/credentials", upload(world))
    world.simulator.tokens.revoked.add(made["summary"]["fingerprint"])
    device = await tenant.register("phone")
    sent = await tenant.send()
    view = await tenant.until(sent["id"], lambda view: view["counts"]["pending"] == 1)
    assert view["counts"]["failed"] == 0
    await tenant.server.ok("PUT", f"/credentials/{made['id']}", {"secret": upload(world)["secret"]})
    assert (await tenant.finished(sent["id"]))["counts"]["accepted"] == 1
    assert tenant.arrived(device["token"]) == 1
