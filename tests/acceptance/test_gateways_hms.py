"""HMS through the daemon: registered, proven, sent, and the ledger exact to the row."""

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from pushd.config import HmsConfig
from pushd.gateways.hms import HmsGateway
from pushd.model.device import GatewayName
from pushd.simulator.hms import HmsSimulator

pytestmark = pytest.mark.asyncio(loop_scope="package")


@asynccontextmanager
async def huawei(world):
    """A local Huawei behind the running daemon."""
    simulator = HmsSimulator(world.simulator.identity)
    await simulator.start()
    daemon = world.daemon
    config = msgspec.structs.replace(
        HmsConfig(),
        host="localhost",
        port=simulator.port,
        oauth_host="localhost",
        oauth_port=simulator.port,
        ca_file=str(world.simulator.ca_file),
    )
    gateway = HmsGateway(config, daemon.config.transport, daemon.keyring, daemon.clock)
    await gateway.start()
    usual, daemon.gateways[GatewayName.HMS] = daemon.gateways[GatewayName.HMS], gateway
    try:
        yield simulator
    finally:
        daemon.gateways[GatewayName.HMS] = usual
        await gateway.stop(1.0)
        await simulator.stop()
        assert not simulator.violations


def upload(simulator, **more):
    ((client_id, client_secret),) = simulator.clients.items()
    secret = {"type": "hms_client", "client_id": client_id, "client_secret": client_secret, **more}
    return {"secret": secret, "name": "huawei"}


async def register(tenant, number):
    token = f"IQAAAA{tenant.app_id}_{number:06d}"
    body = {"install_id": f"phone-{number}", "kind": "hms", "token": token, "bundle": "com.example.orchard"}
    return await tenant.server.ok("PUT", "/devices", body) | {"token": token}


async def test_h04_h06_a_broadcast_is_one_request_and_dead_tokens_end_alone(world):
    tenant = await world.tenant(credential=False)
    async with huawei(world) as simulator:
        made = await tenant.server.ok("POST", "/credentials", upload(simulator))
        assert made["summary"] == {"type": "hms_client", "client_id": "100000001"}
        proof = await tenant.server.ok("POST", f"/credentials/{made['id']}/test", {})
        assert proof["accepted"] is True
        phones = [await register(tenant, number) for number in range(40)]
        await asyncio.sleep(1.2)  # a token is not ended within a second of its registration: clocks differ
        simulator.unregistered |= {phones[3]["token"], phones[30]["token"]}
        view = await tenant.sent(message={"title": "Harvest", "body": "Apples"})
        assert (view["counts"]["targeted"], view["counts"]["accepted"], view["counts"]["failed"]) == (40, 38, 2)
        assert [(row["reason"], row["count"]) for row in view["reasons"] if row["outcome"] == "unregistered"] == [
            ("illegal_token", 2)
        ]
        assert sum(simulator.arrived.values()) == 38
        assert len(simulator.requests) == 1
        view = await tenant.sent(message={"title": "Again"})
        assert (view["counts"]["targeted"], view["counts"]["accepted"]) == (38, 38)


async def test_g07_a_wrong_secret_pauses_and_the_right_one_sends_what_waited(world):
    tenant = await world.tenant(credential=False)
    async with huawei(world) as simulator:
        made = await tenant.server.ok("POST", "/credentials", upload(simulator, client_secret="wrong"))
        phone = await register(tenant, 1)
        sent = await tenant.send()
        view = await tenant.until(sent["id"], lambda view: view["counts"]["pending"] == 1)
        assert view["counts"]["failed"] == 0
        await tenant.server.ok("PUT", f"/credentials/{made['id']}", {"secret": upload(simulator)["secret"]})
        assert (await tenant.finished(sent["id"]))["counts"]["accepted"] == 1
        assert simulator.arrived[phone["token"]] == 1


async def test_h05_what_hms_cannot_hold_is_refused_before_accepting(world):
    tenant = await world.tenant(credential=False)
    async with huawei(world) as simulator:
        await tenant.server.ok("POST", "/credentials", upload(simulator))
        body = {"audience": {"type": "broadcast"}, "message": {"title": "a", "data": {"x": "y" * 4_050}}}
        refused = await tenant.server("POST", "/notifications", json=body)
        assert (refused.status, refused.pointers) == (400, ["/message/data"])
        token = {"install_id": "x", "kind": "hms", "token": 'a"b'}
        refused = await tenant.server("PUT", "/devices", json=token)
        assert (refused.status, refused.pointers) == (400, ["/token"])
